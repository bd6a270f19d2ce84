"""The plane through three models: what was measured of their soups, as filled contours around the triangle."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from salsa.report.figures import GREY, INK, PAPER
from salsa.report.landscape import contours
from salsa.report.landscape import looks as marks
from salsa.report.landscape.arrangement import EDGES, Arrangement, Name, arrange
from salsa.report.schema import Metric
from salsa.report.study import panels
from salsa.report.study.looks import Look, shown

_PANEL, _AROUND, _NOTE_LINE = 3.5, 1.05, 0.16
"""Inches: the width of a panel, what stands above and below its axes, and a line of its note."""
_FEWEST, _TICKS, _NOTE_LETTER = 3, 4, 0.066
_HALO = withStroke(linewidth=2.6, foreground=PAPER)


def size(figure: Mapping[str, Any]) -> tuple[float, float]:
    """Return the width and height of the axes with their labels, in inches."""
    kept, arrangement = _drawable(figure), _arrangement(figure)
    width = _PANEL * max(2, len(kept))
    notes = max((_note(series).count("\n") + 1 for series in kept), default=0)
    return width, arrangement.scale * float(np.ptp(arrangement.limits[:, 1])) + _AROUND + _NOTE_LINE * notes


def draw(drawn: Figure, figure: Mapping[str, Any], looks: Mapping[tuple[str, str], Look]) -> None:
    """Draw a panel for each series: shading with its colour bar, the triangle, its models, its barycentre, the grid."""
    kept, arrangement = _drawable(figure), _arrangement(figure)
    axes = drawn.subplots(1, max(1, len(kept)), squeeze=False, sharex=True, sharey=True)[0]
    for axis, series in zip(axes, kept, strict=False):
        axis.set_title(panels.in_lines(series["label"], _PANEL, 0.105))
        _panel(drawn, axis, figure, series, arrangement)
    axes[0].set_ylabel(shown(figure["y"]["label"]))


def _drawable(figure: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the series with enough values for a plane."""
    return [series for series in figure["series"] if len(_known(series)) >= _FEWEST]


def _known(series: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [point for point in series["points"] if point["value"] is not None]


def _plane(figure: Mapping[str, Any], series: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return models and points in the form that contours are drawn from; without a series all of its points."""
    points = _known(series) if series else [point for each in figure["series"] for point in each["points"]]
    return {
        "models": [model["label"] for model in figure["models"]],
        "coordinates": [[model["x"], model["y"]] for model in figure["models"]],
        "points": [
            {"coordinates": [point["x"], point["y"]], "weights": point["weights"], "values": {"value": point}}
            for point in points
        ],
        "findings": {"value": {"resolution": (series or {}).get("resolution")}},
    }


def _arrangement(figure: Mapping[str, Any]) -> Arrangement:
    return arrange({"plane": _plane(figure), "others": []}, _PANEL - 0.3)


def _panel(
    drawn: Figure, axis: Any, figure: Mapping[str, Any], series: Mapping[str, Any], arrangement: Arrangement
) -> None:
    metric = Metric(series["label"], series["unit"], series["digits"], better=series.get("better") or "")
    filled = contours.draw(axis, _plane(figure, series), "value", metric)
    axis.set(xlim=arrangement.limits[:, 0], ylim=arrangement.limits[:, 1], aspect="equal")
    _marks(axis, figure, arrangement)
    best = _best(series, metric)
    axis.plot(*best, zorder=6, **marks.BEST)
    contours.label(axis, filled, np.vstack([arrangement.taken, best]), arrangement.scale)
    axis.set_xlabel(shown(figure["x"]["label"]))
    if not figure["x"]["label"]:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    _scale(drawn, axis, filled, metric, _note(series))


def _best(series: Mapping[str, Any], metric: Metric) -> tuple[float, float]:
    choose = min if metric.better == "low" else max
    found = choose(_known(series), key=lambda point: point["value"])
    return found["x"], found["y"]


def _note(series: Mapping[str, Any]) -> str:
    """Return the note of a panel, each of its parts on lines of its own."""
    parts = (series.get("note") or "").split("; ")
    return "\n".join(panels.in_lines(part, _PANEL - 0.3, _NOTE_LETTER) for part in parts)


def _marks(axis: Any, figure: Mapping[str, Any], arrangement: Arrangement) -> None:
    """Draw the triangle with the names of its models, its barycentre, and the midpoints of its edges."""
    corners = np.array([[model["x"], model["y"]] for model in figure["models"]])
    ring, edges = np.vstack([corners, corners[:1]]), np.array(EDGES) @ corners
    axis.plot(ring[:, 0], ring[:, 1], color=INK, linewidth=1.1, zorder=4, path_effects=[_HALO])
    axis.plot(edges[:, 0], edges[:, 1], zorder=5, **marks.EDGE)
    axis.plot(*corners.mean(axis=0), color=INK, zorder=6, **marks.CENTRE)
    axis.plot(corners[:, 0], corners[:, 1], "o", color=INK, markeredgecolor=PAPER, markersize=7.5, zorder=5)
    for name in arrangement.names:
        _name(axis, name)


def _name(axis: Any, name: Name) -> None:
    across, up = name.way
    sides = {"ha": "left" if across > 0.35 else "right" if across < -0.35 else "center"}
    sides["va"] = "bottom" if up > 0.35 else "top" if up < -0.35 else "center"
    look = {"fontweight": "bold", "color": INK, "path_effects": [_HALO], "zorder": 8}
    offset = tuple(72 * name.gap * name.way)
    axis.annotate(shown(name.text), name.corner, offset, textcoords="offset points", **sides, **look)


def _scale(drawn: Figure, axis: Any, filled: contours.Drawn, metric: Metric, note: str) -> None:
    """Draw the colour bar with its unit, and the note of the panel under it."""
    bar = drawn.colorbar(filled.shading, ax=axis, orientation="horizontal", pad=0.03, aspect=30, shrink=0.9)
    bar.outline.set_visible(False)
    if bar.solids is not None:
        bar.solids.set_edgecolor("face")
    bar.locator = MaxNLocator(_TICKS)
    bar.update_ticks()
    if metric.better == "low":
        bar.ax.invert_xaxis()
    unit = panels.in_lines(marks.unit(metric), _PANEL - 0.3)
    bar.set_label(f"{unit}\n{note}" if note else unit, fontsize=marks.NOTE + 0.5)
    bar.ax.xaxis.label.set_linespacing(1.3)


def entries() -> Iterator[Artist]:
    """Yield the entries of the legend."""
    dot: dict[str, Any] = {
        "color": INK,
        "marker": "o",
        "markeredgecolor": PAPER,
        "markersize": 7.5,
        "linestyle": "none",
    }
    yield Line2D([], [], label="SFT model", **dot)
    yield Line2D([], [], color=INK, label="barycentre: equal weights", **marks.CENTRE)
    yield Line2D([], [], label="midpoint of an edge", **marks.EDGE)
    yield Line2D([], [], label="best soup of the grid", **{**marks.BEST, "markersize": 9})
    yield Line2D([], [], color=GREY, marker=".", markersize=4, linestyle="none", label="soup that was measured")


def explanation(figure: Mapping[str, Any], mean: str) -> str:
    """Return the small print: what the shading is."""
    count = len({tuple(point["weights"]) for series in figure["series"] for point in _known(series)})
    told = any(series.get("resolution") for series in figure["series"])
    lines = " Lines are no closer than the data tell soups apart." if told else ""
    return f"Shading: {mean}, {count} soups (dots), linear between them; brighter is better.{lines}"
