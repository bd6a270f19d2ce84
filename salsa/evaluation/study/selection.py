"""Selection: the KL coefficient of an arm, chosen on a validation suite that the results do not report."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from salsa.evaluation.statistics import Estimate

RULE = "highest mean win rate against SFT1 on the validation suite; ties go to the larger coefficient"


@dataclass(frozen=True)
class Tried:
    """A KL coefficient and the win rate (a share) that it came to."""

    coefficient: float
    rate: Estimate


@dataclass(frozen=True)
class Choice:
    """The coefficient that was chosen, and by which rule; `curve` has all that were tried, in ascending order.

    `edge` says that it is the least or the greatest of the grid: the best may lie outside.
    """

    coefficient: float
    edge: bool
    rule: str
    curve: tuple[Tried, ...]


def choose(grid: Sequence[float], rates: Mapping[float, Estimate]) -> Choice:
    """Return the coefficient of `grid` with the highest win rate against SFT1; of equal ones the larger.

    The larger one stays closer to the reference. Raises ValueError for an empty grid, a coefficient twice, one without
    a rate, a rate off the grid, and a rate that is not a number.
    """
    _check(grid, rates)
    curve = tuple(Tried(coefficient, rates[coefficient]) for coefficient in sorted(grid))
    best = max(curve, key=lambda tried: (tried.rate.value, tried.coefficient))
    return Choice(best.coefficient, best in (curve[0], curve[-1]), RULE, curve)


def _check(grid: Sequence[float], rates: Mapping[float, Estimate]) -> None:
    if not grid:
        raise ValueError("the grid has no KL coefficient: a choice needs at least one")
    if len(set(grid)) < len(grid):
        raise ValueError(f"the grid {list(grid)} has a KL coefficient twice; name each once")
    for coefficient in grid:
        if coefficient not in rates:
            raise ValueError(f"KL coefficient {coefficient} of the grid has no win rate; measure it or leave it out")
        if not math.isfinite(rates[coefficient].value):
            raise ValueError(
                f"the win rate at KL coefficient {coefficient} is {rates[coefficient].value}; not a number"
            )
    for coefficient in rates:
        if coefficient not in grid:
            raise ValueError(f"a win rate at KL coefficient {coefficient}, which is not on the grid {list(grid)}")
