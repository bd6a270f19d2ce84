"""What a plan would still cost: the state of each stage, usual times and sizes of the past. Imports no torch."""

import heapq
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

from pipelines.plan import Plan, Stage
from salsa.store.artifact import Store
from salsa.store.fingerprint import canonical
from salsa.store.lock import StageLock
from salsa.store.manifest import MANIFEST, read

SEEDS = frozenset({"seed", "replicate", "index", "draw"})
"""Whole numbers of a stage's configuration that are names: a stage takes as long with any of them."""

_FINGERPRINT = re.compile("[0-9a-f]{64}")


class State(Enum):
    """Where a stage stands."""

    stored = "in the store"
    running = "running elsewhere"
    failed = "failed before"
    waiting = "to run"


@dataclass(frozen=True)
class Outlook:
    """One stage of a plan: where it stands, and what it will probably take (None: nothing like it was ever run)."""

    stage: Stage
    state: State
    seconds: float | None = None
    size: int | None = None
    """Bytes of the artifact."""
    note: str = ""


class History:
    """What stages took, by kind and sizes (the whole numbers of their configurations); `stored` are those there are."""

    def __init__(self, store: Store) -> None:
        self.stored: set[tuple[str, str]] = set()
        self._taken: dict[tuple[str, str], list[tuple[float, int]]] = {}
        for artifact in store.artifacts():
            self.stored.add((artifact.kind, artifact.fingerprint))
            manifest = artifact.path / MANIFEST
            try:
                known = _known(str(manifest), manifest.stat().st_mtime_ns)
            except (OSError, ValueError, KeyError, TypeError):
                continue  # A damaged manifest is no history; `salsa store verify` names it.
            taken, of_sizes = known
            for sizes in ("", of_sizes):
                self._taken.setdefault((artifact.kind, sizes), []).append(taken)

    def usual(self, stage: Stage) -> tuple[float | None, int | None]:
        """Return the median seconds and bytes of stages of the same kind and sizes, or of the same kind."""
        if (stage.kind, "") not in self._taken:
            return None, None
        past = self._taken.get((stage.kind, _sizes(stage.config))) or self._taken[stage.kind, ""]
        return median(seconds for seconds, _ in past), int(median(size for _, size in past))


@lru_cache(maxsize=100_000)
def _known(manifest: str, changed: int) -> tuple[tuple[float, int], str]:
    """Return the seconds, bytes and sizes that a manifest tells; one command may look at the same ones many times."""
    told = read(Path(manifest).parent)
    taken = float(told["seconds"]), sum(file["bytes"] for file in told["files"].values())
    return taken, _sizes(told["config"])


def survey(plan: Plan, store: Store) -> list[Outlook]:
    """Return the outlook of each stage, in the plan's order."""
    history, noted = History(store), _noted(store)
    return [_outlook(stage, store, history, noted) for stage in plan]


def _noted(store: Store) -> set[str]:
    """Return the fingerprints of which there is a note of an owner or of a failure: of most stages there is neither."""
    notes = [*(store.root / "locks").glob("*.json"), *(store.root / "failures").glob("*/*.json")]
    return {found[0] for note in notes if (found := _FINGERPRINT.search(note.name))}


def work_seconds(outlooks: Iterable[Outlook]) -> float:
    """Return the seconds of work of what is not stored; stages that were never run count as nothing."""
    return sum(each.seconds or 0.0 for each in outlooks if each.state is not State.stored)


def wall_seconds(outlooks: Sequence[Outlook], workers: int) -> float:
    """Return how long that takes with several workers, each of which takes the first stage that is ready."""
    to_run = {each.stage.fingerprint: each for each in outlooks if each.state is not State.stored}
    order = {fingerprint: place for place, fingerprint in enumerate(to_run)}
    missing = {
        fingerprint: {identity for identity in each.stage.inputs.values() if identity in to_run}
        for fingerprint, each in to_run.items()
    }
    followers: dict[str, list[str]] = {}
    for fingerprint, needs in missing.items():
        for need in needs:
            followers.setdefault(need, []).append(fingerprint)
    ready = [(order[fingerprint], fingerprint) for fingerprint, needs in missing.items() if not needs]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < max(workers, 1):
            _, fingerprint = heapq.heappop(ready)
            heapq.heappush(running, (now + (to_run[fingerprint].seconds or 0.0), fingerprint))
        now, done = heapq.heappop(running)
        for follower in followers.get(done, ()):
            missing[follower].discard(done)
            if not missing[follower]:
                heapq.heappush(ready, (order[follower], follower))
    return now


def disk_bytes(outlooks: Iterable[Outlook]) -> int:
    """Return the bytes of the artifacts that are still to come."""
    return sum(each.size or 0 for each in outlooks if each.state is not State.stored)


def unknown_kinds(outlooks: Iterable[Outlook]) -> list[str]:
    """Return the kinds of stages to come of which nothing is known."""
    return sorted({each.stage.kind for each in outlooks if each.state is not State.stored and each.seconds is None})


def progress_of(store: Store, stage: Stage) -> dict[str, Any]:
    """Return the last progress note of a stage that somebody works on; empty if there is none."""
    note = store.root / "unfinished" / stage.kind / stage.fingerprint / "progress.json"
    try:
        progress = json.loads(note.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return progress if isinstance(progress, dict) else {}


def _outlook(stage: Stage, store: Store, history: History, noted: set[str]) -> Outlook:
    if (stage.kind, stage.fingerprint) in history.stored:
        return Outlook(stage, State.stored)
    usual = history.usual(stage)
    if stage.fingerprint not in noted:
        return Outlook(stage, State.waiting, *usual)
    owner = StageLock(store.lock_path(stage.kind, stage.fingerprint)).owner()
    if owner is not None:
        progress = progress_of(store, stage)
        far = f", {progress['done']}/{progress['total']}" if progress else ""
        return Outlook(stage, State.running, *usual, f"process {owner['pid']} on {owner['host']}{far}")
    failure = store.failure(stage.kind, stage.fingerprint)
    if failure is not None:
        return Outlook(stage, State.failed, *usual, str(failure.get("error", "")).split("\n")[0])
    return Outlook(stage, State.waiting, *usual)


def _sizes(config: Mapping[str, Any]) -> str:
    return canonical(_whole_numbers(config))


def _whole_numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {key: _whole_numbers(item) for key, item in value.items() if key not in SEEDS}
        return {key: item for key, item in kept.items() if item is not None}
    return value if type(value) is int else None
