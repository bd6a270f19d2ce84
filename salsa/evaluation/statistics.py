"""Means, win rates and their intervals. Questions are resampled by cluster: related ones are not independent."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from salsa.evaluation.resampling import Numbers, drawn_counts, percentiles
from salsa.evaluation.scores import ScoredReply

ROUNDS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean of `n` values with its interval; `low` and `high` are None where the data cannot give an interval."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class WinRate:
    """The share of prompts won, a tie counting one half, with its interval and the counts behind it."""

    value: float
    low: float | None
    high: float | None
    wins: int
    ties: int
    losses: int

    @property
    def n(self) -> int:
        """Number of compared prompts."""
        return self.wins + self.ties + self.losses


def cluster_bootstrap_mean(
    values: ArrayLike,
    clusters: Sequence[str],
    rng: np.random.Generator,
    rounds: int = ROUNDS,
    level: float = LEVEL,
) -> Estimate:
    """Return the mean of `values` [n] with a percentile interval from resampling whole clusters with replacement.

    Values of one cluster stay together, so questions that share their subject do not count as independent. With
    one value a cluster this is the ordinary bootstrap. With a single cluster there is no interval. Raises
    ValueError for no values, non-finite values, or lengths that differ.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 1:
        raise ValueError(f"values must have one dimension, found shape {table.shape}")
    return cluster_bootstrap_means(table[:, None], clusters, rng, rounds, level)[0]


def cluster_bootstrap_means(
    table: ArrayLike,
    clusters: Sequence[str],
    rng: np.random.Generator,
    rounds: int = ROUNDS,
    level: float = LEVEL,
    *,
    gaps: bool = False,
) -> list[Estimate]:
    """Return an estimate for each column of `table` [n, columns], all from the same resamples of the clusters.

    One set of resamples serves every metric of a suite: it is faster, and the metrics' intervals are comparable. With
    `gaps` NaN stands for what is not there, as in `mean_of_suites`.
    """
    columns = np.asarray(table, dtype=np.float64)
    return mean_of_suites([columns], [clusters], rng, rounds, level, gaps=gaps)


def mean_of_suites(
    tables: Sequence[NDArray[np.float64]],
    clusters: Sequence[Sequence[str]],
    rng: np.random.Generator,
    rounds: int = ROUNDS,
    level: float = LEVEL,
    *,
    gaps: bool = False,
) -> list[Estimate]:
    """Return, for each column, the unweighted mean over suites of the suites' means, with a clustered interval.

    `tables` holds one [prompts, columns] array a suite. A cluster that occurs in several suites is drawn or left
    out in all of them together. Resamples in which some suite has nothing of a column are passed over for that
    column. There is no interval where a suite has fewer than two clusters. With `gaps` NaN stands for what is not
    there: a mean is then that of the others, and counts them alone. Raises ValueError for a column without any value
    in some suite, and for numbers that are not finite.
    """
    _check_tables(tables, clusters, gaps)
    _, codes = np.unique(np.concatenate([np.asarray(names, dtype=str) for names in clusters]), return_inverse=True)
    groups = int(codes.max()) + 1
    ends = np.cumsum([len(table) for table in tables])
    held = [_of_clusters(table, own, groups) for table, own in zip(tables, np.split(codes, ends[:-1]), strict=True)]
    # Column by column, so that a value does not depend, in its last bit, on which other columns there are.
    means = [[column[~np.isnan(column)].mean() for column in table.T] for table in tables]
    values = [float(np.mean(of_column)) for of_column in zip(*means, strict=True)]
    counts = np.sum([sizes.sum(axis=0) for _, sizes in held], axis=0)
    enough = np.min([np.count_nonzero(sizes, axis=0) for _, sizes in held], axis=0) > 1
    lows = highs = np.full(len(values), np.nan)
    if enough.any():
        lows, highs = percentiles(_resampled_means(held, rng, rounds), level)
    known = enough & ~np.isnan(lows)
    return [
        Estimate(value, float(low) if ends else None, float(high) if ends else None, int(count))
        for value, low, high, count, ends in zip(values, lows, highs, counts, known, strict=True)
    ]


def _check_tables(tables: Sequence[Numbers], clusters: Sequence[Sequence[str]], gaps: bool = False) -> None:
    if not tables:
        raise ValueError("no suites: a mean needs at least one")
    for table, names in zip(tables, clusters, strict=True):
        if table.ndim != 2 or len(table) == 0:
            raise ValueError(f"a mean needs at least one value, found an array of shape {table.shape}")
        if len(table) != len(names):
            raise ValueError(f"{len(table)} values, but {len(names)} clusters: each value needs its cluster")
        wrong = np.isinf(table) if gaps else ~np.isfinite(table)
        if wrong.any():
            raise ValueError(f"value {int(np.argwhere(wrong)[0][0])} is not a finite number")
        empty = np.isnan(table).all(axis=0)
        if empty.any():
            raise ValueError(f"column {int(np.argmax(empty))} has no value: leave it out to show it as missing")


def _of_clusters(table: Numbers, codes: NDArray[np.int64], groups: int) -> tuple[Numbers, Numbers]:
    """Return the sums and the numbers of what is there of each column of one suite, [clusters, columns]."""
    present = ~np.isnan(table)
    sums = [np.bincount(codes, weights=column, minlength=groups) for column in np.where(present, table, 0.0).T]
    sizes = [np.bincount(codes[there], minlength=groups) for there in present.T]
    return np.stack(sums, axis=1), np.stack(sizes, axis=1).astype(np.float64)


