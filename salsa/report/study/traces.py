"""Lines over a number or over names, curves with bands, and paths over two quantities."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from salsa.report.figures import INK
from salsa.report.study import panels
from salsa.report.study.looks import Look

_HEIGHT, _SMALL, _BELOW = 3.7, 2.9, 0.7
"""Inches: of a single panel, of each of several, and of what stands below the axes."""
_MOST_TICKS = 9
_CLOSEST = 0.06
"""Of an axis: how near to each other two labels may stand."""
_APART, _MOST_APART = 3.4 / 72, 0.2
"""Inches by which points of series at one place stand beside each other, and by which the first and the last do."""
_MARKS = 10
"""Markers on a curve, about: one on each of many points would hide it."""
_BAND = 0.15
_BAR: Mapping[str, Any] = {"linewidth": 1.5, "solid_capstyle": "butt", "zorder": 2}
_FAINT = 0.75


def size(figure: Mapping[str, Any]) -> tuple[float, float]:
    """Return the width and height of the axes with their labels, in inches."""
    across, down = panels.grid(figure)
    return panels.WIDTHS[across], _HEIGHT if across == down == 1 else 0.3 + _SMALL * down


def draw(drawn: Figure, figure: Mapping[str, Any], looks: Mapping[tuple[str, str], Look]) -> None:
    """Draw every panel with its series."""
    for axis, inside, first, last in panels.subplots(drawn, figure):
        panels.reference(axis, figure["line"], upright=False)
        if panels.even(figure) and axis.get_subplotspec().is_last_col():
            _name_line(axis, figure["line"])
        seen = [series for series in inside if series["points"]]
        for series, aside in zip(seen, _asides(figure, len(seen)), strict=True):
            _series(axis, figure, series, looks[series["role"], series["label"]], aside)
        _scale(axis, figure)
        across, up = (figure["x"]["label"] if last else "", figure["y"]["label"] if first else "")
        panels.label(axis, across, up, panels.inner_width(figure), size(figure)[1] / panels.grid(figure)[1] - _BELOW)


def _name_line(axis: Any, line: float) -> None:
    """Write beside the line that neither is better there, and where better is."""
    look = {"xycoords": axis.get_yaxis_transform(), "textcoords": "offset points", "fontsize": 8, "color": INK}
    for text, up in (("equal", 0), ("better ↑", 11)):
        axis.annotate(text, (1, line), (4, up), va="center", annotation_clip=False, **look)


def _asides(figure: Mapping[str, Any], count: int) -> list[float]:
    """Return by how many inches each series is moved; points of paths and curves stand where they are."""
    step = min(_APART, _MOST_APART / max(1, count - 1)) if figure["kind"] == "lines" else 0.0
    return [step * (number - (count - 1) / 2) for number in range(count)]


def _series(axis: Any, figure: Mapping[str, Any], series: Mapping[str, Any], look: Look, aside: float) -> None:
    points = _ordered(figure, series)
    found = panels.places(figure)
    named = panels.categorical(found)
    xs = [float(found.index(point["x"])) if named else float(point["x"]) for point in points]
    values, lows, highs = ([_number(point[key]) for point in points] for key in ("value", "low", "high"))
    moved = axis.transData + ScaledTranslation(aside, 0, axis.figure.dpi_scale_trans)
    style = {"linestyle": look.dash, "linewidth": 1.8, "zorder": 3, **look.point(5.5)}
    if figure["kind"] == "curves":
        axis.plot(xs, values, markevery=max(1, len(xs) // _MARKS), **style)
        axis.fill_between(xs, lows, highs, color=look.colour, alpha=_BAND, linewidth=0)
        return
    drawn = axis.plot(xs, values, **style)
    for x, low, high, point in zip(xs, lows, highs, points, strict=True):
        if not math.isnan(low) and not math.isnan(high):
            drawn += axis.plot([x, x], [low, high], color=look.colour, alpha=_FAINT, **_BAR)
        if point.get("x_low") is not None and point.get("x_high") is not None and point["value"] is not None:
            ends = [point["x_low"], point["x_high"]]
            axis.plot(ends, [point["value"]] * 2, color=look.colour, alpha=_FAINT, **_BAR)
    # Only now, or the axis would take their limits for data.
    for line in drawn if aside else ():
        line.set_transform(moved)


def _ordered(figure: Mapping[str, Any], series: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the points of a series from left to right; paths keep the order given."""
    points = list(series["points"])
    if figure["kind"] == "paths" and not panels.categorical(panels.places(figure)):
        return points
    found = panels.places(figure)
    return sorted(points, key=lambda point: found.index(point["x"]))


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _scale(axis: Any, figure: Mapping[str, Any]) -> None:
    """Set the axis of the places: logarithmic if asked for, with labels at the places where there is room."""
    found = panels.places(figure)
    axis.margins(x=0.05)
    if panels.categorical(found):
        axis.set_xlim(-0.5, len(found) - 0.5)
        room = panels.inner_width(figure) / len(found)
        axis.set_xticks(range(len(found)), [panels.in_lines(str(place), room) for place in found])
        return
    positive = [place for place in found if place > 0]
    if figure["x"]["log"] and positive and found[0] >= 0:
        if found[0] > 0:
            axis.set_xscale("log")
        else:
            # Zero has no logarithm: between it and the smallest value the axis is linear.
            axis.set_xscale("symlog", linthresh=positive[0])
    axis.xaxis.set_minor_formatter(NullFormatter())
    if figure["kind"] == "lines" and _room(axis, found):
        axis.xaxis.set_major_locator(FixedLocator(found))
        axis.xaxis.set_minor_locator(NullLocator())
    elif axis.get_xscale() == "linear":
        axis.xaxis.set_major_locator(MaxNLocator(nbins=_MOST_TICKS, steps=panels.STEPS))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: panels.name_of(float(value))))


def _room(axis: Any, found: Sequence[float]) -> bool:
    """Return whether every place can have a label of its own."""
    ends = axis.transAxes.inverted()
    across = [ends.transform(axis.transData.transform((place, 0)))[0] for place in found]
    return len(found) <= _MOST_TICKS and all(after - before >= _CLOSEST for before, after in pairwise(across))
