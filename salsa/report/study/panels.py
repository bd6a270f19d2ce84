"""What all kinds of figures of a study share: panels beside each other, the reference line, names that are too long."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from salsa.report.figures import DASHES, GREY
from salsa.report.study.looks import shown

STEPS = (1, 2, 5, 10)
"""Between labels of an axis, times a power of ten."""
_MOST_ACROSS, _SQUARE = 3, 4
WIDTHS = {1: 7.2, 2: 9.0, 3: 10.6}
"""Of a figure in inches, by the panels that stand beside each other."""
_LETTERS = 26
"""Of a line of a name on an axis."""
_LETTER, _BOLD, _SIDE = 0.077, 0.105, 0.8
"""Inches: of a letter of a label and of a heading, and of what stands left of the panels besides names."""
_SHORTEST = 6
"""Letters of a line, however little room there is."""

Series = Mapping[str, Any]


def names(figure: Mapping[str, Any]) -> list[str]:
    """Return the panels of a figure in the order of its series; one without a name where series name none."""
    return list(dict.fromkeys(series.get("panel") or "" for series in figure["series"]))


def scaled(figure: Mapping[str, Any]) -> dict[str, Any]:
    """Return a figure with its values and its line times the scale of its y axis (100 turns shares into %).

    Points without a place are left out.
    """
    scale = figure["y"].get("scale") or 1.0
    placed = ([point for point in each["points"] if point["x"] is not None] for each in figure["series"])
    series = [
        {**each, "points": [_scaled(point, scale) for point in points]}
        for each, points in zip(figure["series"], placed, strict=True)
    ]
    line = None if figure["line"] is None else figure["line"] * scale
    return {**figure, "line": line, "series": series, "y": {**figure["y"], "scale": 1.0}}


def _scaled(point: Mapping[str, Any], scale: float) -> dict[str, Any]:
    numbers = {key: point[key] for key in ("value", "low", "high")}
    return {**point, **{key: None if value is None else value * scale for key, value in numbers.items()}}


def grid(figure: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many panels stand beside each other and below each other."""
    count = max(1, len(names(figure)))
    across = 2 if count == _SQUARE else min(_MOST_ACROSS, count)
    return across, -(-count // across)


def subplots(drawn: Figure, figure: Mapping[str, Any]) -> list[tuple[Any, list[Series], bool, bool]]:
    """Return for each panel its axes, its series, and whether it is the first of a row and the last of a column.

    All panels have one scale, so that they can be compared.
    """
    across, down = grid(figure)
    axes = drawn.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
    panels = []
    for index, name in enumerate(names(figure)):
        if name:
            axes[index].set_title(in_lines(name, inner_width(figure), _BOLD))
        inside = [series for series in figure["series"] if (series.get("panel") or "") == name]
        last = index + across >= len(names(figure))
        panels.append((axes[index], inside, index % across == 0, last))
        # Shared axes hide the labels of all rows but the last, also above an empty place.
        axes[index].tick_params(axis="x", labelbottom=last)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    return panels


def label(axis: Any, across: str, up: str, width: float, height: float) -> None:
    """Give axes that are so many inches large their labels, in as many lines as keep them from their neighbours'."""
    axis.set_xlabel(in_lines(across, width))
    axis.set_ylabel(in_lines(up, height))


def inner_width(figure: Mapping[str, Any]) -> float:
    """Return the width of a panel in inches."""
    across, _ = grid(figure)
    names = [name_of(place) for place in places(figure)] if figure["kind"] == "intervals" else []
    longest = max((len(line) for name in names for line in name.split("\n")), default=0)
    return (WIDTHS[across] - _SIDE - _LETTER * longest) / across


def in_lines(text: str, inches: float, letter: float = _LETTER) -> str:
    """Return text in lines of so many inches, as matplotlib shows it."""
    return shown("\n".join(textwrap.wrap(text, max(_SHORTEST, int(inches / letter)))))


def reference(axis: Any, line: float | None, upright: bool) -> None:
    """Draw the line at which nobody is better, if a figure has one."""
    if line is not None:
        style = {"color": GREY, "linewidth": 1.1, "linestyle": DASHES[2], "zorder": 1.5}
        (axis.axvline if upright else axis.axhline)(line, **style)


def even(figure: Mapping[str, Any]) -> bool:
    """Return whether the line of a figure is where neither of two is better."""
    return figure["line"] is not None and "win rate" in figure["y"]["label"]


def places(figure: Mapping[str, Any]) -> list[Any]:
    """Return the places of all points, in order: numbers by size; names, or a mixture of both, as they are met."""
    met = list(dict.fromkeys(point["x"] for series in figure["series"] for point in series["points"]))
    return met if categorical(met) else sorted(met)


def categorical(found: Sequence[Any]) -> bool:
    """Return whether places are names, and not all of them numbers."""
    return any(isinstance(place, str) for place in found)


def name_of(place: Any) -> str:
    """Return how a place is called on an axis."""
    return in_lines(place, _LETTERS * _LETTER) if isinstance(place, str) else f"{place:g}".replace("-", "−")