def _resampled_means(held: Sequence[tuple[Numbers, Numbers]], rng: np.random.Generator, rounds: int) -> Numbers:
    """Return [rounds, columns]: the mean over suites of sum / size, with clusters drawn with replacement.

    It is NaN where nothing of a column was drawn in some suite.
    """
    blocks = []
    for counts in drawn_counts(len(held[0][0]), rounds, rng):
        means = []
        for sums, sizes in held:
            drawn = counts @ sizes
            means.append((counts @ sums) / np.where(drawn > 0, drawn, np.nan))
        blocks.append(np.mean(means, axis=0))
    return np.concatenate(blocks)


def clustered_standard_error(values: ArrayLike, clusters: Sequence[str]) -> float | None:
    """Return the standard error of a mean of values [n] that agree within clusters (None for a single cluster).

    Linearisation of the ratio sum / size with the usual factor G / (G - 1) for G clusters (Liang and Zeger 1986):
    sqrt(G / (G - 1) * sum over clusters of (sum of the cluster's deviations from the mean) ** 2) / n.
    """
    table = np.asarray(values, dtype=np.float64)
    _check_tables([table[:, None]], [clusters])
    _, codes = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    totals = np.bincount(codes, weights=table - table.mean())
    if len(totals) < 2:
        return None
    return float(np.sqrt(len(totals) / (len(totals) - 1) * np.sum(totals**2)) / len(table))


def outcomes(
    scores_a: Sequence[ScoredReply], scores_b: Sequence[ScoredReply], tie_margin: float
) -> NDArray[np.float64]:
    """Return, for each reply of A in order, 1 if it beats B's reply to the same prompt, 0.5 for a tie, else 0.

    Judge scores that differ by no more than `tie_margin` are a tie. Raises ValueError naming the prompt where the
    two do not answer the same prompts, answer one twice, or lack a judge score.
    """
    if not tie_margin >= 0:
        raise ValueError(f"tie_margin is {tie_margin}; it must be 0 or more")
    a, b = _judge_scores(scores_a, "first"), _judge_scores(scores_b, "second")
    for present, absent, side in ((a, b, "second"), (b, a, "first")):
        missing = next((prompt for prompt in present if prompt not in absent), None)
        if missing is not None:
            raise ValueError(f"prompt {missing!r} has no reply by the {side} model; compare replies to one suite")
    return decided(np.array([score - b[prompt] for prompt, score in a.items()]), tie_margin)


def decided(differences: Numbers, tie_margin: float) -> Numbers:
    """Return 1 where a judge's score is higher by more than `tie_margin`, 0 where it is lower by more, 0.5 between."""
    return np.where(np.abs(differences) <= tie_margin, 0.5, np.where(differences > 0, 1.0, 0.0))


def _judge_scores(scores: Sequence[ScoredReply], side: str) -> dict[str, float]:
    judged: dict[str, float] = {}
    for reply in scores:
        if reply.prompt_id in judged:
            raise ValueError(f"prompt {reply.prompt_id!r} is answered twice by the {side} model")
        if reply.judge is None:
            raise ValueError(f"the reply of the {side} model to prompt {reply.prompt_id!r} has no judge score")
        judged[reply.prompt_id] = reply.judge
    return judged


def as_win_rate(estimate: Estimate, results: NDArray[np.float64]) -> WinRate:
    """Return an estimate of the mean of `results` together with their counts; NaN (no verdict) is not counted.

    Of a result, the share of a prompt's games that was won, more than one half is a win and one half a tie.
    """
    there = results[~np.isnan(results)]
    wins, losses = int(np.sum(there > 0.5)), int(np.sum(there < 0.5))
    return WinRate(estimate.value, estimate.low, estimate.high, wins, len(there) - wins - losses, losses)


def t_interval(values: ArrayLike, level: float = LEVEL) -> Estimate:
    """Return the mean of independent values [n] (say, one a replicate) with its Student t interval.

    With fewer than some ten replicates the bootstrap is too narrow and this is the interval to use. One value has
    no interval. Raises ValueError for no values or non-finite ones.
    """
    sample = np.asarray(values, dtype=np.float64)
    _check_tables([sample[:, None]], [[""] * len(sample)])
    n, mean = len(sample), float(sample.mean())
    if n < 2:
        return Estimate(mean, None, None, n)
    half = t_quantile((1 + level) / 2, n - 1) * float(sample.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


@lru_cache(maxsize=256)
def t_quantile(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t distribution with a whole number of degrees of freedom.

    Bisection on the angle atan(t / sqrt(freedom)), in which the distribution is a finite sum. Raises ValueError for
    a probability outside (0, 1) or freedom below 1.
    """
    if not 0 < probability < 1 or freedom < 1:
        raise ValueError(f"t_quantile needs 0 < probability < 1 and freedom >= 1, found {probability} and {freedom}")
    if probability < 0.5:
        return -t_quantile(1 - probability, freedom)
    low, high = 0.0, math.pi / 2
    while True:
        middle = (low + high) / 2
        if not low < middle < high:
            return math.sqrt(freedom) * math.tan(middle)
        if (1 + _t_central(middle, freedom)) / 2 < probability:
            low = middle
        else:
            high = middle


def _t_central(angle: float, freedom: int) -> float:
    """Return P(|T| < sqrt(freedom) tan(angle)): Abramowitz and Stegun, 26.7.3 (odd freedom) and 26.7.4 (even)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for order in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cosine**2 * (order - 1) / order
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
