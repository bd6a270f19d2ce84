"""An artifact is there completely or not at all, whoever is killed and whoever is faster."""

import errno
import math
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salsa.store.artifact import Store
from tests.store.artifacts import FP, OTHER, publish, written

ROOT = Path(__file__).parents[2]

# Publishes, but kills itself just before the n-th call that reaches for the disk.
PUBLISH_AND_DIE = """
import os, shutil, signal, sys
from salsa.store.artifact import Store
left = int(sys.argv[3])
def fatal(call):
    def wrapped(*arguments, **options):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return call(*arguments, **options)
    return wrapped
store = Store(sys.argv[1])
(store.unfinished("sft", sys.argv[2]) / "last.ckpt").write_text("half")
folder = store.temporary("sft", sys.argv[2])
(folder / "model").mkdir()
(folder / "model" / "weights").write_text("w" * 1000)
(folder / "metrics.jsonl").write_text("{}")
for module, name in ((os, "fsync"), (os, "rename"), (os, "chmod"), (shutil, "rmtree")):
    setattr(module, name, fatal(getattr(module, name)))
store.publish("sft", sys.argv[2], folder, {"stage": "sft", "metrics": {"loss": 1.0}})
"""

# Follows the protocol over many stages, in step with a rival, and notes what it computed.
WORK = """
import sys
from salsa.store.artifact import Store
from salsa.store.lock import StageLock
store, log = Store(sys.argv[1]), open(sys.argv[2], "a", buffering=1)
print("ready", flush=True)
sys.stdin.readline()
for number in range(60):
    fingerprint = f"{number:064x}"
    while store.find("sft", fingerprint) is None:
        lock = StageLock(store.lock_path("sft", fingerprint))
        if not lock.try_acquire():
            continue
        with lock:
            if store.find("sft", fingerprint) is None:
                log.write(fingerprint + "\\n")
                folder = store.temporary("sft", fingerprint)
                (folder / "result").write_text(fingerprint)
                store.publish("sft", fingerprint, folder, {})
"""


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):o}"


def test_the_first_publication_stays_and_the_second_returns_it(store: Store) -> None:
    first = store.publish("sft", FP, written(store, {"result": "first"}), {"metrics": {"by": 1}})
    late = written(store, {"result": "second"})
    second = store.publish("sft", FP, late, {"metrics": {"by": 2}})
    assert second == first
    assert second.metrics == {"by": 1}
    assert (second.path / "result").read_text() == "first"
    assert not late.exists()


