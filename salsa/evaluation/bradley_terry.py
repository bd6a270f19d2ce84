"""Bradley-Terry strengths of many models: the closed form against one baseline, Newton's method otherwise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from salsa.evaluation.resampling import Numbers, drawn_counts, percentiles

SCALE, BASE, ORIGIN = 400.0, 10.0, 1000.0
"""A rating is ORIGIN + SCALE * log(strength) to the base BASE; the baseline (or the mean model) has ORIGIN."""
_RIDGE = 1e-6
_STEPS = 200
# Beyond these odds a resample says no more than "it won everything that it fought".
_UNBOUNDED = 10.0


@dataclass(frozen=True)
class Rating:
    """A model's rating with its interval; where it has none, `why` says so: "above", "below" or "not compared".

    "above" and "below" are models that beat all others, or were beaten by all, so that no finite rating fits.
    An end of the interval is None where it is unbounded.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    why: str = ""


def rating(strength: float) -> float:
    """Return the rating of a log-strength in nats."""
    return ORIGIN + SCALE / math.log(BASE) * strength


def expected_win_rate(difference: float) -> float:
    """Return the probability to win against an opponent whose rating is lower by `difference`."""
    return 1 / (1 + BASE ** (-difference / SCALE))


def closed_form(won: float, fought: float) -> float:
    """Return the rating over a single opponent, from the weight won (a tie by half) of the weight fought.

    It is the fit, exactly: the expected win rate equals won / fought. Infinite where all or nothing was won.
    """
    if won <= 0 or won >= fought:
        return math.inf if won > 0 else -math.inf
    return SCALE * math.log(won / (fought - won), BASE)


def log_strengths(wins: Numbers, ridge: float = 0.0) -> Numbers:
    """Return the log-strengths [..., models] that maximise the likelihood of wins [..., models, models].

    `wins[i, j]` is the weight that i won from j, a tie being half a win of each. Their mean is 0. A ridge makes the
    solution exist where some model won or lost everything. Newton's method, for all leading dimensions at once.
    """
    models = wins.shape[-1]
    fought = wins + np.swapaxes(wins, -1, -2)
    strengths = np.zeros(wins.shape[:-1])
    diagonal = np.arange(models)
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(strengths[..., None, :] - strengths[..., :, None]))
        gradient = (wins - fought * chance).sum(axis=-1) - ridge * strengths
        curvature = fought * chance * (1 - chance)
        hessian = -curvature
        # The mean is free in the likelihood; adding its square to the loss fixes it at 0 and changes nothing else.
        hessian[..., diagonal, diagonal] += curvature.sum(axis=-1) + ridge
        hessian += np.maximum(hessian[..., diagonal, diagonal].mean(axis=-1), 1e-12)[..., None, None] / models
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        step /= np.maximum(1.0, np.abs(step).max(axis=-1, keepdims=True))
        strengths = strengths + step
        if np.abs(step).max() < 1e-10:
            break
    return strengths - strengths.mean(axis=-1, keepdims=True)


def reaches(wins: Numbers) -> NDArray[np.bool_]:
    """Return [models, models]: whether there is a chain of wins (or ties) from the row's model to the column's."""
    found = (wins > 0) | np.eye(len(wins), dtype=bool)
    for _ in range(max(1, len(wins).bit_length())):
        found = (found.astype(np.float64) @ found.astype(np.float64)) > 0
    return found


def standing(wins: Numbers, anchor: int) -> list[str]:
    """Return for each model why it has no finite rating beside the anchor ("" where it has one); see `Rating`.

    A finite fit exists within a set of models if each beats each, directly or over others (Ford 1957).
    """
    chain = reaches(wins)
    found = []
    for model in range(len(wins)):
        up, down = chain[model, anchor], chain[anchor, model]
        found.append("" if up and down else "above" if up else "below" if down else "not compared")
    return found


def anchor_of(wins: Numbers, models: Sequence[str], baseline: str | None) -> int:
    """Return the model that others are rated beside: the baseline, or one of the largest set with finite ratings."""
    if baseline in models:
        return list(models).index(str(baseline))
    chain = reaches(wins)
    return int(np.argmax((chain & chain.T).sum(axis=1)))


def ratings(
    wins: Numbers,
    models: Sequence[str],
    baseline: str | None,
    rng: np.random.Generator,
    rounds: int = 1000,
    level: float = 0.95,
) -> dict[str, Rating]:
    """Return the rating of each model from wins [clusters, models, models], with question-clustered intervals.

    The baseline has 1000; without one, the mean of the models with a rating has. There are no intervals where there
    is only one cluster.
    """
    total = wins.sum(axis=0)
    anchor = anchor_of(total, models, baseline)
    why = standing(total, anchor)
    rated = np.flatnonzero([not reason for reason in why])
    fitted = log_strengths(total[np.ix_(rated, rated)])
    place = int(np.flatnonzero(rated == anchor)[0]) if baseline in models else None
    values = _from(fitted, place)
    own = wins[:, rated[:, None], rated]
    low, high = _intervals(own, place, rng, rounds, level) if len(wins) > 1 and len(rated) > 1 else (None, None)
    found = {name: Rating(None, why=reason) for name, reason in zip(models, why, strict=True)}
    for index, model in enumerate(rated.tolist()):
        ends = (None, None) if low is None or high is None else (_bounded(low[index]), _bounded(high[index]))
        found[models[model]] = Rating(rating(float(values[index])), *ends)
    return found


def _intervals(
    wins: Numbers, place: int | None, rng: np.random.Generator, rounds: int, level: float
) -> tuple[Numbers, Numbers]:
    clusters, models = wins.shape[:2]
    flat = wins.reshape(clusters, -1)
    draws = []
    for counts in drawn_counts(clusters, rounds, rng):
        drawn = (counts @ flat).reshape(-1, models, models)
        draws.append(_from(log_strengths(drawn, _RIDGE), place))
    return percentiles(np.concatenate(draws), level)


def _from(strengths: Numbers, place: int | None) -> Numbers:
    """Return log-strengths counted from the model at `place`; they are counted from their mean as they come."""
    return strengths if place is None else strengths - strengths[..., place, None]


def _bounded(strength: float) -> float | None:
    return None if abs(strength) > _UNBOUNDED else rating(float(strength))
