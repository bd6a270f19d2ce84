"""The table of KL divergences to the common anchors before and after training, per reply and per token."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from salsa.report.grid import MISSING, Cell, Column, Grid, measured
from salsa.report.schema import METRICS, Metric

_NORMAL = 1.96
"""Half the width of a 95 % interval, in standard errors."""
_TOKEN = Metric("KL a token", "nats", 3)


def along_training(experiment: Mapping[str, Any]) -> Grid | None:
    """Return the KL of each trained policy to each anchor at step 0 and after its last step; None without curves."""
    curves = {name: points for name, points in experiment["curves"].items() if points}
    if not curves:
        return None
    columns = [Column("model", left=True), Column("step")]
    for anchor in experiment["anchors"]:
        columns += [Column("a reply", f"KL to {anchor}: k1 (k3)"), Column("a token", f"KL to {anchor}: k1 (k3)")]
    rows = []
    for name, points in curves.items():
        for point in (points[0], points[-1]) if len(points) > 1 else points:
            cells = [Cell(name), Cell(f"{point['step']:g}")]
            for anchor in experiment["anchors"]:
                found = point["kl"].get(anchor, {})
                cells += [_cell(found, "", METRICS["k1"]), _cell(found, "_token", _TOKEN)]
            rows.append(cells)
    caption = (
        "On stored replies to fixed prompts at temperature 1. Step 0 is the start: its KL to a reference other than "
        "itself is above 0, so equal coefficients do not hold two policies equally close. Per token: the sum over all "
        "tokens by their number. Intervals: 1.96 standard errors, clustered by question."
    )
    return Grid("KL to the anchors before and after training", caption, columns, rows, frozenset())


def _cell(found: Mapping[str, Any], kind: str, metric: Metric) -> Cell:
    value, error = found.get(f"k1{kind}"), found.get(f"k1{kind}_se")
    if value is None:
        return MISSING
    bounds = (None, None) if error is None else (value - _NORMAL * error, value + _NORMAL * error)
    cell = measured({"value": value, "low": bounds[0], "high": bounds[1]}, metric)
    if found.get(f"k3{kind}") is None:
        return cell
    other = f"({measured(found[f'k3{kind}'], metric).text})"
    # A screen has no room for the intervals of both; the other forms of the table do.
    shown = other if kind else f"{cell.spread} {other}".strip()
    return replace(cell, spread=shown, interval=f"{cell.interval} {other}".strip())
