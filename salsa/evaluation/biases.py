"""What a judge prefers for no good reason, the first reply or the longer one; what it says when they are swapped."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from salsa.evaluation.battles import OUTCOMES, Match
from salsa.evaluation.statistics import Estimate, cluster_bootstrap_mean
from salsa.judging.verdict import Verdict


@dataclass(frozen=True)
class Swap:
    """What a judge says when the two replies change places, counted over matches whose two games have a verdict.

    `same` says the same of the replies twice, `first` prefers what is shown first twice, `second` what is shown
    second; `tied` calls one of the games a tie. `consistency` is the share of `same`.
    """

    complete: int
    same: int
    first: int
    second: int
    tied: int
    consistency: Estimate | None


def swap(matches: Iterable[Match], rng: np.random.Generator, rounds: int, level: float) -> Swap:
    """Return how consistent a judge is under a swap; strengths of verdicts are not compared."""
    whole = [match for match in matches if match.complete and match.first != match.second]
    counts = {"same": 0, "first": 0, "second": 0, "tied": 0}
    same = []
    for match in whole:
        forward, backward = match.outcomes
        assert forward is not None
        kind = (
            "same"
            if forward == backward
            else "tied"
            if 0.5 in (forward, backward)
            else "first"
            if forward
            else "second"
        )
        counts[kind] += 1
        same.append(float(kind == "same"))
    share = _mean(same, [match.asked.cluster for match in whole], rng, rounds, level)
    return Swap(len(whole), counts["same"], counts["first"], counts["second"], counts["tied"], share)


def position(verdicts: Iterable[Verdict], rng: np.random.Generator, rounds: int, level: float) -> Estimate | None:
    """Return the share of games without a tie that the reply shown first wins; 0.5 is no bias.

    It says something of the judge only where each match is played in both orders.
    """
    decided = [verdict for verdict in verdicts if verdict.label not in (None, "A=B")]
    wins = [OUTCOMES[str(verdict.label)] for verdict in decided]
    return _mean(wins, [verdict.cluster for verdict in decided], rng, rounds, level)


def length(
    verdicts: Iterable[Verdict],
    length_of: Callable[[str, Verdict], float | None],
    rng: np.random.Generator,
    rounds: int,
    level: float,
) -> Estimate | None:
    """Return the share of games without a tie that the longer reply wins, of replies that differ in length.

    `length_of` gives the length of a model's reply in a verdict, or None where it is not known.
    """
    wins, clusters = [], []
    for verdict in verdicts:
        if verdict.label in (None, "A=B") or verdict.model_b is None:
            continue
        a, b = length_of(verdict.model_a, verdict), length_of(verdict.model_b, verdict)
        if a is not None and b is not None and a != b:
            wins.append(float((OUTCOMES[str(verdict.label)] == 1) == (a > b)))
            clusters.append(verdict.cluster)
    return _mean(wins, clusters, rng, rounds, level)


def _mean(
    values: Sequence[float], clusters: Sequence[str], rng: np.random.Generator, rounds: int, level: float
) -> Estimate | None:
    return cluster_bootstrap_mean(values, clusters, rng, rounds, level) if values else None
