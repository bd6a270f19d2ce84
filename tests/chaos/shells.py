"""The shells of a chaos test: each runs the same command, again whenever it was killed, and may be killed from here."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos import killer
from tests.chaos.ledger import RANDOM, Ledger
from tests.chaos.points import Sighting

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(__file__).resolve().parent / "site"
COMMAND = "the command, not its workers"
SCOPES = (killer.GROUP, killer.PROCESS, COMMAND)
STOP_SECONDS = 2.0
UNEXPLAINED = 3
"""After so many ends without a kill a shell gives up: something else is wrong."""


@dataclass(frozen=True)
class Ending:
    """How a command ended: its exit code, the kills since its start, and the last lines that it printed."""

    shell: int
    start: int
    code: int
    kills: int
    tail: str

    @property
    def explained(self) -> bool:
        """Whether it succeeded, or was hit: what was not hit has no reason to fail."""
        return self.code == 0 or self.kills > 0


@dataclass
class Shell:
    """One shell: the command, what is added to its environment, where its output goes."""

    index: int
    arguments: Sequence[str]
    outputs: Path
    ledger: Ledger
    seed: str
    environment: Mapping[str, str]
    process: "subprocess.Popen[bytes] | None" = None
    starts: int = 0
    finished: bool = False
    endings: list[Ending] = field(default_factory=list)

    def start(self) -> None:
        """Start the command, armed."""
        self.starts += 1
        log = self._log(self.starts)
        chaos = {
            killer.LEDGER: str(self.ledger.folder),
            killer.OUTPUTS: str(self.outputs),
            killer.SHELL: str(self.index),
            killer.START: str(self.starts),
            killer.SEED: self.seed,
            killer.HARNESS: str(os.getpgrp()),
            "PYTHONPATH": os.pathsep.join([str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        with log.open("wb") as output:
            self.process = launch(self.arguments, {**self.environment, **chaos}, output)

    def poll(self) -> None:
        """Take note of an end, and start again unless the command has done its work or fails by itself."""
        assert self.process is not None
        code = self.process.poll()
        if self.finished or code is None:
            return
        hits = [kill for kill in self.ledger.kills() if (kill["shell"], kill["start"]) == (self.index, self.starts)]
        tail = "\n".join(self._log(self.starts).read_text(errors="replace").splitlines()[-12:])
        self.endings.append(Ending(self.index, self.starts, code, len(hits), tail))
        unexplained = sum(not ending.explained for ending in self.endings)
        self.finished = code == 0 or unexplained >= UNEXPLAINED
        if not self.finished:
            self.start()

    def kill_at_random(self, chance: random.Random) -> bool:
        """Stop everything for a moment, see whether it holds a stage, and if so kill some of it; return whether."""
        if self.finished or self.process is None or self.process.poll() is not None:
            return False
        group = self.process.pid
        _signal(group, signal.SIGSTOP)
        _wait_until_stopped(group)
        held = held_by(set(members(group)), self.outputs)
        scope = chance.choice(SCOPES)
        sightings = [Sighting(RANDOM, kind, fingerprint) for _, kind, fingerprint in held]
        shell = {"shell": self.index, "start": self.starts, "scope": scope}
        killed = self.ledger.claim_random(sightings, shell)
        if killed and scope == killer.GROUP:
            _signal(group, signal.SIGKILL)
        elif killed:
            os.kill(group if scope == COMMAND else held[0][0], signal.SIGKILL)
        _signal(group, signal.SIGCONT)
        return killed

    def end(self) -> None:
        """Kill whatever is left."""
        if self.process is not None:
            _signal(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _log(self, start: int) -> Path:
        return self.ledger.folder / f"shell_{self.index}_start_{start:03d}.txt"


def launch(arguments: Sequence[str], environment: Mapping[str, str], output: Any) -> "subprocess.Popen[bytes]":
    """Start `python run.py` with arguments as the leader of a new group of processes."""
    return subprocess.Popen(
        [sys.executable, "run.py", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def held_by(processes: set[int], outputs: Path) -> list[tuple[int, str, str]]:
    """Return (process, stage kind, fingerprint) of the stages that some processes hold, by the locks' owner files."""
    held = []
    for path in sorted(outputs.glob("locks/*.lock.owner.json")):
        try:
            owner = int(json.loads(path.read_text())["pid"])
        except (FileNotFoundError, ValueError, KeyError):
            continue
        kind, _, fingerprint = path.name.partition(".")[0].rpartition("-")
        if owner in processes:
            held.append((owner, kind, fingerprint))
    return held


def members(group: int) -> list[int]:
    """Return the processes of a group that have not ended."""
    return [process for process, state in _states(group).items() if state != "Z"]


def armed(ledger: Path) -> list[int]:
    """Return the processes that were started, by whomever, with the environment of a ledger."""
    mark = f"{killer.LEDGER}={ledger}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue  # it has ended, or is another user's
    return found


def _states(group: int) -> dict[int, str]:
    states = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, member = path.read_text().rsplit(")", 1)[1].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(member) == group:
            states[int(path.parent.name)] = state
    return states


def _wait_until_stopped(group: int) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline and not set(_states(group).values()) <= {"T", "t", "Z"}:
        time.sleep(0.005)


def _signal(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return  # everything has ended by itself
