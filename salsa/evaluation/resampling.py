"""The bootstrap by weights: how often each cluster is drawn, and what ratios become under such draws."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
# Resampled counts are made in blocks of about this many numbers, which stay in the processor's cache: twice as fast.
BLOCK = 60_000


def drawn_counts(groups: int, rounds: int, rng: np.random.Generator) -> Iterator[Numbers]:
    """Yield blocks [some rounds, groups] of how often each group is drawn, with replacement, as many as there are.

    Such counts are multinomial; counting uniform draws is much faster than drawing multinomials.
    """
    size = max(1, BLOCK // groups)
    for start in range(0, rounds, size):
        block = min(rounds - start, size)
        draws = rng.integers(groups, size=(block, groups))
        draws += groups * np.arange(block)[:, None]
        yield np.bincount(draws.ravel(), minlength=block * groups).reshape(block, groups).astype(np.float64)


def codes_of(names: Sequence[str]) -> tuple[NDArray[np.int64], int]:
    """Return a number for each name, equal for equal names, and how many there are."""
    known: dict[str, int] = {}
    codes = np.fromiter((known.setdefault(name, len(known)) for name in names), dtype=np.int64, count=len(names))
    return codes, len(known)


def ratio_draws(above: Numbers, below: Numbers, rounds: int, rng: np.random.Generator) -> Numbers:
    """Return [rounds, columns] of sum(above) / sum(below) over clusters [clusters, columns] drawn with replacement.

    All columns see the same draws. A round in which nothing of a column is drawn is NaN there.
    """
    both = np.concatenate([above, below], axis=1)
    columns = above.shape[1]
    found = []
    for counts in drawn_counts(len(above), rounds, rng):
        sums = counts @ both
        with np.errstate(invalid="ignore", divide="ignore"):
            found.append(np.where(sums[:, columns:] > 0, sums[:, :columns] / sums[:, columns:], np.nan))
    return np.concatenate(found)


def percentiles(draws: Numbers, level: float) -> tuple[Numbers, Numbers]:
    """Return the ends of the central interval of each column of [rounds, columns]; NaN where a column has no draw.

    Rounds that are NaN are left out.
    """
    tail = (1 - level) / 2
    low, high = np.full(draws.shape[1], np.nan), np.full(draws.shape[1], np.nan)
    whole = ~np.isnan(draws).any(axis=0)
    if whole.any():
        low[whole], high[whole] = np.quantile(draws[:, whole], [tail, 1 - tail], axis=0)
    for column in np.flatnonzero(~whole):
        usable = draws[~np.isnan(draws[:, column]), column]
        if len(usable):
            low[column], high[column] = np.quantile(usable, [tail, 1 - tail])
    return low, high
