"""Computed sentences about differences: which of two is more, less, or that the data do not decide."""

from dataclasses import dataclass
from typing import Literal

from salsa.evaluation.statistics import Estimate
from salsa.evaluation.study.verdict import Verdict, p_value


@dataclass(frozen=True)
class Claims:
    """What to say of a difference that lies above zero, below it, or is not decided."""

    above: str
    below: str
    undecided: str


def sentence(
    claims: Claims,
    difference: Estimate,
    figures: str,
    level: float,
    p: float | None = None,
    comparisons: int = 1,
) -> Verdict:
    """Return the sentence that a difference with its interval allows, followed by `figures`.

    It is decided where the interval leaves out zero and the p value `p`, corrected for so many `comparisons`, is no
    more than 1 - `level`, too.
    """
    decided = _decided(difference, level, p)
    claim = {"first": claims.above, "second": claims.below, None: claims.undecided}[decided]
    replicates = f"{difference.n} replicate" if difference.n == 1 else f"{difference.n} replicates"
    tested = "" if p is None else f"; {p_value(p, comparisons)}"
    return Verdict(f"{claim}: {figures}, {replicates}{tested}", decided)


def signed(estimate: Estimate, digits: int) -> str:
    """Return a difference with its sign and its interval."""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:+.{digits}f} (no interval)"
    return f"{estimate.value:+.{digits}f} [{estimate.low:+.{digits}f}, {estimate.high:+.{digits}f}]"


def _decided(difference: Estimate, level: float, p: float | None) -> Literal["first", "second"] | None:
    if difference.low is None or difference.high is None or (p is not None and not p <= 1 - level):
        return None
    if p is None and difference.low == difference.high:  # replicates that are all equal say nothing of their spread
        return None
    if difference.low > 0:
        return "first"
    return "second" if difference.high < 0 else None
