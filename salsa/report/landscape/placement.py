"""Where marks and names stand that would cover each other: beside their true place, as near to it as there is room."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_DIRECTIONS = 24


def along(values: Sequence[float], taken: Sequence[float], least: float) -> list[float]:
    """Return places on an axis, each the nearest to its value that is `least` from those taken and from each other.

    Steps are of half that distance, to the left and to the right in turn; values are served by size.
    """
    placed: dict[int, float] = {}
    for index in sorted(range(len(values)), key=lambda index: values[index]):
        used = [*taken, *placed.values()]
        shifts = (side * step * least / 2 for step in itertools.count() for side in (-1, 1))
        places = (values[index] + shift for shift in shifts)
        # A little less, or rounding would refuse the very next place.
        placed[index] = next(at for at in places if all(abs(at - other) >= 0.999 * least for other in used))
    return [placed[index] for index in range(len(values))]


def around(points: Array, taken: Array, centre: Array, least: float) -> Array:
    """Return places in the plane [points, 2], each `least` from those taken and from each other.

    A point without room moves onto circles around it, as near as there is room, and away from `centre` rather than
    towards it.
    """
    placed = np.empty((0, 2))
    for point in points:
        used = np.vstack([taken, placed])
        # Of as many circles as there are marks, the last has room in any case.
        circles = (_circle(point, centre, step * least) for step in range(1, len(used) + 2))
        choices = np.vstack([point, *circles])
        gaps = np.linalg.norm(choices[:, None] - used, axis=2).min(axis=1, initial=np.inf)
        placed = np.vstack([placed, choices[np.flatnonzero(gaps >= 0.999 * least)[0]]])
    return placed


def _circle(point: Array, centre: Array, radius: float) -> Array:
    """Return places on a circle, the one that is farthest from `centre` first, then to both sides of it in turn."""
    outward = np.arctan2(*(point - centre)[::-1])
    turns = [side * step * 2 * np.pi / _DIRECTIONS for step in range(_DIRECTIONS // 2 + 1) for side in (-1, 1)]
    angles = outward + np.array(turns)
    return point + 1.05 * radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def beside(corner: Array, outward: Array, half: Array, gap: float, taken: Array, clear: float) -> Array:
    """Return the direction [2] in which a text of size 2 x `half` stands beside `corner`, `gap` away from it.

    Outward, or turned as little as leaves `clear` to all places that are taken. Everything is in one unit of length.
    """
    straight = np.arctan2(outward[1], outward[0])
    choices = []
    for turn in np.radians([0, 25, -25, 50, -50, 75, -75, 100, -100]):
        way = np.array([np.cos(straight + turn), np.sin(straight + turn)])
        apart = np.maximum(np.abs(taken - corner - way * (gap + half)) - half, 0)
        choices.append((min(float(np.min(np.linalg.norm(apart, axis=1), initial=np.inf)), clear), way))
    return max(choices, key=lambda choice: choice[0])[1]
