"""Lines and planes through models in weight space: grids of affine weights, coordinates, projections, barriers.

Everything follows from affine weights and inner products of weight differences; no weight vector is ever held here.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

Weights = tuple[float, ...]
"""Affine weights of models: they sum to 1, and are negative or above 1 outside the models' hull."""

# A squared length below this share of the whole is rounding: inner products carry about 13 digits.
_ROUNDING = 1e-12


def line_grid(intervals: int, beyond: float = 0.0) -> list[Weights]:
    """Return the weights (1 - alpha, alpha) of a grid on the line through two models, by rising alpha.

    [0, 1] is cut into so many equal `intervals`, and the same spacing goes on beyond both ends as far as `beyond`; the
    midpoint is always there. Each weight is a fraction rounded once, so a grid with a multiple of the intervals holds
    these very numbers, bit for bit. Raises ValueError for fewer than one interval or a negative `beyond`.
    """
    margin = _margin(intervals, beyond)
    grid = {((intervals - k) / intervals, k / intervals) for k in range(-margin, intervals + margin + 1)}
    return sorted(grid | {barycentre(2)}, key=lambda weights: weights[1])


def plane_grid(intervals: int, beyond: float = 0.0) -> list[Weights]:
    """Return the weights of a lattice on the plane through three models, sorted by the second and third weight.

    The weights are multiples of 1 / `intervals`, every one between -beyond and 1 + beyond: the triangle, and around it
    a margin of even width with its corners cut. The barycentre and the midpoints of the edges are always there. Nested
    like `line_grid`: a multiple of the intervals only adds points. Needs no weights to be trained, only their number.
    Raises ValueError for fewer than one interval or a negative `beyond`.
    """
    margin = _margin(intervals, beyond)
    span = range(-margin, intervals + margin + 1)
    lattice = [(intervals - j - k, j, k) for j, k in itertools.product(span, span) if intervals - j - k in span]
    grid = {tuple(count / intervals for count in counts) for counts in lattice}
    grid |= {(0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5), barycentre(3)}
    return sorted(grid, key=lambda weights: weights[1:])


def _margin(intervals: int, beyond: float) -> int:
    """Return how many intervals fit between 1 and 1 + beyond, which is taken as the fraction that was meant."""
    if intervals < 1:
        raise ValueError(f"intervals is {intervals}; a grid needs at least 1")
    if not (math.isfinite(beyond) and beyond >= 0):
        raise ValueError(f"beyond is {beyond}; it must be 0 or more")
    return math.floor(Fraction(beyond).limit_denominator(10**6) * intervals)


def barycentre(count: int) -> Weights:
    """Return the equal weights of `count` models, as the grids have them."""
    return (1 / count,) * count


@dataclass(frozen=True)
class Projection:
    """The foot of a model's perpendicular on a line or plane: its coordinates, its affine weights, how far it is off.

    `off` and `distances` (to each of the models that span the line or plane) are Euclidean, in weight space.
    """

    coordinates: tuple[float, ...]
    weights: Weights
    off: float
    distances: tuple[float, ...]


@dataclass(frozen=True)
class Frame:
    """Orthonormal coordinates on the line or plane through models, in Euclidean weight distance.

    The origin is the first model; the first axis runs along theta_2 - theta_1, the second along the part of
    theta_3 - theta_1 that is orthogonal to it. `models` [n, n - 1] holds the models' own coordinates.
    """

    models: NDArray[np.float64]

    def coordinates(self, weights: ArrayLike) -> NDArray[np.float64]:
        """Return the coordinates [..., n - 1] of points given by affine weights [..., n] of the models."""
        return np.asarray(weights, dtype=np.float64) @ self.models

    def project(self, products: ArrayLike, square: float) -> Projection:
        """Return where another model theta falls on this line or plane.

        `products` [n - 1] are its inner products <theta - theta_1, theta_i - theta_1> with the models after the
        first, `square` is |theta - theta_1|^2. A remainder within the rounding of the inner products counts as 0.
        """
        lower = self.models[1:]
        place = np.linalg.solve(lower, np.asarray(products, dtype=np.float64))
        later = np.linalg.solve(lower.T, place)
        rest = square - float(place @ place)
        off = math.sqrt(rest) if rest > _ROUNDING * square else 0.0
        distances = np.hypot(np.linalg.norm(self.models - place, axis=1), off)
        weights = (1 - math.fsum(later), *later.tolist())
        return Projection(tuple(place.tolist()), weights, off, tuple(distances.tolist()))


def frame(gram: ArrayLike, names: Sequence[str]) -> Frame:
    """Return the coordinates on the line (two models) or plane (three) through the models called `names`.

    `gram` [n - 1, n - 1] holds the inner products <theta_i - theta_1, theta_j - theta_1> of the models after the
    first. Gram-Schmidt on the differences is the Cholesky factor of this matrix, row by row.
    Raises ValueError, naming the model, for a model that lies on the others' line or equals one of them.
    """
    products = np.asarray(gram, dtype=np.float64)
    count = len(names)
    if products.shape != (count - 1, count - 1):
        raise ValueError(f"gram has shape {products.shape}; {count} models need {(count - 1, count - 1)}")
    models = np.zeros((count, count - 1))
    for row in range(count - 1):
        place = models[row + 1]
        for column in range(row):
            other = models[column + 1]
            place[column] = (products[row, column] - place[:column] @ other[:column]) / other[column]
        rest = products[row, row] - float(place @ place)
        if not rest > _ROUNDING * products[row, row]:
            raise ValueError(_degenerate(names, row + 1))
        place[row] = math.sqrt(rest)
    return Frame(models)


def _degenerate(names: Sequence[str], index: int) -> str:
    """Return what is wrong with a model that adds no direction to those before it."""
    if index == 1:
        return f"{names[1]} has the weights of {names[0]}: no line runs through them; name two different models"
    return (
        f"{names[index]} lies on the line through {' and '.join(names[:index])}: they span no plane; "
        "name three models of which none is a mixture of the others"
    )


@dataclass(frozen=True)
class Barrier:
    """The height of a barrier on a line, in the units of the quantity, and the alpha where it is highest."""

    height: float
    alpha: float


def barrier(alphas: ArrayLike, losses: ArrayLike) -> Barrier:
    """Return how far `losses` (lower is better) rise above the chord between the ends, at most, within [0, 1].

    max over alpha of L(alpha) - [(1 - alpha) L(0) + alpha L(1)], the definition of Entezari et al. (2022); Frankle et
    al. (2020) subtract the mean of the ends, which is the same where both ends are equally good. Never negative, as
    the ends count. For a reward, give its negative. Raises ValueError without points at alpha = 0 and 1.
    """
    places, values = np.asarray(alphas, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    excess = above_chord(places, values)
    inside = np.flatnonzero((places >= 0) & (places <= 1))
    highest = inside[np.argmax(excess[inside])]
    return Barrier(max(0.0, float(excess[highest])), float(places[highest]))


def above_chord(alphas: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `values` [..., points] minus the straight line through those at alpha = 0 and alpha = 1."""
    first, last = np.flatnonzero(alphas == 0), np.flatnonzero(alphas == 1)
    if not (len(first) and len(last)):
        raise ValueError(f"no chord: alpha runs over {alphas.tolist()}, which lacks 0 or 1")
    return values - (values[..., first[:1]] * (1 - alphas) + values[..., last[:1]] * alphas)
