"""The contour plot: rewards and loss on the plane through three models, in Euclidean weight distance."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.tri import TriAnalyzer, Triangulation

from salsa.report.figures import GREY, INK, PAPER, STYLE, empty_figure
from salsa.report.landscape import looks
from salsa.report.landscape.findings import BARYCENTRE
from salsa.report.landscape.placement import around, beside
from salsa.report.schema import Metric

_PANEL, _AXIS = 3.9, 0.75
"""Widths in inches: of a panel, of the scale left of all."""
_LOWEST, _AROUND, _NOTE_LINE = 1.7, 1.95, 0.15
"""Heights in inches: of a panel at least, of what stands around the panels, of a line of notes."""
_FEWEST_LEVELS, _MOST_LEVELS = 10, 20
_MOST_TICKS = 7
_MAP = "viridis"
"""Even steps of the quantity look even, in colour, in grey, and to people with any colour vision."""
_EDGES = ((0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5))
# The same triangle for every plane: which points are neighbours must not depend on how far the models are apart.
_EVEN = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])
_ROOM = 0.03
"""Around what is drawn, of its extent."""
_HALO = withStroke(linewidth=2.6, foreground=PAPER)
_NAME_GAP, _LETTER, _CLEAR = 0.13, 0.045, 0.12  # inches: from a corner to its name, half a letter, beside a name
_ASIDE = 0.19
"""Inches between the marks of policies, and to those of models."""


def draw(landscape: Mapping[str, Any]) -> Figure | None:
    """Return the contour plot, a panel for each of judge, reward model and loss; None without a plane.

    Brighter is better in every panel. Policies stand at their foot on the plane: they lie off it.
    """
    plane, panels = landscape["plane"], list(looks.quantities(landscape))
    if plane is None or not panels:
        return None
    entries, columns = _entries(landscape), looks.legend_columns(len(panels))
    limits = _limits(landscape)
    shape = (limits[1][1] - limits[1][0]) / (limits[0][1] - limits[0][0])
    with matplotlib.rc_context(STYLE):
        width = _PANEL * max(2, len(panels))
        height = max(_LOWEST, (width - _AXIS) / max(2, len(panels)) * shape) + looks.legend_height(
            len(entries), columns
        )
        figure = empty_figure(width, height + _AROUND + _NOTE_LINE * (len(plane["models"]) + 1))
        axes = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
        for axis, (key, metric) in zip(axes, panels, strict=True):
            axis.set_title(looks.title(key, metric))
            filled = _contours(axis, plane, key, metric)
            bar = figure.colorbar(filled, ax=axis, orientation="horizontal", pad=0.02, aspect=30, shrink=0.9)
            _scale(bar, metric, _note(plane, key, metric))
            axis.set(xlim=limits[0], ylim=limits[1], aspect="equal")
            _marks(axis, landscape)
            axis.plot(*_best(plane, key), zorder=6, **looks.BEST)
            axis.set_xlabel(looks.plain(f"distance from {plane['models'][0]} towards {plane['models'][1]}"))
        axes[0].set_ylabel(looks.plain(f"distance from that line\ntowards {plane['models'][2]}"))
        looks.frame(figure, _title(landscape), _explanation(landscape), entries, columns)
    return figure


def _title(landscape: Mapping[str, Any]) -> str:
    first, second, third = landscape["plane"]["models"]
    return f"Soups on the plane through {first}, {second} and {third}"


def _explanation(landscape: Mapping[str, Any]) -> str:
    plane = landscape["plane"]
    feet = any(other["plane"] for other in landscape["others"])
    policies = "Policies stand at their foot, the nearest point of the plane, or are joined to it. " if feet else ""
    return (
        f"{looks.about(landscape)}{len(plane['points'])} soups (dots), {looks.asked(landscape)}; linear between the "
        f"dots; brighter is better. Distances: Euclidean, between weights. {policies}"
        f"Differences are paired, with {landscape['level']:.0%} intervals, which hold for these models only."
    )


def _limits(landscape: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Return the extent of what is drawn, on both axes."""
    places = [point["coordinates"] for point in landscape["plane"]["points"]]
    places += [other["plane"]["coordinates"] for other in landscape["others"] if other["plane"]]
    low, high = np.min(places, axis=0), np.max(places, axis=0)
    room = _ROOM * float(np.max(high - low))
    return [(float(start) - room, float(end) + room) for start, end in zip(low, high, strict=True)]


