"""Signals at a sweep under a launcher: the command's own, and those by which a cluster takes a job's machine away."""

import json
import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launchers.commands import ENVIRONMENT, ROOT, logs, multirun, stored, table
from tests.launchers.conftest import First

STEPS = 25
MARK = "LAUNCHED_BY_TEST"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds a command's processes in /proc"),
]


@pytest.fixture
def outputs(first: First) -> Path:
    """A store in which only policies are missing."""
    folder, done = first
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Command:
    """A sweep of one job that is at work, and all processes that it has started."""

    def __init__(self, launcher: str, outputs: Path, *arguments: str) -> None:
        self._mark = uuid.uuid4().hex
        self._notes = outputs / "unfinished" / "align"
        self._earlier = set(self._notes.glob("*/progress.json"))
        self.process = subprocess.Popen(
            multirun(launcher, outputs, f"policy.steps={STEPS}", f"policy.trace_every={STEPS}", *arguments),
            cwd=ROOT,
            env={**ENVIRONMENT, MARK: self._mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def processes(self, containing: str = "") -> list[int]:
        """Return those that have not ended, and whose command line contains that."""
        return [pid for pid in self._marked() if containing in _read(f"/proc/{pid}/cmdline").replace("\0", " ")]

    def wait_until_it_trains(self) -> None:
        """Return when a policy has made two steps."""
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self.process.poll() is None:
            notes = [note.read_text() for note in set(self._notes.glob("*/progress.json")) - self._earlier]
            if any(note and json.loads(note)["done"] >= 2 for note in notes):
                return
            time.sleep(0.05)
        pytest.fail(f"no policy was trained: {self.process.communicate(timeout=5)[0]}")

    def wait_until_all_have_ended(self) -> None:
        """Return when none of its processes is left; workers may take ten seconds to save."""
        deadline = time.monotonic() + 25
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left, [_read(f"/proc/{pid}/cmdline").replace("\0", " ") for pid in left]

    def _marked(self) -> Iterator[int]:
        for folder in Path("/proc").glob("[0-9]*"):
            if f"{MARK}={self._mark}" in _read(f"{folder}/environ"):
                yield int(folder.name)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except (OSError, ProcessLookupError):
        return ""


def interrupted_after(outputs: Path) -> list[int]:
    """Return the steps after which the worker of the latest command's job has ended a training in order."""
    log = (logs(outputs) / "0" / "worker_1.log").read_text()
    return [int(step) for step in re.findall(rf"interrupted after (\d+) of {STEPS} steps", log)]


@pytest.mark.parametrize(
    ("launcher", "kl_coef", "code", "ends_in_order"),
    # joblib kills what it has started; Ray is told of SIGTERM as of Ctrl-C.
    [("joblib", 0.11, 143, False), ("ray", 0.12, 130, True), ("submitit_local", 0.13, 143, True)],
)
def test_a_stopped_sweep_leaves_no_process(
    outputs: Path, launcher: str, kl_coef: float, code: int, ends_in_order: bool
) -> None:
    failures = set(outputs.glob("failures/*/*"))
    command = Command(launcher, outputs, f"policy.kl_coef={kl_coef}")
    command.wait_until_it_trains()
    command.process.send_signal(signal.SIGTERM)
    printed, _ = command.process.communicate(timeout=180)
    assert command.process.returncode == code, printed
    assert "stopped what was done is kept" in printed
    command.wait_until_all_have_ended()
    assert bool(interrupted_after(outputs)) is ends_in_order
    assert set(outputs.glob("failures/*/*")) == failures


def test_a_job_that_is_taken_off_its_machine_is_queued_again_and_goes_on(outputs: Path) -> None:
    """SIGUSR2 is what Slurm sends to all processes of a job before its time is over, or when it is pre-empted."""
    before = stored(outputs)
    command = Command("submitit_local", outputs, "policy.kl_coef=.14")
    command.wait_until_it_trains()
    for pid in [*command.processes("submitit.core._submit"), *command.processes("pipelines.worker")]:
        os.kill(pid, signal.SIGUSR2)
    printed, _ = command.process.communicate(timeout=180)
    assert command.process.returncode == 0, printed
    (path,) = logs(outputs).glob(".submitit/*/*_log.out")
    said = path.read_text()
    assert said.count("Starting with JobEnvironment") == 2
    assert "Requeued job" in said
    (steps,) = interrupted_after(outputs)
    assert 2 <= steps < STEPS
    assert stored(outputs) > before
    assert "1 of 1 experiments" in table(outputs, printed)
