"""What all processes of a chaos test write down, and who may still be killed: a folder of JSON lines under one lock."""

import fcntl
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.chaos.points import BETWEEN_FILES, EXPORT, POINTS, WAITING, Fact, Sighting

RANDOM = "at a random time"
LIKELY, UNLIKELY = 0.7, 0.05
"""Chance to die at a point that had less, or more, than its share of kills."""
OFTEN = {EXPORT: 0.03, BETWEEN_FILES: 0.3, WAITING: 0.1}
"""What that chance is multiplied by where a stage comes by many times, so that points behind it get their kills."""
READY = 0.85
"""Share of the work after which every kill is allowed, so that some work is left for the last ones."""


@dataclass(frozen=True)
class Budget:
    """How many kills are wanted, at named points and at random times, spread over how much work.

    `weights` says what a published stage of a kind counts, so that kills are spread over work instead of time.
    """

    outputs: str
    named: int
    random: int
    weights: Mapping[str, float]
    total: float
    slack: int = 4
    """Kills that are allowed before anything is published, a source."""
    hit: Sequence[str] = ()
    """Points that had kills in earlier rounds."""

    def allowed(self, source: str) -> int:
        """Return how many kills of a source ("named" or "random") may have happened by now."""
        wanted = self.named if source == "named" else self.random
        done = sum(
            self.weights.get(kind.name, 1.0) * len(list(kind.iterdir()))
            for kind in Path(self.outputs, "store").glob("*")
        )
        return min(wanted, self.slack + int(wanted * done / (self.total * READY)))


class Ledger:
    """The folder that a chaos test is written down in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, budget: Budget) -> None:
        """Begin a round."""
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / "budget.json.new"
        draft.write_text(json.dumps(asdict(budget)))
        draft.replace(self.folder / "budget.json")

    @property
    def budget(self) -> Budget:
        """The budget of the round."""
        return Budget(**json.loads((self.folder / "budget.json").read_text()))

    def kills(self) -> list[dict[str, Any]]:
        """Return all kills in their order."""
        return self._read("kills")

    def facts(self) -> list[dict[str, Any]]:
        """Return all facts in their order."""
        return self._read("facts")

    def note(self, fact: Fact, shell: Mapping[str, Any]) -> None:
        """Write a fact down."""
        stage = {"what": fact.what, "kind": fact.kind, "fingerprint": fact.fingerprint}
        self._append("facts", stage | fact.values | dict(shell))

    def claim(self, sighting: Sighting, shell: Mapping[str, Any], chance: random.Random) -> bool:
        """Decide whether the process at a named point is to be killed, and write the kill down if so.

        A stage is killed at most once at each point; points that had few kills are likelier than others.
        """
        with self._alone():
            budget, named = self.budget, [kill for kill in self.kills() if kill["source"] == "named"]
            if len(named) >= budget.allowed("named"):
                return False
            at = [kill for kill in named if kill["point"] == sighting.point]
            hit = {*budget.hit, *(kill["point"] for kill in named)}
            missed = len(POINTS) - len(hit)
            if sighting.point in hit and budget.named - len(named) <= missed:  # the rest is for points that had none
                return False
            if sighting.fingerprint and any(kill["fingerprint"] == sighting.fingerprint for kill in at):
                return False
            share = len(named) / len(POINTS)
            if len(at) > 1.5 * share + 1:  # a process that waits is at its point ten times a second
                return False
            likely = LIKELY if len(at) <= share else UNLIKELY
            if chance.random() >= likely * OFTEN.get(sighting.point, 1.0):
                return False
            self._kill("named", sighting, shell)
            return True

    def claim_random(self, sightings: list[Sighting], shell: Mapping[str, Any]) -> bool:
        """Decide whether stopped processes that are at work on stages may be killed now, and write one kill down if so.

        Never waits: one of them may have been stopped while it was alone with the ledger.
        """
        with self._alone(fcntl.LOCK_NB) as alone:
            if not alone:
                return False
            done = sum(kill["source"] == "random" for kill in self.kills())
            if not sightings or done >= self.budget.allowed("random"):
                return False
            self._kill("random", sightings[0], dict(shell) | {"also": [other.fingerprint for other in sightings[1:]]})
            return True

    def exhausted(self) -> bool:
        """Return whether all kills of the round have happened."""
        kinds = Counter(kill["source"] for kill in self.kills())
        return kinds["named"] >= self.budget.named and kinds["random"] >= self.budget.random

    def _kill(self, source: str, sighting: Sighting, shell: Mapping[str, Any]) -> None:
        what = {"point": sighting.point, "kind": sighting.kind, "fingerprint": sighting.fingerprint}
        self._append("kills", {"source": source} | what | {"path": sighting.path} | dict(shell))

    def _append(self, name: str, values: Mapping[str, Any]) -> None:
        line = json.dumps({"time": time.time(), "pid": os.getpid()} | dict(values)) + "\n"
        descriptor = os.open(self.folder / f"{name}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, line.encode())
            if name == "kills":
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _read(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / f"{name}.jsonl"
        if not path.exists():
            return []
        # Whoever is killed from outside while it writes leaves a line without its end.
        return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if _whole(line)]

    @contextmanager
    def _alone(self, how: int = 0) -> Iterator[bool]:
        """Keep the others from deciding; yields False if that was not to be had without waiting."""
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | how)
        except BlockingIOError:
            yield False
        else:
            yield True
        finally:
            os.close(descriptor)


def _whole(line: str) -> bool:
    try:
        return line.endswith("\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False
