"""The curve of over-optimisation by reinforcement learning, fitted to a front where the data allow it."""

import math
from dataclasses import dataclass

import numpy as np

from salsa.evaluation.resampling import Numbers
from salsa.evaluation.study.frontier import Front

LEVELS = 6
"""With fewer KL levels than this, two parameters are not fitted."""


@dataclass(frozen=True)
class Fit:
    """R(d) = d (alpha - beta log d) above `baseline`, with d = sqrt(KL): equation for RL of Gao et al. 2022.

    Its peak, at d = exp(alpha / beta - 1), is beta d above the baseline; `peak_kl` in nats. `error` is the root mean
    square of the residuals.
    """

    alpha: float
    beta: float
    baseline: float
    peak_kl: float
    peak_gold: float
    error: float

    def at(self, kl: float) -> float:
        """Return the fitted gold reward at a KL in nats."""
        distance = math.sqrt(kl)
        return self.baseline + (distance * (self.alpha - self.beta * math.log(distance)) if distance else 0.0)


@dataclass(frozen=True)
class Unfit:
    """Why there is no fit."""

    reason: str


def fit(front: Front, baseline: float) -> Fit | Unfit:
    """Return the least-squares curve through a front; `baseline` is the gold reward of the anchor itself, at KL 0.

    It needs six KL levels and a peak inside their range, both of the points and of the curve: without the descent
    beta is extrapolated. It suits arms that start at the anchor, since every such curve passes through it.
    """
    if len(front.kl) < LEVELS:
        return Unfit(f"{len(front.kl)} KL levels; a fit needs {LEVELS}")
    best = int(np.argmax(front.gold))
    if best in (0, len(front.kl) - 1):
        return Unfit(f"the gold reward is highest at an end of the range, at KL {front.kl[best]:.3g}")
    terms = _terms(front.distance)
    (alpha, beta), *_ = np.linalg.lstsq(terms, front.gold - baseline, rcond=None)
    # exp would overflow for a beta close to 0, whose peak is out of range anyway.
    log_peak = 2 * (alpha / beta - 1) if beta > 0 else math.inf
    if not _log(front.kl[0]) < log_peak < _log(front.kl[-1]):
        return Unfit(f"the fitted curve (alpha {alpha:.3g}, beta {beta:.3g}) has no peak inside the range")
    kl = math.exp(log_peak)
    residuals = terms @ np.array([alpha, beta]) - (front.gold - baseline)
    error = math.sqrt(float(np.mean(residuals**2)))
    return Fit(float(alpha), float(beta), baseline, kl, baseline + float(beta) * math.sqrt(kl), error)


def _terms(distance: Numbers) -> Numbers:
    """Return [points, 2], what alpha and beta are multiplied with; d log d is 0 at d = 0."""
    return np.stack([distance, -distance * np.log(np.where(distance > 0, distance, 1.0))], axis=1)


def _log(kl: float) -> float:
    return math.log(kl) if kl > 0 else -math.inf
