"""Garbage: what no kept result needs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from salsa.store import leftovers
from salsa.store.activity import Running, Unfinished, running, unfinished
from salsa.store.artifact import Artifact, Store
from salsa.store.leftovers import Leftover
from salsa.store.lineage import Lineage
from salsa.store.selection import described

RESULTS = {"report": "experiments", "landscape": "landscapes", "study": "studies"}
"""Kinds that are kept for their own sake, and the folder to which each is copied for people."""
EXPERIMENT_DIGITS = 16
"""Digits of a result's fingerprint that name the folder to which it is copied."""


class GarbageError(RuntimeError):
    """What is garbage cannot be told, or cannot be removed now; the message says why and what to do."""


@dataclass(frozen=True)
class Garbage:
    """What would stay and what would go."""

    roots: Mapping[str, str]
    """Why each of the kept results is one, by fingerprint."""
    kept: frozenset[str]
    removed: list[Artifact]
    """Each before its inputs."""
    leftovers: list[Leftover]
    unreadable: list[Artifact]
    """Left alone, because what they were made from is unknown."""
    unfinished: list[Unfinished]
    """Stages that were begun; what those need that noted it is kept."""
    running: list[Running]


def kept_results(
    store: Store, lineage: Lineage, chosen: Iterable[str] = (), published_after: float | None = None
) -> dict[str, str]:
    """Return the artifacts that are kept for their own sake, by fingerprint, and why.

    These are the results whose copy in `experiments/`, `landscapes/` or `studies/` is still there, the chosen ones, and
    those published after a time (in seconds since 1970).
    """
    roots = {}
    for identity, artifact in lineage.artifacts.items():
        if published_after is not None and identity not in lineage.unreadable and artifact.published > published_after:
            roots[identity] = "it is new"
        folder = RESULTS.get(artifact.kind)
        if folder is not None and (store.root / folder / identity[:EXPERIMENT_DIGITS]).is_dir():
            roots[identity] = f"{folder}/{identity[:EXPERIMENT_DIGITS]} is there"
    return roots | dict.fromkeys(chosen, "it was named")


def collect(store: Store, lineage: Lineage, roots: Mapping[str, str], idle_seconds: float | None = None) -> Garbage:
    """Return what no kept result needs, without removing anything.

    What unfinished stages are known to read is kept as well, unless nobody has touched them for `idle_seconds`; then
    their checkpoints are leftovers. Raises `GarbageError` if a needed manifest is unreadable, because what that
    artifact needs is unknown.
    """
    remains = leftovers.found(store, idle_seconds)
    given_up = {(leftover.kind, leftover.fingerprint) for leftover in remains if leftover.what == leftovers.ABANDONED}
    begun = [stage for stage in unfinished(store) if (stage.kind, stage.fingerprint) not in given_up]
    read = [identity for stage in begun for identity in (stage.inputs or {}).values()]
    kept = lineage.needed([*roots, *read])
    broken = sorted(kept & lineage.unreadable.keys())
    if broken:
        artifact = lineage.artifacts[broken[0]]
        raise GarbageError(
            f"{lineage.unreadable[broken[0]]}; a kept result needs this artifact, and what it needs itself is unknown: "
            f"run `salsa store verify --set-aside {artifact.fingerprint[:16]}` and the experiment again first"
        )
    return Garbage(
        roots,
        frozenset(kept),
        lineage.dependents_first(lineage.artifacts.keys() - kept - lineage.unreadable.keys()),
        remains,
        [lineage.artifacts[identity] for identity in lineage.unreadable],
        begun,
        running(store),
    )


def check_removable(garbage: Garbage) -> None:
    """Raise `GarbageError` if removing now would be a mistake: nothing would be kept, or somebody is at work."""
    if garbage.removed and not garbage.kept:
        folders = " or ".join(f"{name}/" for name in RESULTS.values())
        raise GarbageError(
            f"no result is kept: none has a folder in {folders}, and all {len(garbage.removed)} artifacts would go; "
            "name what to keep with --keep or --keep-newer-than, or delete the outputs folder yourself"
        )
    if garbage.removed and garbage.running:
        raise GarbageError(f"{garbage.running[0]}, and a run at work may need what would be removed; wait for its end")


def warnings(garbage: Garbage) -> list[str]:
    """Return what a person should know before the removal."""
    found = [f"{each}; garbage is removed only when nobody is at work" for each in garbage.running]
    unknown = [stage for stage in garbage.unfinished if stage.inputs is None]
    for stage in unknown:
        found.append(
            f"{stage.kind} {stage.fingerprint[:16]} is unfinished, and what it reads is not known; "
            "--keep-newer-than keeps what it may need"
        )
    for artifact in garbage.unreadable:
        found.append(f"{described(artifact)} is left alone; `salsa store verify --set-aside` moves it away")
    return found
