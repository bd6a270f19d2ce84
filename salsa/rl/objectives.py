"""The losses of PPO and the estimators of a KL divergence, token by token.

Losses are sums over the tokens that are given, so that the parts of a minibatch add up to the minibatch exactly;
whoever calls them divides by the number of its tokens.
"""

from typing import NamedTuple

import torch
from torch import Tensor


def k1(logps: Tensor, reference_logps: Tensor) -> Tensor:
    """Return log-ratios: unbiased for KL(policy || reference), of high variance, and may be negative."""
    return logps - reference_logps


def k2(logps: Tensor, reference_logps: Tensor) -> Tensor:
    """Return half the squared log-ratios: biased as a metric, but their gradient is that of KL(policy || reference)."""
    return (logps - reference_logps).square() / 2


def k3(logps: Tensor, reference_logps: Tensor) -> Tensor:
    """Return exp(-l) - 1 + l of log-ratios l: unbiased for KL(policy || reference) as a metric and never negative.

    As a loss it has the gradient of the other direction, KL(reference || policy).
    """
    ratio = logps - reference_logps
    return torch.expm1(-ratio) + ratio


class PolicyLoss(NamedTuple):
    """Sums over tokens: the clipped loss and, detached, what a person watches.

    `clipped` counts the tokens whose gradient the clipping has cut off, `deviation` sums |ratio - 1| and `approx_kl`
    sums the k3 estimates of KL(old policy || policy).
    """

    loss: Tensor
    clipped: Tensor
    deviation: Tensor
    approx_kl: Tensor


class ValueLoss(NamedTuple):
    """Sums over tokens: half the clipped squared error and, detached, the number of tokens that were clipped."""

    loss: Tensor
    clipped: Tensor


def policy_loss(logps: Tensor, old_logps: Tensor, advantages: Tensor, clip: float) -> PolicyLoss:
    """Return PPO's clipped surrogate: max(-A r, -A clip(r, 1 - clip, 1 + clip)) with r = exp(logp - old logp).

    Schulman et al., arXiv:1707.06347, equation 7, with the sign of a loss. All tensors have one shape and hold valid
    tokens only; `old_logps` and `advantages` carry no gradient.
    """
    log_ratios = logps - old_logps
    ratios = log_ratios.exp()
    plain = -advantages * ratios
    bounded = -advantages * ratios.clamp(1 - clip, 1 + clip)
    with torch.no_grad():
        clipped = (bounded > plain).sum()
        deviation = (ratios - 1).abs().sum()
        approx_kl = (torch.expm1(log_ratios) - log_ratios).sum()
    return PolicyLoss(torch.maximum(plain, bounded).sum(), clipped, deviation, approx_kl)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> ValueLoss:
    """Return max((V - return)^2, (V_clipped - return)^2) / 2, where V_clipped stays within `clip` of the old value.

    All tensors have one shape and hold valid tokens only; `old_values` and `returns` carry no gradient. The clipping
    is that of the reference implementation of arXiv:1909.08593.
    """
    bounded = old_values + (values - old_values).clamp(-clip, clip)
    plain_error, bounded_error = (values - returns).square(), (bounded - returns).square()
    with torch.no_grad():
        clipped = (bounded_error > plain_error).sum()
    return ValueLoss(torch.maximum(plain_error, bounded_error).sum() / 2, clipped)
