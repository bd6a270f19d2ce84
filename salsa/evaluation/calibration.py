"""How far a reward model's probabilities of preference can be trusted; NumPy only."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np


class ReliabilityBin(TypedDict):
    """The pairs whose confidence falls into one bin: mean confidence, share ordered rightly, number of pairs."""

    predicted: float
    observed: float
    count: int


class Calibration(TypedDict):
    """Accuracy and calibration on preference pairs, ready for JSON.

    `accuracy` is the share of pairs ordered rightly, `brier` the mean squared error of the predicted probability (a
    coin gives 0.25), `log_loss` the mean negative log-likelihood in nats, `ece` the expected calibration error: the
    mean over pairs of |predicted - observed| of their bin (Guo et al., arXiv:1706.04599). Empty bins are left out of
    `reliability`.
    """

    accuracy: float
    brier: float
    log_loss: float
    ece: float
    pairs: int
    reliability: list[ReliabilityBin]


def rightly_ordered(margins: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return for each margin (score of chosen - score of rejected) 1 if positive, 0 if negative, 1/2 for a tie."""
    return (np.sign(np.asarray(margins, dtype=np.float64)) + 1) / 2


def calibration(margins: Sequence[float] | np.ndarray, bins: int = 10) -> Calibration:
    """Judge the probabilities sigmoid(margin) that a reward model gives to what was preferred.

    `margins` [pairs] are score of chosen - score of rejected. Which reply of a pair comes first is arbitrary, so that
    reliability is taken over the confidence max(p, 1 - p) that the reply with the higher score is preferred, in
    `bins` equal bins of [1/2, 1].

    Raises:
        ValueError: if there are no pairs, no bins, or a margin is not finite.
    """
    margin = np.asarray(margins, dtype=np.float64)
    if margin.ndim != 1 or margin.size == 0 or bins < 1:
        raise ValueError(f"calibration needs pairs and bins, got margins of shape {margin.shape} and {bins} bins")
    if not np.isfinite(margin).all():
        raise ValueError(f"{int((~np.isfinite(margin)).sum())} of {margin.size} margins are not finite")
    right = rightly_ordered(margin)
    confidence = 1 / (1 + np.exp(-np.abs(margin)))
    bin_of = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)
    reliability: list[ReliabilityBin] = []
    for index in range(bins):
        inside = bin_of == index
        if inside.any():
            predicted, observed = confidence[inside].mean(), right[inside].mean()
            reliability.append(
                ReliabilityBin(predicted=float(predicted), observed=float(observed), count=int(inside.sum()))
            )
    gaps = [abs(bucket["predicted"] - bucket["observed"]) * bucket["count"] for bucket in reliability]
    # 1 - sigmoid(margin), written so that neither end loses digits.
    doubt = np.where(margin >= 0, 1 - confidence, confidence)
    return Calibration(
        accuracy=float(right.mean()),
        brier=float((doubt**2).mean()),
        log_loss=float(np.logaddexp(0.0, -margin).mean()),
        ece=float(sum(gaps) / margin.size),
        pairs=int(margin.size),
        reliability=reliability,
    )
