"""The contour plot: rewards and loss on the plane through three models, in Euclidean weight distance."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from salsa.report.figures import GREY, INK, PAPER, STYLE, empty_figure
from salsa.report.landscape import contours, looks
from salsa.report.landscape.arrangement import EDGES, Arrangement, Name, arrange
from salsa.report.landscape.findings import BARYCENTRE
from salsa.report.schema import Metric

_PANEL, _AXIS, _BETWEEN = 3.9, 0.75, 0.12
"""Widths in inches: of a panel, of the scale left of all, and between panels."""
_LOWEST, _AROUND, _NOTE_LINE = 1.25, 2.1, 0.15
"""Heights in inches: of a panel at least, of what stands around the panels, of a line of notes."""
_TICKS = 4
"""Of a colour bar without lines, at most."""
_HALO = withStroke(linewidth=2.6, foreground=PAPER)


def draw(landscape: Mapping[str, Any]) -> Figure | None:
    """Return the contour plot, a panel for each of judge, reward model and loss; None without a plane.

    Brighter is better in every panel. Policies stand at their foot on the plane: they lie off it.
    """
    plane, panels = landscape["plane"], list(looks.quantities(landscape))
    if plane is None or not panels:
        return None
    entries, columns = _entries(landscape), looks.legend_columns(len(panels))
    width = _PANEL * max(2, len(panels))
    arrangement = arrange(landscape, (width - _AXIS) / max(2, len(panels)) - _BETWEEN)
    height = max(_LOWEST, arrangement.scale * float(np.ptp(arrangement.limits[:, 1])))
    height += looks.legend_height(len(entries), columns) + _AROUND + _NOTE_LINE * (len(plane["models"]) + 1)
    with matplotlib.rc_context(STYLE):
        figure = empty_figure(width, height)
        axes = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
        for axis, (key, metric) in zip(axes, panels, strict=True):
            _panel(figure, axis, landscape, arrangement, key, metric)
        axes[0].set_ylabel(looks.plain(f"distance from that line\ntowards {plane['models'][2]}"))
        looks.frame(figure, _title(landscape), _explanation(landscape), entries, columns)
    return figure


def _panel(
    figure: Figure, axis: Any, landscape: Mapping[str, Any], arrangement: Arrangement, key: str, metric: Metric
) -> None:
    """Draw one quantity with its scale, its notes, and all marks."""
    plane = landscape["plane"]
    axis.set_title(looks.title(key, metric))
    drawn = contours.draw(axis, plane, key, metric)
    _scale(figure, axis, drawn, _note(plane, key, metric))
    axis.set(xlim=arrangement.limits[:, 0], ylim=arrangement.limits[:, 1], aspect="equal")
    _marks(axis, landscape, arrangement)
    best = _best(plane, key)
    axis.plot(*best, zorder=6, **looks.BEST)
    contours.label(axis, drawn, np.vstack([arrangement.taken, best]), arrangement.scale)
    axis.set_xlabel(looks.plain(f"distance from {plane['models'][0]} towards {plane['models'][1]}"))


def _title(landscape: Mapping[str, Any]) -> str:
    first, second, third = landscape["plane"]["models"]
    return f"Soups on the plane through {first}, {second} and {third}"


def _explanation(landscape: Mapping[str, Any]) -> str:
    plane = landscape["plane"]
    feet = any(other["plane"] for other in landscape["others"])
    policies = "Policies stand at their foot, the nearest point of the plane, or are joined to it. " if feet else ""
    known = all(found["resolution"] is not None for found in plane["findings"].values())
    lines = "Lines are no closer than the data tell soups apart. " if known else ""
    return (
        f"{looks.about(landscape)}{len(plane['points'])} soups (dots), {looks.asked(landscape)}; linear between the "
        f"dots; brighter is better. {lines}Distances: Euclidean, between weights. {policies}"
        f"{looks.intervals(landscape, plane['models'])}"
    )


def _scale(figure: Figure, axis: Any, drawn: contours.Drawn, note: str) -> None:
    """Draw the colour bar, with the lines of the panel, under the notes."""
    bar = figure.colorbar(drawn.shading, ax=axis, orientation="horizontal", pad=0.02, aspect=30, shrink=0.9)
    bar.outline.set_visible(False)
    if bar.solids is not None:
        bar.solids.set_edgecolor("face")
    heights = drawn.levels.lines
    for height in heights:
        bar.ax.axvline(height, color=PAPER, linewidth=0.7)
    ticks = [height for height, _ in contours.labelled(drawn.levels, heights)]
    if len(ticks) > 1:
        bar.set_ticks(ticks, labels=[contours.in_words(height, drawn.levels.step) for height in ticks])
    else:
        bar.locator = MaxNLocator(_TICKS)
    if drawn.metric.better == "low":
        bar.ax.invert_xaxis()
    bar.set_label(looks.unit(drawn.metric))
    bar.ax.xaxis.label.set_linespacing(1.3)
    bar.ax.set_title(note, fontsize=looks.NOTE, fontweight="normal", loc="left")


def _note(plane: Mapping[str, Any], key: str, metric: Metric) -> str:
    """Return the barycentre against each model, and how finely the contours may be read."""
    found = plane["findings"][key]
    lines = [looks.differences(found, BARYCENTRE, plane["models"], metric)]
    if found["resolution"] is not None:
        lines.append(
            f"{BARYCENTRE} − a soup inside: typically ± {found['resolution'] * metric.scale:.{metric.decimals}f}"
        )
    return "\n".join(lines)


def _best(plane: Mapping[str, Any], key: str) -> Sequence[float]:
    """Return where the best point of the grid is."""
    weights = plane["findings"][key]["best"]["weights"]
    place: Sequence[float] = next(each["coordinates"] for each in plane["points"] if each["weights"] == weights)
    return place


def _marks(axis: Any, landscape: Mapping[str, Any], arrangement: Arrangement) -> None:
    """Draw the triangle with its models' names, its barycentre, the midpoints of its edges, and the policies."""
    corners = np.array(landscape["plane"]["coordinates"])
    ring = np.vstack([corners, corners[:1]])
    axis.plot(ring[:, 0], ring[:, 1], color=INK, linewidth=1.1, zorder=4, path_effects=[_HALO])
    edges = np.array(EDGES) @ corners
    axis.plot(edges[:, 0], edges[:, 1], zorder=5, **looks.EDGE)
    axis.plot(*corners.mean(axis=0), color=INK, zorder=6, **looks.CENTRE)
    axis.plot(corners[:, 0], corners[:, 1], "o", color=INK, markeredgecolor=PAPER, markersize=7.5, zorder=5)
    for name in arrangement.names:
        _name(axis, name)
    numbers = [number for number, other in enumerate(landscape["others"]) if other["plane"]]
    for number, foot, place in zip(numbers, arrangement.feet, arrangement.places, strict=True):
        # Beside its place and joined to it, where it would cover something.
        axis.plot(*zip(foot, place, strict=True), color=INK, linewidth=0.8, marker=".", markersize=4, zorder=6.5)
        # On a disc of paper: a colour alone would be lost on the contours.
        axis.plot(*place, zorder=7, **looks.DISC)
        axis.plot(*place, markersize=5.5, linestyle="none", zorder=7, **looks.policy(number))


