"""What a command costs from outside: its wall time with start-up, and the anonymous memory of its process."""

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.environment import ROOT, PeerError

_SAMPLE_SECONDS = 0.005


@dataclass(frozen=True)
class Cost:
    """Wall seconds from start to end, and the most anonymous memory (MiB) that was seen; 0 where it was not watched."""

    seconds: float
    anonymous_mib: float


def cost(command: Sequence[object], *, watched: bool = False) -> Cost:
    """Run a command without network and return its cost.

    Memory is sampled every few milliseconds only if `watched`, because that takes time from the command. It is the
    memory that no file stands behind (RssAnon of Linux): what is mapped from files the system can drop.

    Raises:
        PeerError: if the command fails; the message ends with what it said.
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    words = [str(word) for word in command]
    started, highest = time.perf_counter(), 0.0
    with tempfile.TemporaryFile("w+") as said:
        with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=said, stderr=said) as process:
            while watched and process.poll() is None:
                highest = max(highest, _anonymous(process.pid))
                time.sleep(_SAMPLE_SECONDS)
            process.wait()
            seconds = time.perf_counter() - started
        if process.returncode:
            said.seek(0)
            text = said.read()[-4000:]
            raise PeerError(f"{' '.join(words)} ended with code {process.returncode}:\n{text}")
    return Cost(seconds, highest)


def _anonymous(process: int) -> float:
    """Return a process's anonymous memory in MiB; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon:")), 0.0)
