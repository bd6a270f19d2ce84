"""One quantity on the plane: its shading, and lines of equal height no closer than the data tell points apart."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.patheffects import withStroke
from matplotlib.tri import TriAnalyzer, Triangulation
from numpy.typing import NDArray

from salsa.report.figures import INK, PAPER
from salsa.report.landscape import looks
from salsa.report.schema import Metric

Array = NDArray[np.float64]

_MOST_LINES = 20
_MOST_LABELS = 5
_SHADES = 48
"""Fill levels, too fine to be seen one by one."""
_FEWEST_STEPS = 6
"""Steps that the whole range of colours stands for at least: differences that may be noise have nearly one colour."""
_ROUNDING = 1e-9
"""Of the values: those that differ by less are equal."""
_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)
_MAP = "viridis"
"""Even steps of the quantity look even, in colour, in grey, and to people with any colour vision."""
# The same triangle for every plane: which points are neighbours must not depend on how far the models are apart.
_EVEN = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])
_LETTER, _HEIGHT, _CLEAR = 0.032, 0.055, 0.05
"""Inches: half a letter of a label, half its height, and the room around it."""
_SPOTS, _SPOTS_OF_RIM = 60, 6
"""Places that are tried along each piece of a line, and that stand for each outer edge of the mesh."""


@dataclass(frozen=True)
class Levels:
    """Heights of the lines, `step` apart, and the ends of the colours."""

    lines: Sequence[float]
    step: float
    low: float
    high: float


def levels(values: Array, resolution: float | None) -> Levels:
    """Return lines at round numbers between the lowest and the highest value, `resolution` apart or farther.

    There are at most 20, and none at all where the values differ by less than the data tell apart.
    """
    low, high = float(np.min(values)), float(np.max(values))
    if high - low <= _ROUNDING * max(abs(low), abs(high)):
        return Levels((), 0.0, low - 0.5, high + 0.5)
    least = max((high - low) / _MOST_LINES, resolution or 0.0)
    unit = 10.0 ** math.floor(math.log10(least))
    # A little less, or rounding would pass over a step that is exactly enough.
    step = next(unit * factor for factor in _ROUND if unit * factor >= least * (1 - 1e-9))
    apart = high - low >= (resolution or 0.0)
    numbers = range(math.floor(low / step) + 1, math.ceil(high / step)) if apart else ()
    spare = max(0.0, _FEWEST_STEPS * step - (high - low)) / 2 if resolution else 0.0
    return Levels([number * step for number in numbers], step, low - spare, high + spare)


@dataclass(frozen=True)
class Drawn:
    """What was drawn of a quantity: its levels, its shading, its lines (None without any), and places along its rim."""

    metric: Metric
    levels: Levels
    shading: Any
    lines: Any
    rim: Array


def draw(axis: Any, plane: Mapping[str, Any], key: str, metric: Metric) -> Drawn:
    """Draw one quantity, linear between the points of the grid."""
    places = np.array([point["coordinates"] for point in plane["points"]])
    values = metric.scale * np.array([point["values"][key]["value"] for point in plane["points"]])
    mesh = Triangulation(places[:, 0], places[:, 1], _triangles([point["weights"] for point in plane["points"]]))
    resolution = plane["findings"][key]["resolution"]
    found = levels(values, None if resolution is None else metric.scale * resolution)
    shades = np.linspace(found.low, found.high, _SHADES + 1)
    shading = axis.tricontourf(mesh, values, levels=shades, cmap=f"{_MAP}_r" if metric.better == "low" else _MAP)
    # Without edges of their own colour, neighbouring shades would show a seam.
    shading.set(edgecolor="face", linewidth=0.3)
    look = {"colors": PAPER, "linewidths": 0.7, "linestyles": "solid"}
    lines = axis.tricontour(mesh, values, levels=found.lines, **look) if found.lines else None
    axis.plot(places[:, 0], places[:, 1], color=PAPER, marker=".", markersize=2.6, linestyle="none", alpha=0.8)
    axis.grid(visible=False)
    return Drawn(metric, found, shading, lines, _rim(mesh))


def _rim(mesh: Triangulation) -> Array:
    """Return places along the outer edges of a mesh [places, 2]."""
    triangle, side = np.nonzero(mesh.neighbors < 0)
    first, second = mesh.triangles[triangle, side], mesh.triangles[triangle, (side + 1) % 3]
    corners = np.stack([mesh.x, mesh.y], axis=1)
    shares = np.linspace(0, 1, _SPOTS_OF_RIM)[:, None, None]
    return np.concatenate((1 - shares) * corners[first] + shares * corners[second])


def _triangles(weights: Sequence[Sequence[float]]) -> Any:
    """Return the triangles between neighbouring points of the grid, without flat ones on its rim."""
    even = np.array(weights) @ _EVEN
    mesh = Triangulation(even[:, 0], even[:, 1])
    return mesh.triangles[~TriAnalyzer(mesh).get_flat_tri_mask(min_circle_ratio=0.01, rescale=False)]


def label(axis: Any, drawn: Drawn, taken: Array, scale: float) -> None:
    """Write the heights of some lines on them, each where it is farthest from all places that are taken.

    `scale` is inches a unit of length. A line without room for its label has none: the colour bar has it, too.
    """
    if drawn.lines is None:
        return
    taken = np.vstack([taken, drawn.rim])
    for height, path in labelled(drawn.levels, drawn.lines.get_paths()):
        text = in_words(height, drawn.levels.step)
        half = np.array([_LETTER * len(text), _HEIGHT]) / scale
        spots = _spots(path)
        apart = np.maximum(np.abs(spots[:, None] - taken) - half, 0)
        gaps = scale * np.linalg.norm(apart, axis=2).min(axis=1, initial=np.inf)
        if len(spots) and gaps.max() >= _CLEAR:
            spot = spots[int(np.argmax(gaps))]
            look = {"ha": "center", "va": "center", "fontsize": looks.NOTE - 0.5, "color": INK, "zorder": 7}
            axis.text(*spot, text, **look, path_effects=[withStroke(linewidth=2.2, foreground=PAPER)])
            taken = np.vstack([taken, spot + np.linspace(-1, 1, len(text) + 1)[:, None] * (half[0], 0)])


def labelled(found: Levels, each: Sequence[Any]) -> list[tuple[float, Any]]:
    """Return some of the lines, evenly chosen, with what belongs to each."""
    step = -(-len(found.lines) // _MOST_LABELS)
    return list(zip(found.lines, each, strict=True))[step // 2 :: max(step, 1)]


def _spots(path: Any) -> Array:
    """Return places along a line, evenly spread over its pieces."""
    pieces = [piece for piece in path.to_polygons(closed_only=False) if len(piece) > 1]
    spots = []
    for piece in pieces:
        steps = np.linalg.norm(np.diff(piece, axis=0), axis=1)
        along = np.concatenate([[0.0], np.cumsum(steps)])
        wanted = np.linspace(0, along[-1], _SPOTS)
        spots.append(np.stack([np.interp(wanted, along, piece[:, axis]) for axis in (0, 1)], axis=1))
    return np.vstack([np.empty((0, 2)), *spots])


def in_words(height: float, step: float) -> str:
    """Return the height of a line in the decimals that its step needs."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    # A step of 2.5 needs a decimal more than one of 2 or 5.
    decimals += round(step, decimals) != round(step, decimals + 1)
    return looks.minus(f"{height:.{decimals}f}")
