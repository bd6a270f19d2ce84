"""What a figure over a swept key draws: a line for each combination of the other keys, repeats of it together."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from salsa.evaluation.statistics import t_interval
from salsa.report.sweep.cells import REPEATS, Cell, labelled, swept

Pick = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
"""Finds an estimate (value, low, high) in an experiment; None where it is missing."""
Point = tuple[float, float, float]
"""Value, low and high; NaN stands for what is missing."""
GAP: Point = (math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Line:
    """One combination of the other keys: of each repeat (a replicate, a seed) the cells by the key's value."""

    keys: Mapping[str, Any]
    repeats: Sequence[Mapping[float, Cell]]

    @property
    def label(self) -> str:
        """The other keys with their values; empty if there are none."""
        return labelled(self.keys)

    @property
    def places(self) -> list[float]:
        """Every value of the key at which the sweep has a cell of this line, in rising order."""
        return sorted({value for repeat in self.repeats for value in repeat})

    def missing(self) -> list[float]:
        """Return the values at which an experiment is missing."""
        return sorted({value for repeat in self.repeats for value, cell in repeat.items() if cell.experiment is None})

    def points(self, repeat: int, pick: Pick) -> list[Point]:
        """Return value, low and high of one repeat at each place; what is missing is NaN, and a gap in the line."""
        return [estimate(self.repeats[repeat].get(place), pick) for place in self.places]

    def mean(self, pick: Pick, level: float) -> list[Point]:
        """Return the estimate at each place: the experiment's own, or with repeats their mean and Student t interval.

        A place at which a repeat is missing is a gap, because the mean of the others is not comparable.
        """
        if len(self.repeats) == 1:
            return self.points(0, pick)
        columns = zip(*(self.points(number, pick) for number in range(len(self.repeats))), strict=True)
        return [_pooled([value for value, _, _ in column], level) for column in columns]


def of_key(cells: Iterable[Cell], key: str) -> list[Line]:
    """Return the lines of a figure over a numeric key, in the order of their first jobs."""
    cells = [cell for cell in cells if key in cell.keys]
    apart = [] if key in REPEATS else [name for name in swept(cells) if name in REPEATS]
    groups: dict[str, tuple[dict[str, Any], dict[str, dict[float, Cell]]]] = {}
    for cell in cells:
        keys = {name: value for name, value in cell.keys.items() if name != key and name not in apart}
        repeat = labelled({name: cell.keys.get(name) for name in apart})
        _, repeats = groups.setdefault(labelled(keys), (keys, {}))
        known = repeats.setdefault(repeat, {})
        # Several workers on one experiment are several jobs with the same keys.
        if known.get(cell.keys[key]) is None or known[cell.keys[key]].experiment is None:
            known[cell.keys[key]] = cell
    return [Line(keys, list(repeats.values())) for keys, repeats in groups.values()]


def mean_of_lines(lines: Sequence[Line], pick: Pick, level: float) -> tuple[list[float], list[float], int]:
    """Return the places, the mean over lines at each, and over how many lines: those that have every point.

    A line with a gap would shift the mean where it is missing, and look like an effect of the key.
    """
    places = sorted({place for line in lines for place in line.places})
    whole = []
    for line in lines:
        values = [value for value, _, _ in line.mean(pick, level)]
        if line.places == places and not any(math.isnan(value) for value in values):
            whole.append(values)
    means = [math.fsum(column) / len(whole) for column in zip(*whole, strict=True)] if whole else []
    return places, means, len(whole)


def estimate(cell: Cell | None, pick: Pick) -> Point:
    """Return value, low and high of a cell; NaN stands for what is missing."""
    found = pick(cell.experiment) if cell is not None and cell.experiment is not None else None
    if found is None or found["value"] is None:
        return GAP
    low, high = (math.nan if found[end] is None else float(found[end]) for end in ("low", "high"))
    return float(found["value"]), low, high


def _pooled(values: Sequence[float], level: float) -> Point:
    if any(math.isnan(value) for value in values):
        return GAP
    found = t_interval(values, level)
    return (
        found.value,
        math.nan if found.low is None else found.low,
        math.nan if found.high is None else found.high,
    )
