"""A store's artifacts as the rows of a table."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from salsa.store.artifact import Artifact
from salsa.store.lineage import Lineage


@dataclass(frozen=True)
class Row:
    """One artifact; what its manifest would tell is None where that is unreadable or does not say."""

    kind: str
    name: str | None
    model: str | None
    fingerprint: str
    published: float | None
    """Seconds since 1970."""
    bytes: int | None
    seconds: float | None
    """Of work that made it."""
    path: str
    readable: bool


SORTS: dict[str, Callable[[Row], Any]] = {
    "kind": lambda row: (row.kind, row.name or "", row.fingerprint),
    "age": lambda row: (row.published or 0.0, row.fingerprint),
    "size": lambda row: (-(row.bytes or 0), row.fingerprint),
}
"""Ways to sort rows: by kind and name, the oldest first, the largest first."""


def size(artifact: Artifact) -> int:
    """Return an artifact's size in bytes, as its manifest lists its files."""
    return sum(entry["bytes"] for entry in artifact.manifest["files"].values())


def rows(
    lineage: Lineage, kind: str | None = None, model: str | None = None, published_before: float | None = None
) -> list[Row]:
    """Return a row for each artifact of this kind and model family that was published before a time."""
    found = (_row(lineage, artifact) for artifact in lineage.artifacts.values() if kind in (None, artifact.kind))
    return [
        row
        for row in found
        if model in (None, row.model)
        and (published_before is None or (row.published is not None and row.published < published_before))
    ]


def total(chosen: Iterable[Row]) -> tuple[int, float]:
    """Return the bytes and the seconds of work of all rows together."""
    listed = list(chosen)
    return sum(row.bytes or 0 for row in listed), sum(row.seconds or 0.0 for row in listed)


def _row(lineage: Lineage, artifact: Artifact) -> Row:
    place = str(artifact.path)
    if artifact.fingerprint in lineage.unreadable:
        return Row(artifact.kind, None, None, artifact.fingerprint, None, None, None, place, False)
    manifest = artifact.manifest
    name, seconds = manifest.get("name"), manifest.get("seconds")
    return Row(
        artifact.kind,
        name if isinstance(name, str) else None,
        lineage.family(artifact.fingerprint),
        artifact.fingerprint,
        artifact.published,
        size(artifact),
        float(seconds) if isinstance(seconds, int | float) else None,
        place,
        True,
    )
