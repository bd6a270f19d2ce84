"""Means over replicates or seeds, with the intervals that tell whether a difference outlasts another training."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from salsa.report.grid import Cell as Entry
from salsa.report.grid import Column, Grid, mark_best, measured
from salsa.report.schema import METRICS
from salsa.report.sweep.cells import REPEATS, Cell, distinct, labelled, shown, swept
from salsa.report.sweep.quantities import DASH, Quantity, one_judge, principal

_EVEN = 0.5


def grid(cells: Sequence[Cell]) -> Grid | None:
    """Return the table of means, a row for each combination of the other keys; None where nothing is repeated.

    Where a repeat is missing the mean is that of the others, and the row says of how many.
    """
    groups = _groups(cells)
    done = [cell.experiment for cell in cells if cell.experiment is not None]
    if not done or max(len(group) for group in groups) < 2:
        return None
    keys = [key for key in swept(cells) if key not in REPEATS]
    quantities = principal(done)
    level = done[0]["level"]
    rows = []
    for group in groups:
        found = [cell.experiment for cell in group if cell.experiment is not None]
        row = [Entry(shown(group[0].keys[key]) if key in group[0].keys else "–", tone="name") for key in keys]
        row.append(Entry(f"{len(found)} of {len(group)}", tone="" if keys else "name"))
        rows.append([*row, *(_mean(found, quantity, level) for quantity in quantities)])
    columns = [*(Column(key, left=True) for key in keys), Column("repeats", left=not keys)]
    columns += [quantity.column for quantity in quantities]
    if one_judge(done):
        rows = mark_best(rows, [None] * (len(keys) + 1) + [quantity.metric for quantity in quantities])
    repeated = " and ".join(key for key in swept(cells) if key in REPEATS)
    caption = (
        f"Means over {repeated} with {level:.0%} Student t intervals, which hold for another training and the same "
        "questions; the intervals of one experiment hold for its trained models only."
    )
    return Grid(f"Over repeats ({repeated})", caption, columns, rows, keys=max(1, len(keys)))


def _groups(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Return the cells that differ in nothing but their repeats, together."""
    groups: dict[str, list[Cell]] = {}
    for cell, _ in distinct(cells):
        others = {key: value for key, value in cell.keys.items() if key not in REPEATS}
        if len(others) < len(cell.keys):
            groups.setdefault(labelled(others), []).append(cell)
    return list(groups.values()) or [[]]


def _mean(experiments: Sequence[Mapping[str, Any]], quantity: Quantity, level: float) -> Entry:
    """Return the cell of a mean, toned where the whole interval of a win rate lies above or below one half."""
    # Imported here: it takes NumPy, which a sweep without repeats does not need to be shown.
    from salsa.evaluation.statistics import t_interval

    scale = quantity.metric.scale
    values = [value / scale for each in experiments if (value := quantity.of(each).value) is not None]
    if not values:
        return DASH
    found = t_interval(values, level)
    entry = measured({"value": found.value, "low": found.low, "high": found.high}, quantity.metric)
    if quantity.metric is not METRICS["win_rate"] or found.low is None or found.high is None:
        return entry
    return replace(entry, tone="better" if found.low > _EVEN else "worse" if found.high < _EVEN else "")
