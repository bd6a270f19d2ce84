"""Leftovers: what killed processes leave behind and no later one needs."""

import re
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from salsa.store.activity import STAGE, states, unfinished
from salsa.store.lock import StageLock, gone

if TYPE_CHECKING:
    from salsa.store.artifact import Store

TEMPORARY = "temporary folder of a process that is gone"
CHECKPOINTS = "checkpoints of a published stage"
FAILURE = "failure note of a published stage"
ABANDONED = "checkpoints of a stage that was given up"
_PROCESS = re.compile(rf"{STAGE.pattern}-(?P<host>.+)-(?P<pid>[0-9]+)-[0-9a-f]+")


@dataclass(frozen=True)
class Leftover:
    """A file or folder that can go, and why."""

    path: Path
    what: str
    kind: str
    fingerprint: str

    @property
    def bytes(self) -> int:
        """Its size on disk; leftovers have no manifest that tells it."""
        return sum(state.st_size for state in states(self.path) if not stat.S_ISDIR(state.st_mode))


def found(store: "Store", idle_seconds: float | None = None) -> list[Leftover]:
    """Return the leftovers in a store: temporary folders of dead processes, checkpoints and failure notes of published
    stages, and checkpoints of stages that nobody has touched for `idle_seconds` (None: these are kept).

    Temporary folders of other hosts stay: whether their processes live is not known here.
    """
    return [*_temporary(store), *_published(store), *_abandoned(store, idle_seconds)]


def sweep(store: "Store", idle_seconds: float | None = None) -> list[Leftover]:
    """Remove the leftovers and return which were removed; those of stages that somebody works on stay.

    The lock matters for temporary folders, too: two containers may share a host's name but not its process numbers.
    """
    removed = []
    for leftover in found(store, idle_seconds):
        lock = StageLock(store.lock_path(leftover.kind, leftover.fingerprint))
        if not lock.try_acquire():
            continue
        with lock:
            if leftover.what in (CHECKPOINTS, FAILURE) and store.find(leftover.kind, leftover.fingerprint) is None:
                continue  # set aside since the look: a new attempt may need them
            if leftover.path.is_dir():
                shutil.rmtree(leftover.path, ignore_errors=True)
            else:
                leftover.path.unlink(missing_ok=True)
        removed.append(leftover)
    return removed


def _temporary(store: "Store") -> Iterator[Leftover]:
    for path in sorted((store.root / "temporary").glob("*")):
        name = _PROCESS.fullmatch(path.name)
        if name is not None and gone(name["host"], int(name["pid"])):
            yield Leftover(path, TEMPORARY, name["kind"], name["fingerprint"])


def _published(store: "Store") -> Iterator[Leftover]:
    for folder, what in (("unfinished", CHECKPOINTS), ("failures", FAILURE)):
        for path in sorted((store.root / folder).glob("*/*")):
            kind, fingerprint = path.parent.name, path.name.removesuffix(".json")
            if STAGE.fullmatch(f"{kind}-{fingerprint}") and store.find(kind, fingerprint) is not None:
                yield Leftover(path, what, kind, fingerprint)


def _abandoned(store: "Store", idle_seconds: float | None) -> Iterator[Leftover]:
    if idle_seconds is None:
        return
    for stage in unfinished(store):
        if time.time() - stage.changed >= idle_seconds:
            yield Leftover(stage.path, ABANDONED, stage.kind, stage.fingerprint)
