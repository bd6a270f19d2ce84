"""Win rates of one suite by itself; an experiment computes them for many columns at once."""

from collections.abc import Sequence

import numpy as np

from salsa.evaluation.scores import ScoredReply
from salsa.evaluation.statistics import LEVEL, ROUNDS, WinRate, as_win_rate, cluster_bootstrap_mean, outcomes


def win_rate(
    scores_a: Sequence[ScoredReply],
    scores_b: Sequence[ScoredReply],
    tie_margin: float,
    rng: np.random.Generator,
    rounds: int = ROUNDS,
    level: float = LEVEL,
) -> WinRate:
    """Return the adjusted win rate (win + tie / 2) of A over B on one suite, with a question-clustered interval.

    Ties and errors as in `outcomes`; the clusters are those of A's replies, which are those of the prompts.
    """
    results = outcomes(scores_a, scores_b, tie_margin)
    estimate = cluster_bootstrap_mean(results, [reply.cluster for reply in scores_a], rng, rounds, level)
    return as_win_rate(estimate, results)
