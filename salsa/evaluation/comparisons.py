"""Whether two models differ on the same questions; and a method's replicates, drawn together with questions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from salsa.evaluation.resampling import BLOCK, Numbers, drawn_counts, percentiles, ratio_draws
from salsa.evaluation.sheet import Sheet
from salsa.evaluation.statistics import Estimate, t_interval

FEW = 10
"""With fewer replicates than this, the t interval over replicates is the one to trust."""
EXACT = 12
"""Up to so many clusters every one of the 2 ** n exchanges is made."""


@dataclass(frozen=True)
class Difference:
    """How much more `first` has than `second` on the items that both have, with interval and p values.

    `p` is of the exchange test: under the null hypothesis the two models' results on a cluster may change places.
    `holm` is corrected for all differences that were tested together. `exact` says that all exchanges were made.
    """

    first: str
    second: str
    value: float
    low: float | None
    high: float | None
    p: float
    items: int
    clusters: int
    exact: bool
    holm: float = 1.0


def difference(
    sheet: Sheet, first: str, second: str, rng: np.random.Generator, rounds: int, level: float
) -> Difference | None:
    """Return the paired difference of two models, or None where they have no item in common."""
    columns = [sheet.column(first), sheet.column(second)]
    shared = sheet.of(np.all(sheet.below[:, columns] > 0, axis=1))
    if not len(shared.clusters):
        return None
    above, below = (sums[:, columns] for sums in shared.sums())
    value = _gap(above.sum(axis=0), below.sum(axis=0))
    low = high = None
    if len(above) > 1:
        draws = ratio_draws(above, below, rounds, rng)
        ends = percentiles((draws[:, 0] - draws[:, 1])[:, None], level)
        low, high = float(ends[0][0]), float(ends[1][0])
    p, exact = exchanged(above, below, rng, rounds)
    return Difference(first, second, value, low, high, p, len(shared.clusters), len(above), exact)


def _gap(above: Numbers, below: Numbers) -> float:
    return float(above[0] / below[0] - above[1] / below[1])


def exchanged(above: Numbers, below: Numbers, rng: np.random.Generator, rounds: int) -> tuple[float, bool]:
    """Return the p value of the exchange test on [clusters, 2], and whether every exchange was made.

    It is the share of exchanges of the two columns, cluster by cluster, whose gap is at least the observed one.
    """
    clusters = len(above)
    exact = clusters <= EXACT
    tops, bottoms = above.sum(axis=0), below.sum(axis=0)
    swaps = np.stack([above[:, 1] - above[:, 0], below[:, 1] - below[:, 0]], axis=1)
    least = abs(_gap(tops, bottoms)) - 1e-12
    extreme = made = 0
    for flips in _every_flip(clusters) if exact else _drawn_flips(clusters, rounds, rng):
        moved, borne = (flips @ swaps).T
        gaps = (tops[0] + moved) / (bottoms[0] + borne) - (tops[1] - moved) / (bottoms[1] - borne)
        extreme += int(np.count_nonzero(np.abs(gaps) >= least))
        made += len(flips)
    return (extreme / made if exact else (extreme + 1) / (made + 1)), exact


def _every_flip(clusters: int) -> Iterator[Numbers]:
    yield (np.arange(2**clusters)[:, None] >> np.arange(clusters) & 1).astype(np.float64)


def _drawn_flips(clusters: int, rounds: int, rng: np.random.Generator) -> Iterator[Numbers]:
    """Yield blocks [some rounds, clusters] of zeros and ones: all rounds at once may not fit in memory."""
    size = max(1, BLOCK // clusters)
    for start in range(0, rounds, size):
        yield rng.integers(2, size=(min(rounds - start, size), clusters), dtype=np.int8).astype(np.float64)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected by Holm's method for being the smallest of several."""
    order = np.argsort(p_values)
    found, least = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        found[index] = least
    return found


@dataclass(frozen=True)
class Replicates:
    """The mean of a method's replicates, with two intervals.

    `t` is the t interval over the replicates' values, `crossed` the bootstrap that draws replicates and clusters of
    questions independently. `shown` names the one to trust: "t" for fewer than ten replicates.
    """

    name: str
    models: tuple[str, ...]
    t: Estimate
    crossed: Estimate
    shown: str


def replicates(
    sheet: Sheet, name: str, models: Sequence[str], rng: np.random.Generator, rounds: int, level: float
) -> Replicates:
    """Return the mean of the models of one method (say, one a training seed), each counting the same.

    Raises ValueError for a model that is not on the sheet.
    """
    unknown = [model for model in models if model not in sheet.models]
    if unknown:
        raise ValueError(f"replicate {unknown[0]!r} of {name} is not among the models {', '.join(sheet.models)}")
    columns = [sheet.column(model) for model in models]
    values = sheet.values()[columns]
    above, below = (sums[:, columns] for sums in sheet.sums())
    return Replicates(
        name,
        tuple(models),
        t_interval(values, level),
        crossed_interval(above[:, None], below[:, None], float(values.mean()), rng, rounds, level),
        trusted(len(models)),
    )


def trusted(count: int) -> str:
    """Return which interval over `count` replicates is to be trusted: "t" for fewer than ten, else "crossed"."""
    return "t" if count < FEW else "crossed"


def crossed_interval(
    above: Numbers, below: Numbers, value: float, rng: np.random.Generator, rounds: int, level: float
) -> Estimate:
    """Return `value` with the percentile interval of drawing clusters and replicates independently of each other.

    `above` and `below` are sums [clusters, suites, replicates]. Suites count the same and see the same draws. A round
    passes over a replicate of which it drew nothing in some suite. No interval for one cluster or one replicate.
    """
    clusters, suites, count = above.shape
    if clusters < 2 or count < 2:
        return Estimate(value, None, None, count)
    columns = (clusters, suites * count)
    ratios = ratio_draws(above.reshape(columns), below.reshape(columns), rounds, rng)
    ratios = ratios.reshape(rounds, suites, count).mean(axis=1)
    weights = np.concatenate(list(drawn_counts(count, rounds, rng)))
    usable = np.where(np.isnan(ratios), 0.0, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (usable * np.nan_to_num(ratios)).sum(axis=1) / usable.sum(axis=1)
    low, high = percentiles(means[:, None], level)
    return Estimate(value, float(low[0]), float(high[0]), count)