def test_a_rival_that_publishes_between_check_and_rename_wins(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rename, late = os.rename, written(store, {"result": "late"})

    def overtaken(source: Path, target: Path) -> None:
        monkeypatch.undo()
        store.publish("sft", FP, written(store, {"result": "rival"}), {})
        rename(source, target)

    monkeypatch.setattr(os, "rename", overtaken)
    artifact = store.publish("sft", FP, late, {})
    assert (artifact.path / "result").read_text() == "rival"
    assert artifact.verify() == []
    assert list((store.root / "temporary").iterdir()) == []


def test_many_that_publish_at_once_without_a_lock_agree_on_one(store: Store) -> None:
    barrier = threading.Barrier(8)

    def one(number: int) -> str:
        folder = written(store, {"result": str(number), "again": str(number)})
        barrier.wait(10)
        artifact = store.publish("sft", FP, folder, {"metrics": {"by": number}})
        return (artifact.path / "result").read_text()

    with ThreadPoolExecutor(8) as pool:
        results = set(pool.map(one, range(8)))
    assert len(results) == 1
    artifact = store.find("sft", FP)
    assert artifact is not None
    assert {str(artifact.metrics["by"]), (artifact.path / "again").read_text()} == results
    assert artifact.verify() == []
    assert list((store.root / "temporary").iterdir()) == []


def test_a_kill_at_any_step_of_publication_leaves_all_or_nothing(tmp_path: Path) -> None:
    """Kill -9 before each call in turn; in every case the next worker finds the artifact or can publish it."""
    seen = set()
    for step in range(40):
        store = Store(tmp_path / str(step))
        command = [sys.executable, "-c", PUBLISH_AND_DIE, str(store.root), FP, str(step)]
        code = subprocess.run(command, cwd=ROOT, timeout=20).returncode
        artifact = store.find("sft", FP)
        seen.add((code, artifact is not None))
        if artifact is None:
            assert list((store.root / "store").glob("*/*")) == []
            assert (store.unfinished("sft", FP) / "last.ckpt").read_text() == "half"
            left = list((store.root / "temporary").iterdir())
            assert store.clean_temporary() == left != []
            artifact = store.publish("sft", FP, written(store, {"result": "again"}), {})
        else:
            assert (artifact.path / "model" / "weights").read_text() == "w" * 1000
            assert artifact.metrics == {"loss": 1.0}
            store.clean_temporary()
        assert artifact.verify() == []
        assert list((store.root / "temporary").iterdir()) == []
        assert not (store.root / "unfinished" / "sft" / FP).exists()
        if code == 0:
            break
    assert seen == {(-signal.SIGKILL, False), (-signal.SIGKILL, True), (0, True)}


def test_everything_is_on_the_disk_before_the_rename_and_the_name_after_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut cannot be tried here; that the calls come in the order that survives one can."""
    events: list[int | str] = []
    sync, rename = os.fsync, os.rename

    def noting_sync(descriptor: int) -> None:
        sync(descriptor)
        events.append(os.fstat(descriptor).st_ino)

    def noting_rename(source: Path, target: Path) -> None:
        rename(source, target)
        events.append("rename")

    monkeypatch.setattr(os, "fsync", noting_sync)
    monkeypatch.setattr(os, "rename", noting_rename)
    artifact = store.publish("sft", FP, written(store, {"a": "a", "b/c": "c"}), {})
    inode = {name: (artifact.path / name).stat().st_ino for name in ("a", "b/c", "manifest.json", "b", ".", "..")}
    before, after = events[: events.index("rename")], events[events.index("rename") + 1 :]
    assert set(before[:2]) == {inode["a"], inode["b/c"]}
    assert before[2] == inode["manifest.json"]
    assert set(before[3:]) == {inode["b"], inode["."]}
    assert after[0] == inode[".."]


def test_two_processes_on_one_store_compute_each_stage_once(tmp_path: Path) -> None:
    log, command = tmp_path / "log", [sys.executable, "-c", WORK, str(tmp_path / "outputs"), str(tmp_path / "log")]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    with subprocess.Popen(command, **pipes) as first, subprocess.Popen(command, **pipes) as second:
        for process in (first, second):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in (first, second):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert (first.wait(20), second.wait(20)) == (0, 0)
    stages = [f"{number:064x}" for number in range(60)]
    assert sorted(log.read_text().split()) == stages
    published = list(Store(tmp_path / "outputs").artifacts())
    assert [(artifact.path / "result").read_text() for artifact in published] == stages
    assert [artifact for artifact in published if artifact.verify()] == []


@pytest.mark.parametrize(
    ("mask", "file_mode", "folder_mode"), [(0o022, "644", "755"), (0o027, "640", "750"), (0o077, "600", "700")]
)
def test_private_files_become_as_readable_as_the_umask_allows(
    store: Store, mask: int, file_mode: str, folder_mode: str
) -> None:
    with umask(mask):
        folder = written(store, {"model/weights": "w", "run": "#!"})
        (folder / "model" / "weights").chmod(0o600)
        (folder / "model").chmod(0o700)
        folder.chmod(0o700)
        artifact = store.publish("sft", FP, folder, {})
    assert [mode(artifact.path / name) for name in ("model/weights", "manifest.json")] == [file_mode] * 2
    assert [mode(artifact.path), mode(artifact.path / "model")] == [folder_mode] * 2
    assert sorted(path.name for path in artifact.path.iterdir()) == ["manifest.json", "model", "run"]


def test_checkpoints_survive_until_publication(store: Store) -> None:
    folder = store.unfinished("sft", FP)
    (folder / "last.ckpt").write_text("half")
    assert store.unfinished("sft", FP) == folder
    assert (folder / "last.ckpt").read_text() == "half"
    kept = store.unfinished("sft", OTHER)
    publish(store)
    assert not folder.exists()
    assert kept.exists()


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"metrics": {"loss": math.nan}}, r"manifest\.metrics\.loss is nan"),
        ({"metrics": {"loss": np.float64(1)}}, r"manifest\.metrics\.loss is of type numpy\.float64"),
        ({"files": {}}, r"manifest\.files is \{\}; the store writes this key"),
        ({"kind": "reward"}, r"manifest\.kind is 'reward'"),
        ({"digest": "d"}, r"manifest\.digest is 'd'"),
    ],
)
def test_manifests_that_are_no_json_or_take_the_stores_keys_are_refused(
    store: Store, manifest: dict[str, Any], message: str
) -> None:
    folder = written(store, {"result": ""})
    with pytest.raises((TypeError, ValueError), match=message):
        store.publish("sft", FP, folder, manifest)
    assert store.find("sft", FP) is None
    assert (folder / "result").exists()


def test_folders_that_are_no_artifact_are_refused(store: Store, tmp_path: Path) -> None:
    linked = written(store, {"result": ""})
    (linked / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"link is a link or a special file"):
        store.publish("sft", FP, linked, {})
    with pytest.raises(ValueError, match=r"already holds manifest\.json"):
        store.publish("sft", FP, written(store, {"manifest.json": "{}"}), {})
    with pytest.raises(NotADirectoryError, match="no folder to publish"):
        store.publish("sft", FP, tmp_path / "missing", {})
    assert store.find("sft", FP) is None


def test_a_folder_on_another_file_system_is_an_error_that_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match=r"file system of its store.*Store\.temporary") as caught:
        publish(store)
    assert caught.value.errno == errno.EXDEV


def test_a_place_taken_by_what_has_lost_its_manifest_is_cleared_and_nothing_deleted(store: Store) -> None:
    place = store.root / "store" / "sft" / FP
    place.mkdir(parents=True)
    (place / "precious").write_text("p")
    artifact = store.publish("sft", FP, written(store, {"result": "r"}), {})
    assert artifact.verify() == []
    assert (store.root / "broken" / f"sft-{FP}-1" / "precious").read_text() == "p"
    assert "no manifest.json" in (store.root / "broken" / f"sft-{FP}-1.json").read_text()


def test_a_place_taken_by_a_file_is_cleared_too(store: Store) -> None:
    place = store.root / "store" / "sft" / FP
    place.parent.mkdir(parents=True)
    place.write_text("p")
    assert publish(store).verify() == []
    assert (store.root / "broken" / f"sft-{FP}-1").read_text() == "p"
