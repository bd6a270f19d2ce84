"""Removing artifacts so that no other is left without what it was made from, and nobody's work is disturbed."""

from collections.abc import Iterable, Iterator

from salsa.store.activity import holder, unfinished
from salsa.store.artifact import Artifact, Store
from salsa.store.lineage import Lineage
from salsa.store.lock import StageLock
from salsa.store.selection import SHOWN, described


class RemovalError(RuntimeError):
    """Artifacts that must stay; the message says what needs them or who works on them, and what to do."""


def planned(store: Store, lineage: Lineage, chosen: Iterable[str], with_dependents: bool) -> list[Artifact]:
    """Return what removing artifacts would remove, each before its inputs.

    Raises `RemovalError` if artifacts depend on the chosen ones and are not to be removed with them, or if somebody
    works on one of them or on a stage that is known to read one.
    """
    wanted = set(chosen)
    affected = lineage.affected(wanted)
    if affected - wanted and not with_dependents:
        names = _named(lineage.artifacts[identity] for identity in sorted(affected - wanted))
        raise RemovalError(f"other artifacts were made from these; --with-dependents removes them, too:{names}")
    for identity in sorted(affected):
        artifact = lineage.artifacts[identity]
        held = holder(store, artifact.kind, identity)
        if held is not None:
            raise RemovalError(f"{held}; wait for its end")
    for stage in unfinished(store):
        read = affected & set((stage.inputs or {}).values())
        held = holder(store, stage.kind, stage.fingerprint) if read else None
        if held is not None:
            raise RemovalError(f"{held} and reads {described(lineage.artifacts[min(read)])}; wait for its end")
    return lineage.dependents_first(affected)


def removed(store: Store, artifacts: Iterable[Artifact]) -> Iterator[Artifact]:
    """Remove artifacts one by one, each under its stage's lock, and iterate over those that are gone.

    Raises `RemovalError` at the first one that somebody works on.
    """
    for artifact in artifacts:
        lock = StageLock(store.lock_path(artifact.kind, artifact.fingerprint))
        if not lock.try_acquire():
            raise RemovalError(f"{described(artifact)} is being worked on; wait for the end and remove the rest again")
        with lock:
            store.remove(artifact.kind, artifact.fingerprint)
        yield artifact


def _named(artifacts: Iterable[Artifact]) -> str:
    lines = [f"\n  {described(artifact)}" for artifact in artifacts]
    more = [f"\n  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "".join(lines[:SHOWN] + more)
