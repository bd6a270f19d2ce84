"""Ctrl-C and SIGTERM at the real command, in the embedded world with small settings."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.test_zoo import ROOT, SMALL
from tests.pipelines.compose import config

pytestmark = pytest.mark.slow


def _of_group(group: int) -> list[int]:
    """Return the processes of a group that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, member = stat.read_text().rsplit(")", 1)[1].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(member) == group and state != "Z":
            found.append(int(stat.parent.name))
    return found


def _trains(outputs: Path) -> bool:
    """Return whether the base model has made its first step."""
    notes = [note.read_text() for note in outputs.glob("unfinished/base/*/progress.json")]
    return any(note and json.loads(note)["done"] > 0 for note in notes)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the processes there are from /proc")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_ends_its_workers_and_blames_no_stage(
    tmp_path: Path, number: signal.Signals, code: int, workers: int
) -> None:
    arguments = [*SMALL, "base.steps=400", f"outputs.dir={tmp_path}", f"compute.workers={workers}", "logger=none"]
    process = subprocess.Popen(
        [sys.executable, "run.py", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not _trains(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    sent = time.monotonic()
    # As a terminal does: every process of the group gets the signal.
    os.killpg(process.pid, number)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == code, printed
    assert time.monotonic() - sent < config().compute.save_seconds, "no worker had to be killed"
    assert "stopped what was done is kept" in printed
    assert "Traceback" not in printed
    assert _of_group(process.pid) == []
    assert not (tmp_path / "failures").exists()
    saved = list(tmp_path.glob("unfinished/base/*/last.ckpt"))
    assert saved or (workers == 0 and number == signal.SIGINT), "the training has saved its last step"
