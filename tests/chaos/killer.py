"""Kills the process that it is loaded into, with SIGKILL, at named points of its work on an outputs folder."""

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.chaos.ledger import Ledger
from tests.chaos.points import Fact, Torn, Watcher

LEDGER, OUTPUTS, SHELL, START, SEED, HARNESS = (
    f"SALSA_CHAOS_{name}" for name in ("LEDGER", "OUTPUTS", "SHELL", "START", "SEED", "HARNESS")
)
GROUP, PROCESS = "its command and all its workers", "one process"
STAND_IN = b'{"step": 12345, "loss": 1.2345, "'
CUT = 0.5
"""Chance that a log loses lines that were not synced, as in a power cut, instead of getting half a line."""


class Killer:
    """Watches one process."""

    def __init__(self, ledger: Ledger, outputs: Path, shell: dict[str, Any], seed: str) -> None:
        self._ledger, self._shell = ledger, shell
        self._watcher = Watcher(outputs)
        self._chance = random.Random(seed)
        self._thread = threading.get_ident()
        self._busy = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Answer an audit event of the thread that works; those that this answer itself causes are let pass."""
        if self._busy or threading.get_ident() != self._thread:
            return
        self._busy = True
        try:
            for report in self._watcher.see(event, arguments):
                if isinstance(report, Fact):
                    self._ledger.note(report, self._shell)
                    continue
                scope = self._chance.choice((GROUP, PROCESS))
                if self._ledger.claim(report, self._shell | {"scope": scope}, self._chance):
                    if report.torn is not None:
                        tear(report.torn, self._chance)
                    die(scope)
        finally:
            self._busy = False


def tear(torn: Torn, chance: random.Random) -> None:
    """Leave a file as a kill, or for a log a power cut, in the middle of the next write would leave it."""
    if torn.appends:
        content = torn.path.read_bytes() if torn.path.exists() else b""
        if torn.durable is not None and len(content) > torn.durable and chance.random() < CUT:
            os.truncate(torn.path, chance.randrange(torn.durable, len(content)))
            return
        line = content.splitlines(keepends=True)[-1] if content else STAND_IN
        _write(torn.path, line[: len(line) // 2] or STAND_IN, os.O_APPEND)
        return
    like = torn.like if torn.like is not None and torn.like.exists() else torn.path
    content = like.read_bytes() if like.exists() else b""
    _write(torn.path, content[: len(content) // 2] or STAND_IN, os.O_TRUNC)


def die(scope: str) -> None:
    """End this process, or its whole group, at once; never the group of whoever runs the test."""
    if scope == GROUP and os.getpgrp() != int(os.environ[HARNESS]):
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # the signal is on its way; nothing may be done before it arrives


def install() -> None:
    """Arm this process as its environment says."""
    environment = os.environ
    shell = {"shell": int(environment[SHELL]), "start": int(environment[START])}
    seed = f"{environment[SEED]}-{shell['shell']}-{shell['start']}-{os.getpid()}"
    killer = Killer(Ledger(Path(environment[LEDGER])), Path(environment[OUTPUTS]), shell, seed)
    sys.addaudithook(killer)


def _write(path: Path, content: bytes, how: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o644)
    os.write(descriptor, content)
    os.close(descriptor)
