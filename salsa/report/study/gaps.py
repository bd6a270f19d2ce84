"""What is missing from a study because something failed, in sentences; no NumPy: it must be fast."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_MOST = 3
"""Failures that a note on one cell names."""


def sentences(study: Mapping[str, Any]) -> Iterator[str]:
    """Yield one sentence for each failure: what is missing where, and why."""
    for gap in study["missing"]:
        where = "all rows" if gap["arm"] is None else gap["arm"]
        yield f"replicate {gap['replicate']} of {gap['family']} is missing from {where}: {_why(gap)}"


def reason(study: Mapping[str, Any], row: Mapping[str, Any]) -> str | None:
    """Return why a cell of a row may be missing: what failed of its arm and family; None where nothing did."""
    families = study["settings"].get("families", ()) if row.get("group") else ()
    found = [gap for gap in study["missing"] if _concerns(gap, row, families)]
    said = [f"replicate {gap['replicate']} of {gap['family']}: {_why(gap)}" for gap in found[:_MOST]]
    said += [f"and {len(found) - _MOST} more"] if len(found) > _MOST else []
    return f"missing: {'; '.join(said)}" if said else None


def _concerns(gap: Mapping[str, Any], row: Mapping[str, Any], families: Sequence[str]) -> bool:
    """Return whether a failure can be why a cell is missing; a group that is no family is made of all of them."""
    group = row.get("group")
    return gap["arm"] in (None, row["label"]) and (group == gap["family"] or group not in families)


def _why(gap: Mapping[str, Any]) -> str:
    return f"{gap['stage']} failed: {gap['reason']}"