def _contours(axis: Any, plane: Mapping[str, Any], key: str, metric: Metric) -> Any:
    """Draw one quantity between the points of the grid; return what its colour bar is made of."""
    places = np.array([point["coordinates"] for point in plane["points"]])
    values = np.array([point["values"][key]["value"] for point in plane["points"]])
    triangles = _triangles([point["weights"] for point in plane["points"]])
    mesh = Triangulation(places[:, 0], places[:, 1], triangles)
    levels = _levels(values, plane["findings"][key]["resolution"])
    colours = f"{_MAP}_r" if metric.better == "low" else _MAP
    filled = axis.tricontourf(mesh, values, levels=levels, cmap=colours)
    axis.tricontour(mesh, values, levels=levels, colors=PAPER, linewidths=0.4, linestyles="solid", alpha=0.6)
    axis.plot(places[:, 0], places[:, 1], color=PAPER, marker=".", markersize=2.6, linestyle="none", alpha=0.8)
    axis.grid(visible=False)
    return filled


def _levels(values: Any, resolution: float | None) -> Any:
    """Return the levels of the contours, at round numbers and no closer than the data can tell points apart."""
    low, high = float(np.min(values)), float(np.max(values))
    most = _MOST_LEVELS if not resolution else int(np.clip((high - low) / resolution, _FEWEST_LEVELS, _MOST_LEVELS))
    return MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)


def _triangles(weights: Sequence[Sequence[float]]) -> Any:
    """Return the triangles between neighbouring points of the grid, without flat ones on its rim."""
    even = np.array(weights) @ _EVEN
    mesh = Triangulation(even[:, 0], even[:, 1])
    return mesh.triangles[~TriAnalyzer(mesh).get_flat_tri_mask(min_circle_ratio=0.01, rescale=False)]


def _scale(bar: Any, metric: Metric, note: str) -> None:
    bar.outline.set_visible(False)
    bar.set_ticks(bar.boundaries[:: -(-len(bar.boundaries) // _MOST_TICKS)])
    if metric.better == "low":
        bar.ax.invert_xaxis()
    bar.set_label(looks.unit(metric))
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


def _marks(axis: Any, landscape: Mapping[str, Any]) -> None:
    """Draw the triangle with its models' names, its barycentre, the midpoints of its edges, and the policies' feet."""
    plane = landscape["plane"]
    corners = np.array(plane["coordinates"])
    ring = np.vstack([corners, corners[:1]])
    axis.plot(ring[:, 0], ring[:, 1], color=INK, linewidth=1.1, zorder=4, path_effects=[_HALO])
    edges = np.array(_EDGES) @ corners
    axis.plot(edges[:, 0], edges[:, 1], zorder=5, **looks.EDGE)
    middle = corners.mean(axis=0)
    axis.plot(*middle, color=INK, zorder=6, **looks.CENTRE)
    axis.plot(corners[:, 0], corners[:, 1], "o", color=INK, markeredgecolor=PAPER, markersize=7.5, zorder=5)
    scale = _PANEL / float(np.ptp(axis.get_xlim()))  # inches a unit
    shown = [
        (number, other["plane"]["coordinates"]) for number, other in enumerate(landscape["others"]) if other["plane"]
    ]
    feet = np.array([foot for _, foot in shown]).reshape(-1, 2)
    names = [
        _name(axis, looks.plain(name), corner, corner - middle, feet, scale)
        for name, corner in zip(plane["models"], corners, strict=True)
    ]
    places = around(feet, np.vstack([corners, edges, middle, *names]), middle, _ASIDE / scale)
    for (number, foot), place in zip(shown, places, strict=True):
        # Beside its place and joined to it, where it would cover something.
        axis.plot(*zip(foot, place, strict=True), color=INK, linewidth=0.8, marker=".", markersize=4, zorder=6.5)
        # On a disc of paper: a colour alone would be lost on the contours.
        axis.plot(*place, zorder=7, **looks.DISC)
        axis.plot(*place, markersize=5.5, linestyle="none", zorder=7, **looks.policy(number))


def _name(axis: Any, text: str, corner: Any, outward: Any, feet: Any, scale: float) -> Any:
    """Write a model's name beside its corner, away from the triangle and the policies; return where its letters are."""
    half = np.array([_LETTER * len(text), 1.4 * _LETTER])
    way = beside(scale * corner, outward, half, _NAME_GAP, scale * feet, _CLEAR)
    sides = {"ha": "left" if way[0] > 0.35 else "right" if way[0] < -0.35 else "center"}
    sides["va"] = "bottom" if way[1] > 0.35 else "top" if way[1] < -0.35 else "center"
    look = {"fontweight": "bold", "color": INK, "path_effects": [_HALO], "zorder": 8}
    axis.annotate(text, corner, tuple(72 * _NAME_GAP * way), textcoords="offset points", **sides, **look)
    middle = corner + way * (_NAME_GAP + half) / scale
    return middle + np.linspace(-1, 1, len(text) + 1)[:, None] * (half[0] / scale, 0)


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
