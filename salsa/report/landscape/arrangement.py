"""Where things stand on the panels of the plane: names and policies beside each other, and all within the axes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salsa.report.landscape.placement import around, beside

Array = NDArray[np.float64]

EDGES = ((0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5))
"""Weights of the midpoints of the triangle's edges."""
_ROUNDS = 4
_SIDE = 16
"""Places that stand for a side of the triangle."""
_GAP, _LETTER, _CLEAR = 0.13, 0.047, 0.12
"""Inches: from a corner to its name, half a letter, and the room beside a name."""
_ASIDE, _MARK = 0.19, 0.12
"""Inches: between the marks of policies, and to those of models; from the middle of a mark to the edge of a panel."""


@dataclass(frozen=True)
class Name:
    """A model's name: its corner, the direction in which it stands `gap` inches away, and where its letters are."""

    text: str
    corner: Array
    way: Array
    letters: Array
    gap: float = _GAP


@dataclass(frozen=True)
class Arrangement:
    """The same in every panel: `feet` are those of the policies, `places` where their marks stand.

    `taken` is all that a label should not cover, `limits` [2, 2] the least and greatest x and y; `scale` is inches a
    unit of length.
    """

    names: Sequence[Name]
    feet: Array
    places: Array
    taken: Array
    limits: Array
    scale: float


def arrange(landscape: Mapping[str, Any], inches: float) -> Arrangement:
    """Return an arrangement in which everything has room in panels that are so many `inches` wide."""
    plane = landscape["plane"]
    corners, dots = (np.array(each) for each in (plane["coordinates"], [at["coordinates"] for at in plane["points"]]))
    middle = corners.mean(axis=0)
    feet = np.array([other["plane"]["coordinates"] for other in landscape["others"] if other["plane"]]).reshape(-1, 2)
    inner = np.vstack([corners, np.array(EDGES) @ corners, middle])
    seen = np.vstack([dots, feet])
    # How much room a name takes depends on the scale, and the scale on how much room the names take.
    for _ in range(_ROUNDS):
        scale = inches / float(np.ptp(seen[:, 0]))
        names = [_name(*each, middle, feet, scale) for each in zip(plane["models"], corners, strict=True)]
        marks = np.vstack([inner, *(name.letters for name in names)])
        places = around(feet, marks, middle, _ASIDE / scale)
        marks = np.vstack([marks, places])
        seen = np.vstack([dots, marks])
        limits = np.stack([seen.min(axis=0), seen.max(axis=0)]) + np.array([[-1], [1]]) * _MARK / scale
        seen = np.vstack([seen, limits])
    sides = [(1 - share) * corners + share * np.roll(corners, 1, axis=0) for share in np.linspace(0, 1, _SIDE)]
    return Arrangement(names, feet, places, np.vstack([marks, feet, *sides]), limits, scale)


def _name(text: str, corner: Array, middle: Array, feet: Array, scale: float) -> Name:
    """Return where a model's name stands: away from the triangle and from the policies."""
    half = np.array([_LETTER * len(text), 1.4 * _LETTER])
    way = beside(scale * corner, corner - middle, half, _GAP, scale * feet, _CLEAR)
    letters = np.linspace(-1, 1, len(text) + 1)[:, None] * (half[0] / scale, 0)
    return Name(text, corner, way, corner + way * (_GAP + half) / scale + letters)
