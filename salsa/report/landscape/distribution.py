"""How statistics of many points vary together: one set of resampled clusters serves all points and contrasts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from salsa.evaluation.statistics import Estimate

Array = NDArray[np.float64]

_DATA_SETS = 200
"""How many made-up data sets the share by chance is averaged over; it is then known to about 1 %."""


@dataclass(frozen=True)
class Distribution:
    """A statistic of each point: on the data, `value` [points], and in each resample, `draws` [rounds, points].

    `draws` is None where there is only one cluster, and so no interval; `n` is the number of items behind a value.
    """

    value: Array
    draws: Array | None
    n: int

    def select(self, columns: Sequence[int]) -> "Distribution":
        """Return the distribution of some of the points, in the given order."""
        chosen = list(columns)
        return Distribution(self.value[chosen], None if self.draws is None else self.draws[:, chosen], self.n)

    def contrasts(self, coefficients: ArrayLike) -> "Distribution":
        """Return the linear combinations [combinations] of points with `coefficients` [combinations, points].

        They are paired: in every resample all points have the same items.
        """
        table = np.asarray(coefficients, dtype=np.float64)
        return Distribution(table @ self.value, None if self.draws is None else self.draws @ table.T, self.n)

    def estimates(self, level: float) -> list[Estimate]:
        """Return each point with its percentile interval."""
        if self.draws is None:
            return [Estimate(value, None, None, self.n) for value in self.value.tolist()]
        lows, highs = np.quantile(self.draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
        bounds = zip(self.value.tolist(), lows.tolist(), highs.tolist(), strict=True)
        return [Estimate(value, low, high, self.n) for value, low, high in bounds]

    def together(self, level: float) -> list[Estimate]:
        """Return each point with an interval that holds for all points together (see `band`)."""
        band = self.band(level)
        if band is None:
            return [Estimate(value, None, None, self.n) for value in self.value.tolist()]
        return [
            Estimate(value, low, high, self.n) for value, (low, high) in zip(self.value.tolist(), band, strict=True)
        ]

    def band(self, level: float) -> list[tuple[float, float]] | None:
        """Return an interval a point that all hold together in a share `level` of resamples (None without draws).

        value -+ c x standard error, with c the quantile of the largest deviation over the points ("sup-t").
        """
        if self.draws is None:
            return None
        error = self.draws.std(axis=0)
        deviation = np.abs(self.draws - self.value) / np.where(error > 0, error, np.inf)
        half = np.quantile(deviation.max(axis=1), level) * error
        return list(zip((self.value - half).tolist(), (self.value + half).tolist(), strict=True))

    def best_shares(self, sign: int) -> list[float] | None:
        """Return the share of resamples in which each point is the best, for sign 1 the highest, for -1 the lowest.

        Points that tie share a resample evenly, so the shares sum to 1. None without draws. A share is no probability
        of being best: see `chance_share`.
        """
        if self.draws is None:
            return None
        shares: list[float] = _highest(sign * self.draws).tolist()
        return shares

    def chance_share(self, sign: int) -> float | None:
        """Return the mean share that the best point would have if all points were equally good, with the same noise.

        The resamples' deviations from the data stand for data without differences, each of which is resampled in turn:
        a point that is ahead by chance is ahead in most resamples, too.
        """
        if self.draws is None:
            return None
        deviations = sign * (self.draws - self.value)
        return float(np.mean([_highest(data + deviations).max() for data in deviations[:_DATA_SETS]]))


def _highest(table: Array) -> Array:
    """Return the share of rows in which each column is the highest; columns that tie share a row evenly."""
    best = table == table.max(axis=1, keepdims=True)
    shares: Array = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares


class Resamples:
    """Clusters drawn with replacement, the same for every statistic; related items stay together."""

    def __init__(self, clusters: Sequence[str], rng: np.random.Generator, rounds: int) -> None:
        _, self._codes = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
        self.groups = int(self._codes.max()) + 1
        draws = rng.integers(self.groups, size=(rounds, self.groups)) + self.groups * np.arange(rounds)[:, None]
        counts = np.bincount(draws.ravel(), minlength=rounds * self.groups)
        self._counts = counts.reshape(rounds, self.groups).astype(np.float64)

    def ratios(self, numerators: Array, denominators: Array | None = None) -> Distribution:
        """Return sum / sum for each column of `numerators` [items, points] over `denominators` [items].

        Without denominators it is the mean of the items.
        """
        sizes = np.ones(len(numerators)) if denominators is None else denominators
        value = numerators.sum(axis=0) / sizes.sum()
        if self.groups < 2:
            return Distribution(value, None, len(numerators))
        sums = np.stack([self._by_cluster(column) for column in numerators.T], axis=1)
        draws = (self._counts @ sums) / (self._counts @ self._by_cluster(sizes))[:, None]
        return Distribution(value, draws, len(numerators))

    def _by_cluster(self, items: Array) -> Array:
        return np.bincount(self._codes, weights=items, minlength=self.groups).astype(np.float64)
