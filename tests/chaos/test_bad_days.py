"""Full disks, read-only disks, wrong clocks, damaged checkpoints: healed, or told in a sentence, and nothing lost."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from salsa.store.artifact import Store
from tests.chaos import comparison, shells
from tests.chaos.harness import SMALL

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="stops processes by their groups in /proc"),
]

SECONDS = 300
Mount = Callable[[Path, str], None]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `reference`, the outputs of an undisturbed command; all commands are given the same path."""
    home = tmp_path_factory.mktemp("bad_days")
    code, printed = finish(start(home))
    assert code == 0, printed
    (home / "outputs").rename(home / "reference")
    return home


@pytest.fixture
def outputs(home: Path) -> Iterator[Path]:
    folder = home / "outputs"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Put a file system in memory at a folder, with options such as size=2m; again with other options to change it."""
    mounted: list[Path] = []

    def put(folder: Path, options: str) -> None:
        folder.mkdir(exist_ok=True)
        options = f"remount,{options}" if folder in mounted else options
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
        mounted.append(folder)

    yield put
    for folder in set(mounted):
        subprocess.run(["umount", str(folder)], check=True)


def start(home: Path, *more: str, **environment: str) -> "tuple[subprocess.Popen[bytes], Path]":
    """Start the command on `home/outputs`; return it and the file with what it prints."""
    log = home / f"{time.monotonic_ns()}.txt"
    settings = [*SMALL, "policy.steps=6", "compute.checkpoint_seconds=0.1", f"outputs.dir={home / 'outputs'}"]
    disabled = {"WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as output:
        return shells.launch([*settings, *more], disabled | environment, output), log


def finish(started: "tuple[subprocess.Popen[bytes], Path]") -> tuple[int, str]:
    process, log = started
    try:
        return process.wait(timeout=SECONDS), log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def all_but_one_policy(home: Path) -> None:
    """Fill `home/outputs` with the reference, except for one PPO arm and all that depends on it."""
    artifacts = {artifact.fingerprint: artifact for artifact in Store(home / "reference").artifacts()}
    missing = {next(name for name, artifact in artifacts.items() if artifact.kind == "align")}
    while (
        more := {name for name, artifact in artifacts.items() if missing & set(artifact.manifest["inputs"].values())}
        - missing
    ):
        missing |= more
    for name in artifacts.keys() - missing:
        path = artifacts[name].path
        shutil.copytree(path, home / "outputs" / path.relative_to(home / "reference"))


def kill_in_ppo(home: Path) -> Path:
    """Start the command, kill it once PPO has a checkpoint, and return that checkpoint."""
    process, _ = start(home)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if next(home.glob("outputs/unfinished/align/*/last.ckpt"), None) is not None:
            os.killpg(process.pid, signal.SIGKILL)
            break
        time.sleep(0.005)
    process.wait()
    checkpoint = next(home.glob("outputs/unfinished/align/*/last.ckpt"), None)
    assert checkpoint is not None, "PPO was over before it could be killed"
    return checkpoint


def sentence(printed: str) -> str:
    """Return the one line that tells a failure; there must be no other, and no traceback."""
    assert "Traceback" not in printed, printed
    (told,) = [line for line in printed.splitlines() if line.startswith("error ")]
    return told


def found(home: Path) -> list[str]:
    reference, outputs = home / "reference", home / "outputs"
    return [
        *comparison.differences(reference, outputs),
        *comparison.damages(outputs),
        *comparison.left_overs(outputs),
        *comparison.blocking_locks(outputs),
    ]


def test_a_full_disk_is_named_and_with_room_the_same_command_goes_on(home: Path, outputs: Path, mount: Mount) -> None:
    """The outputs are on another file system than the code and the temporary files."""
    mount(outputs, "size=100m")
    all_but_one_policy(home)
    used = sum(path.stat().st_blocks * 512 for path in outputs.rglob("*"))
    mount(outputs, f"size={used + (1 << 20)}")
    code, printed = finish(start(home))
    assert code == 1
    assert "No space left on device" in sentence(printed)
    assert comparison.damages(outputs) == []
    mount(outputs, "size=100m")
    code, printed = finish(start(home))
    assert code == 0, printed
    assert found(home) == []


def test_a_read_only_disk_is_named_at_once(home: Path, outputs: Path, mount: Mount) -> None:
    mount(outputs, "size=100m")
    all_but_one_policy(home)
    mount(outputs, "ro")
    code, printed = finish(start(home))
    mount(outputs, "rw")
    assert code == 1
    assert "Read-only file system" in sentence(printed)
    assert comparison.damages(outputs) == []


def test_a_full_folder_for_temporary_files_does_not_stop_a_training(home: Path, outputs: Path, mount: Mount) -> None:
    all_but_one_policy(home)
    mount(home / "tmp", "size=64k")
    code, printed = finish(start(home, TMPDIR=str(home / "tmp")))
    assert code == 0, printed
    assert found(home) == []


def test_clocks_that_jump_change_nothing_but_times(home: Path, outputs: Path) -> None:
    all_but_one_policy(home)
    both = [start(home, SALSA_CHAOS_CLOCK=seed, PYTHONPATH=str(shells.SITE)) for seed in ("0", "1")]
    for code, printed in map(finish, both):
        assert code == 0, printed
    assert found(home) == []
    assert all(artifact.manifest["seconds"] >= 0 for artifact in Store(outputs).artifacts())


def test_a_damaged_checkpoint_of_ppo_is_noticed_and_costs_time_only(home: Path, outputs: Path) -> None:
    """One bit is the least; other kinds of damage are tested where checkpoints are read."""
    all_but_one_policy(home)
    checkpoint = kill_in_ppo(home)
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    code, printed = finish(start(home))
    assert code == 0, printed
    assert found(home) == []
