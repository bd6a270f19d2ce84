"""Dots with their intervals, a row for each place and in it a line for each series."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from salsa.report.figures import GREY, INK, RULE
from salsa.report.study import panels
from salsa.report.study.looks import Look

_SLOT, _BETWEEN = 0.19, 0.16
"""Inches: of the line of a series, and between places."""
_NAME_LINE = 0.16
_OF_THE_LINE = 0.22
"""Inches above the places, in which the line is named."""
_FAR = 0.6
"""Of an axis: a line beyond it has its name on its left."""
_AROUND, _TITLE, _LEAST = 0.75, 0.25, 1.2
_SHADE = 0.35


def size(figure: Mapping[str, Any]) -> tuple[float, float]:
    """Return the width and height of the axes with their labels, in inches."""
    across, down = panels.grid(figure)
    return panels.WIDTHS[across], max(_LEAST, down * (_row(figure) + _TITLE)) + _AROUND


def _row(figure: Mapping[str, Any]) -> float:
    """Return the height of a panel in inches, in which every place has room for its series and for its name."""
    return len(panels.places(figure)) * _place(figure) + _OF_THE_LINE * panels.even(figure)


def _place(figure: Mapping[str, Any]) -> float:
    lines = max((panels.name_of(place).count("\n") + 1 for place in panels.places(figure)), default=1)
    return max(_SLOT * len(_lines(figure)), _NAME_LINE * lines) + _BETWEEN


def _lines(figure: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the series that have a line in each place."""
    return list(dict.fromkeys((series["role"], series["label"]) for series in figure["series"]))


def draw(drawn: Figure, figure: Mapping[str, Any], looks: Mapping[tuple[str, str], Look]) -> None:
    """Draw every panel: places from top to bottom, values to the right."""
    places, lines = panels.places(figure), _lines(figure)
    top = -0.5 - _OF_THE_LINE / _place(figure) * panels.even(figure)
    for axis, inside, first, last in panels.subplots(drawn, figure):
        for index in range(0, len(places), 2):
            axis.axhspan(index - 0.5, index + 0.5, color=RULE, alpha=_SHADE, linewidth=0, zorder=0)
        panels.reference(axis, figure["line"], upright=True)
        axis.grid(visible=False, axis="y")
        for series in inside:
            key = series["role"], series["label"]
            shift = _shift(lines.index(key), len(lines))
            for point in series["points"]:
                _point(axis, places.index(point["x"]) + shift, point, looks[key])
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=panels.STEPS))
        axis.set_ylim(len(places) - 0.5, top)
        axis.set_yticks(range(len(places)), [panels.name_of(place) for place in places])
        across, up = (figure["y"]["label"] if last else "", figure["x"]["label"] if first else "")
        panels.label(axis, across, up, panels.inner_width(figure), _row(figure))
    # Only now: the panels share their axis, whose ends depend on the points of all.
    if panels.even(figure):
        for axis in (axis for axis in drawn.axes if axis.get_visible()):
            _name_line(axis, figure["line"], (top - 0.5) / 2)


def _name_line(axis: Any, line: float, height: float) -> None:
    """Write at the line that neither is better there, and where better is."""
    low, high = axis.get_xlim()
    far = line - low > _FAR * (high - low)
    look = {"ha": "right" if far else "left", "va": "center", "color": INK, "fontsize": 8}
    axis.annotate("equal · better →", (line, height), (-4 if far else 4, 0), textcoords="offset points", **look)


def _shift(number: int, count: int) -> float:
    """Return how far below the middle of its place a series has its line, as a share of the place."""
    step = _SLOT / (_SLOT * count + _BETWEEN)
    return (number - (count - 1) / 2) * step


def _point(axis: Any, height: float, point: Mapping[str, Any], look: Look) -> None:
    if point["value"] is None:
        middle = {"transform": axis.get_yaxis_transform(), "ha": "center", "va": "center"}
        axis.text(0.5, height, "missing", color=GREY, fontsize=8, style="italic", **middle)
        return
    if point["low"] is not None and point["high"] is not None:
        ends = [point["low"], point["high"]]
        axis.plot(ends, [height] * 2, color=look.colour, linewidth=2.2, solid_capstyle="butt", zorder=2)
    axis.plot([point["value"]], [height], linestyle="none", zorder=3, **look.point(6.5))
