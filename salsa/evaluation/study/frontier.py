"""Fronts: gold reward against the distance sqrt(KL) from a common anchor, so that arms compare at matched KL.

After Gao, Schulman and Hilton 2022, "Scaling laws for reward model overoptimization" (arXiv 2210.10760). KL is in nats
a reply. All arms take theirs to one anchor (SFT1, say), never each to its own reference.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from salsa.evaluation.resampling import Numbers
from salsa.evaluation.statistics import LEVEL, Estimate, t_interval

Span = tuple[float, float]
"""A range of KL in nats: its least and its greatest."""


@dataclass(frozen=True)
class Front:
    """The gold reward of one replicate of an arm at ascending, distinct `kl`: linear in sqrt(KL) between its points."""

    kl: Numbers
    gold: Numbers

    @property
    def distance(self) -> Numbers:
        """The distances d = sqrt(KL) of the points."""
        return np.sqrt(self.kl)

    def at(self, levels: Sequence[float]) -> list[float | None]:
        """Return the gold reward at KL `levels` in nats, None outside the range of the points."""
        return [None if np.isnan(height) else float(height) for height in self.heights(levels)]

    def heights(self, levels: Sequence[float]) -> Numbers:
        """Return what `at` does as an array [levels], NaN standing for None."""
        wanted = np.sqrt(np.asarray(levels, dtype=np.float64))
        return np.interp(wanted, self.distance, self.gold, left=np.nan, right=np.nan)

    def area(self, span: Span) -> float:
        """Return the integral of gold over d = sqrt(KL) across `span`; divided by its width in d, the mean gold there.

        Raises ValueError for a span that the points do not cover.
        """
        low, high = span
        if not self.kl[0] <= low <= high <= self.kl[-1]:
            raise ValueError(f"no area from KL {low} to {high}: the points reach from {self.kl[0]} to {self.kl[-1]}")
        inner = self.kl[(self.kl > low) & (self.kl < high)]
        levels = np.concatenate([[low], inner, [high]])
        return float(np.trapezoid(self.heights(levels.tolist()), np.sqrt(levels)))

    def peak(self) -> tuple[float, float]:
        """Return the highest gold reward of the points and its KL, of equal ones the least.

        As a maximum of noisy values it lies above the true one on average, the more so the more points there are.
        """
        best = int(np.argmax(self.gold))
        return float(self.gold[best]), float(self.kl[best])


def front(kl: ArrayLike, gold: ArrayLike) -> Front:
    """Return the front of a replicate's points [points]: its coefficients and checkpoints, in any order.

    Points of equal KL become their mean. An estimate of KL that chance has put below 0 counts as 0. Raises ValueError
    for no points, lengths that differ, and numbers that are not finite.
    """
    levels, rewards = np.asarray(kl, dtype=np.float64), np.asarray(gold, dtype=np.float64)
    if levels.ndim != 1 or levels.shape != rewards.shape or not len(levels):
        raise ValueError(f"a front needs one gold reward a KL, and one at least; found {rewards.shape}, {levels.shape}")
    for name, numbers in (("KL", levels), ("gold reward", rewards)):
        if not np.isfinite(numbers).all():
            raise ValueError(f"the {name} of point {int(np.argmin(np.isfinite(numbers)))} is not a finite number")
    levels = np.maximum(levels, 0.0)
    # By the root: two levels may be so close that theirs are the same.
    _, places, codes = np.unique(np.sqrt(levels), return_index=True, return_inverse=True)
    return Front(levels[places], np.bincount(codes, weights=rewards) / np.bincount(codes))


def common_span(fronts: Sequence[Front]) -> Span | None:
    """Return the range of KL that all fronts cover, None where they have none; take those of all compared arms."""
    low, high = max(each.kl[0] for each in fronts), min(each.kl[-1] for each in fronts)
    return (float(low), float(high)) if low < high else None


def even_levels(span: Span, count: int) -> list[float]:
    """Return `count` KL levels from one end of `span` to the other, at equal steps of sqrt(KL): a curve's support."""
    inner = np.linspace(math.sqrt(span[0]), math.sqrt(span[1]), count)[1:-1] ** 2
    # The square of a root may miss the end by its last bit, and would then lie outside.
    return [span[0], *inner.tolist(), span[1]]


@dataclass(frozen=True)
class Matched:
    """Gold reward, or a difference of it, at one KL level: over the replicates that reach it; `outside` do not."""

    kl: float
    gold: Estimate | None
    outside: int


def matched(fronts: Sequence[Front], levels: Sequence[float], level: float = LEVEL) -> list[Matched]:
    """Return an arm's gold reward at KL `levels` in nats, with t intervals over its replicates' fronts."""
    return _matched(np.stack([each.heights(levels) for each in fronts]), levels, level)


def matched_difference(
    first: Sequence[Front], second: Sequence[Front], levels: Sequence[float], level: float = LEVEL
) -> list[Matched]:
    """Return by how much the gold reward of `first` is above that of `second` at the same KL, replicate by replicate.

    A replicate counts where both arms reach the level. Raises ValueError for different numbers of replicates.
    """
    gaps = [one.heights(levels) - other.heights(levels) for one, other in _pairs(first, second)]
    return _matched(np.stack(gaps), levels, level)


def _matched(heights: Numbers, levels: Sequence[float], level: float) -> list[Matched]:
    found = []
    for kl, column in zip(levels, heights.T, strict=True):
        there = column[~np.isnan(column)]
        found.append(Matched(kl, t_interval(there, level) if len(there) else None, len(column) - len(there)))
    return found


def area(fronts: Sequence[Front], span: Span, level: float = LEVEL) -> Estimate:
    """Return the area under an arm's fronts across `span` (gold times sqrt(nat)), with a t interval over replicates.

    Raises ValueError for a front that does not cover `span`.
    """
    return t_interval([each.area(span) for each in fronts], level)


def area_difference(first: Sequence[Front], second: Sequence[Front], span: Span, level: float = LEVEL) -> Estimate:
    """Return the paired difference of two arms' areas across `span`; errors as in `area`."""
    return t_interval([one.area(span) - other.area(span) for one, other in _pairs(first, second)], level)


def _pairs(first: Sequence[Front], second: Sequence[Front]) -> list[tuple[Front, Front]]:
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} fronts: a paired difference needs the same replicates")
    return list(zip(first, second, strict=True))


@dataclass(frozen=True)
class Peak:
    """The mean over replicates of the highest gold reward and of its KL in nats."""

    gold: Estimate
    kl: Estimate


def peak(fronts: Sequence[Front], level: float = LEVEL) -> Peak:
    """Return where an arm's fronts are highest, with t intervals over replicates; biased upwards as `Front.peak` is."""
    golds, kls = zip(*(each.peak() for each in fronts), strict=True)
    return Peak(t_interval(golds, level), t_interval(kls, level))
