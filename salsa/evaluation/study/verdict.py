"""Verdicts: the sentence that says which of two arms wins, computed from its interval and its corrected p value."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from salsa.evaluation.comparisons import EXACT, exchanged, holm
from salsa.evaluation.statistics import LEVEL, Estimate

FLIPS = 10_000
"""How many sign patterns are drawn where there are too many to make them all."""
_DIGITS = range(1, 4)  # decimals of a percentage; more than one only where an end would else read as 50.0


@dataclass(frozen=True)
class Verdict:
    """What the data say about two arms, in words; `decided` names the better one, None where they do not decide."""

    sentence: str
    decided: Literal["first", "second"] | None


def verdict(
    first: str,
    second: str,
    where: str,
    rate: Estimate,
    replicates: int,
    level: float = LEVEL,
    corrected: float | None = None,
    comparisons: int = 1,
) -> Verdict:
    """Return the verdict on `rate`, the share of replies by which `first` beats `second` on the suite `where`.

    One arm wins where the interval lies wholly on its side of one half and, with several comparisons, the `corrected`
    p value, of so many `comparisons`, is no more than 1 - `level` too. The sentence gives the winner's rate, so that
    of `second` is 1 - `rate`.
    Raises ValueError for a rate that is no share (a percentage, say).
    """
    if not 0 <= rate.value <= 1:
        raise ValueError(f"the rate of {first} against {second} is {rate.value}; it must be a share between 0 and 1")
    decided = _decided(rate, level, corrected)
    said = _turned(rate) if decided == "second" else rate
    if decided is None:
        claim = f"The data do not decide between {first} and {second}"
    else:
        claim = f"{first} beats {second}" if decided == "first" else f"{second} beats {first}"
    count = f"{replicates} replicate" if replicates == 1 else f"{replicates} replicates"
    tested = "" if corrected is None else f"; {p_value(corrected, comparisons)}"
    return Verdict(f"{claim} on {where}: win rate {_percent(said, decided is not None)}, {count}{tested}", decided)


def _decided(rate: Estimate, level: float, corrected: float | None) -> Literal["first", "second"] | None:
    if rate.low is None or rate.high is None or (corrected is not None and not corrected <= 1 - level):
        return None
    if rate.low > 0.5:
        return "first"
    return "second" if rate.high < 0.5 else None


def _turned(rate: Estimate) -> Estimate:
    assert rate.low is not None
    assert rate.high is not None
    return Estimate(1 - rate.value, 1 - rate.high, 1 - rate.low, rate.n)


def _percent(rate: Estimate, decided: bool) -> str:
    if rate.low is None or rate.high is None:
        return f"{100 * rate.value:.1f} % (no interval)"
    for digits in _DIGITS:
        value, low, high = (f"{100 * number:.{digits}f}" for number in (rate.value, rate.low, rate.high))
        if not decided or float(low) != 50:
            break
    return f"{value} % [{low}, {high}]"


def p_value(value: float, comparisons: int = 1) -> str:
    """Return a p value in words, with the number of comparisons for which it is corrected."""
    said = "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
    return said if comparisons == 1 else f"{said} after Holm's correction for {comparisons}"


def sign_flip(differences: ArrayLike, rng: np.random.Generator, rounds: int = FLIPS) -> tuple[float, bool]:
    """Return the two-sided p value of the mean of paired `differences` [replicates], and whether it is exact.

    Under the null hypothesis a replicate's difference of two arms (its win rate less one half, say) may as well have
    the other sign (Fisher 1935): p is the share of sign patterns with a mean at least as far from 0. All patterns are
    made up to twelve replicates, `rounds` are drawn beyond. It cannot be below 2 / 2 ** replicates. Like the t
    interval it speaks of the questions at hand, which all replicates share. Raises ValueError for no differences or
    ones that are not finite.
    """
    sample = np.asarray(differences, dtype=np.float64)
    if sample.ndim != 1 or not len(sample) or not np.isfinite(sample).all():
        raise ValueError(f"a sign-flip test needs finite differences, one a replicate; found {sample.tolist()}")
    # To change a difference's sign is to let it change places with nothing.
    above = np.stack([sample, np.zeros_like(sample)], axis=1)
    return exchanged(above, np.ones_like(above), rng, rounds)


def corrected(tests: Sequence[ArrayLike], rng: np.random.Generator, rounds: int = FLIPS) -> list[float]:
    """Return the sign-flip p value of each comparison's differences, corrected by Holm (1979) for their number.

    Errors as in `sign_flip`.
    """
    return holm([sign_flip(differences, rng, rounds)[0] for differences in tests])


def can_decide(replicates: int, comparisons: int, level: float = LEVEL, rounds: int = FLIPS) -> bool:
    """Return whether so many corrected comparisons of so few replicates could decide anything at all.

    The least p value of the sign-flip test, times the number of comparisons, must not be above 1 - `level`.
    """
    least = 2 / 2**replicates if replicates <= EXACT else 1 / (rounds + 1)
    return least * comparisons <= 1 - level
