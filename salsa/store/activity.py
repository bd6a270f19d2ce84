"""What is being worked on in a store, and what was begun and not finished."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salsa.store.lock import StageLock

if TYPE_CHECKING:
    from salsa.store.artifact import Store

STAGE = re.compile(r"(?P<kind>[a-z][a-z0-9_-]*)-(?P<fingerprint>[0-9a-f]{64})")
"""How files and folders that belong to a stage begin, where its kind is no folder."""


@dataclass(frozen=True)
class Running:
    """A stage whose lock is held, and by whom (None: the holder has not said yet)."""

    kind: str
    fingerprint: str
    owner: Mapping[str, Any] | None

    def __str__(self) -> str:
        who = f"process {self.owner['pid']} on {self.owner['host']}" if self.owner else "another process"
        return f"{self.kind} {self.fingerprint[:16]} is being worked on by {who}"


@dataclass(frozen=True)
class Unfinished:
    """A stage that was begun and is not published; `inputs` is None where no attempt noted what it reads."""

    kind: str
    fingerprint: str
    path: Path
    name: str
    inputs: Mapping[str, str] | None

    @property
    def changed(self) -> float:
        """When anything in its folder last changed, in seconds since 1970."""
        return max((state.st_mtime for state in states(self.path)), default=0.0)


def states(path: Path) -> Iterator[os.stat_result]:
    """Iterate over the states of a file or folder and of everything in it, but for what vanishes meanwhile."""
    for each in (path, *path.rglob("*")):
        with suppress(FileNotFoundError):
            yield each.lstat()


def holder(store: "Store", kind: str, fingerprint: str) -> Running | None:
    """Return who works on a stage, or None if nobody does; asks by trying the lock, for a moment."""
    lock = StageLock(store.lock_path(kind, fingerprint))
    if not lock.path.exists():
        return None
    if lock.try_acquire():
        lock.release()
        return None
    return Running(kind, fingerprint, lock.owner())


def running(store: "Store") -> list[Running]:
    """Return the stages that are being worked on."""
    found = []
    for note in sorted((store.root / "locks").glob("*.lock.owner.json")):
        stage = STAGE.fullmatch(note.name.removesuffix(".lock.owner.json"))
        held = stage and holder(store, stage["kind"], stage["fingerprint"])
        if held:
            found.append(held)
    return found


def unfinished(store: "Store") -> Iterator[Unfinished]:
    """Iterate over the stages that were begun and are not published, ordered by kind and fingerprint."""
    for path in sorted((store.root / "unfinished").glob("*/*")):
        kind, fingerprint = path.parent.name, path.name
        if not STAGE.fullmatch(f"{kind}-{fingerprint}") or store.find(kind, fingerprint) is not None:
            continue
        name, inputs = kind, None
        for attempt in store.attempts(kind, fingerprint):
            noted = attempt.get("inputs")
            name = str(attempt.get("name", name))
            if isinstance(noted, dict) and all(isinstance(identity, str) for identity in noted.values()):
                inputs = noted
        yield Unfinished(kind, fingerprint, path, name, inputs)
