"""Means over replicates that share their questions, with intervals that hold the variation of both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from salsa.evaluation.comparisons import crossed_interval, trusted
from salsa.evaluation.resampling import Numbers, codes_of
from salsa.evaluation.sheet import Sheet
from salsa.evaluation.statistics import LEVEL, ROUNDS, Estimate, t_interval


@dataclass(frozen=True)
class Both:
    """The mean of replicates, each counting the same, with two intervals; `n` of either is that of the replicates.

    `t` is Student's interval over the replicates' means: it holds for these questions. `crossed` is the percentile
    bootstrap that draws replicates and clusters of questions independently (Owen 2007, "The pigeonhole bootstrap").
    It errs on the safe side: of what varies with replicate and question at once it counts three times the variance.
    `shown` names the one to trust: "t" for fewer than ten replicates, else "crossed".
    """

    value: float
    t: Estimate
    crossed: Estimate
    shown: str

    @property
    def estimate(self) -> Estimate:
        """The estimate with the interval to trust."""
        return self.t if self.shown == "t" else self.crossed


def interval(
    values: ArrayLike,
    clusters: Sequence[str],
    rng: np.random.Generator,
    rounds: int = ROUNDS,
    level: float = LEVEL,
) -> Both:
    """Return the mean over replicates of the means of `values` [replicates, questions], in their unit.

    NaN stands for a reply that is not there; a replicate without any is left out. `clusters` names each question's
    cluster: related questions are drawn together. Errors as in `interval_of_suites`.
    """
    return interval_of_suites([values], [clusters], rng, rounds, level)


def interval_of_suites(
    tables: Sequence[ArrayLike],
    clusters: Sequence[Sequence[str]],
    rng: np.random.Generator,
    rounds: int = ROUNDS,
    level: float = LEVEL,
) -> Both:
    """Return the mean over replicates of the unweighted mean over suites of the suites' means.

    `tables` holds one [replicates, questions] array a suite, with the same replicates in the same order. A replicate
    is drawn in all suites together, and so is a cluster that occurs in several. A replicate that has nothing in some
    suite is left out. There is no crossed interval where a suite has fewer than two clusters. Raises ValueError for
    no suite, shapes that do not fit, infinite numbers, and where no replicate is left.
    """
    suites = [np.asarray(table, dtype=np.float64) for table in tables]
    _check(suites, clusters)
    there = np.all([~np.isnan(table).all(axis=1) for table in suites], axis=0)
    if not there.any():
        raise ValueError("no replicate has a value in every suite: leave the mean out to show it as missing")
    sheet = _sheet([table[there] for table in suites], [name for names in clusters for name in names])
    shape = (len(suites), int(there.sum()))
    means = sheet.values().reshape(shape).mean(axis=0)
    above, below = (sums.reshape(-1, *shape) for sums in sheet.sums())
    value = float(means.mean())
    crossed = Estimate(value, None, None, len(means))
    if np.count_nonzero(below.any(axis=2), axis=0).min() > 1:
        crossed = crossed_interval(above, below, value, rng, rounds, level)
    return Both(value, t_interval(means, level), crossed, trusted(len(means)))


def _check(suites: Sequence[Numbers], clusters: Sequence[Sequence[str]]) -> None:
    if not suites:
        raise ValueError("no suites: a mean needs at least one")
    if len(suites) != len(clusters):
        raise ValueError(f"{len(suites)} suites, but clusters of {len(clusters)}: each suite needs those of its own")
    for table, names in zip(suites, clusters, strict=True):
        if table.ndim != 2 or not table.size:
            raise ValueError(f"values must be [replicates, questions], one of each at least; found {table.shape}")
        if table.shape[1] != len(names):
            raise ValueError(f"{table.shape[1]} questions, but {len(names)} clusters: each question needs its cluster")
        if len(table) != len(suites[0]):
            raise ValueError(f"suites of {len(suites[0])} and {len(table)} replicates: each needs all replicates")
        if np.isinf(table).any():
            replicate, question = np.argwhere(np.isinf(table))[0]
            raise ValueError(f"value of replicate {replicate}, question {question} is not a finite number")


def _sheet(suites: Sequence[Numbers], clusters: Sequence[str]) -> Sheet:
    """Return the sheet whose items are all suites' questions; each replicate has one column a suite, suite by suite."""
    ends = np.cumsum([table.shape[1] for table in suites])
    count, items = len(suites[0]), int(ends[-1])
    above = np.zeros((items, len(suites) * count))
    below = np.zeros_like(above)
    for suite, (table, end) in enumerate(zip(suites, ends, strict=True)):
        block = np.s_[end - table.shape[1] : end, suite * count : (suite + 1) * count]
        above[block], below[block] = np.nan_to_num(table.T), ~np.isnan(table.T)
    return Sheet(
        models=tuple(f"{suite}/{replicate}" for suite in range(len(suites)) for replicate in range(count)),
        categories=("",) * items,
        turns=(1,) * items,
        clusters=codes_of(clusters)[0],
        above=above,
        below=below,
    )