def _name(axis: Any, name: Name) -> None:
    way = name.way
    sides = {"ha": "left" if way[0] > 0.35 else "right" if way[0] < -0.35 else "center"}
    sides["va"] = "bottom" if way[1] > 0.35 else "top" if way[1] < -0.35 else "center"
    look = {"fontweight": "bold", "color": INK, "path_effects": [_HALO], "zorder": 8}
    offset = tuple(72 * name.gap * way)
    axis.annotate(looks.plain(name.text), name.corner, offset, textcoords="offset points", **sides, **look)


def _entries(landscape: Mapping[str, Any]) -> list[Any]:
    """Return the entries of the legend."""
    shown: list[Any] = [
        Line2D([], [], color=INK, marker="o", markeredgecolor=PAPER, markersize=7.5, linestyle="none", label="model"),
        Line2D([], [], color=INK, label=BARYCENTRE, **looks.CENTRE),
        Line2D([], [], label="midpoint of an edge", **looks.EDGE),
        Line2D([], [], label="best soup that was evaluated", **{**looks.BEST, "markersize": 9}),
        Line2D([], [], color=GREY, marker=".", markersize=4, linestyle="none", label="soup that was evaluated"),
    ]
    for number, other in enumerate(landscape["others"]):
        if other["plane"]:
            label = looks.plain(f"{other['name']} ({other['plane']['off']:.3g} off the plane)")
            shown.append(Line2D([], [], linestyle="none", markersize=7, label=label, **looks.policy(number)))
    return shown
