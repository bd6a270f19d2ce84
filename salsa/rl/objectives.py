"""The losses of the PPO family and the estimators of a KL divergence, token by token.

A loss is a value for each token that is given; whoever calls weighs and adds them, so that the parts of a minibatch add
up to the minibatch exactly.
"""

from collections.abc import Callable, Sequence
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


KL_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"loss_k2": k2, "loss_k3": k3}
"""Estimators by the placement of the KL that puts them into the loss."""


AWR_LARGEST = 20.0
"""Largest weight of a token in awr, as in Peng et al.: without it one large advantage is all that is learned."""


class PolicyLoss(NamedTuple):
    """The loss of each token and, detached and summed over tokens, what a person watches.

    `clipped` counts the tokens whose gradient the clipping has cut off, `deviation` sums |ratio - 1| and `approx_kl`
    sums the k3 estimates of KL(old policy || policy).
    """

    losses: Tensor
    clipped: Tensor
    deviation: Tensor
    approx_kl: Tensor


class ValueLoss(NamedTuple):
    """Half the clipped squared error of each token and, detached, the number of tokens that were clipped."""

    losses: Tensor
    clipped: Tensor


def token_loss(
    kind: str,
    logps: Tensor,
    old_logps: Tensor,
    references: Sequence[tuple[float, Tensor]],
    advantages: Tensor,
    *,
    kl_placement: str = "none",
    kl_coef: float = 0.0,
    clip: float = 0.2,
    awr_temperature: float = 1.0,
) -> PolicyLoss:
    """Return the loss of each token for an algorithm of the PPO family.

    With r = exp(logp - old logp), A the advantages and log ref the weighted sum over `references` (weight,
    log-probabilities):

    * ppo_clip: max(-A r, -A clip(r, 1 - clip, 1 + clip)) (Schulman et al., arXiv:1707.06347, equation 7);
    * reinforce: -A logp (Williams 1992);
    * square: (logp - log ref - A / kl_coef)^2, a regression onto ref x exp(A / kl_coef) (APA, arXiv:2306.02231);
    * awr: -min(exp(A / awr_temperature), 20) logp (Peng et al., arXiv:1910.00177).

    A `kl_placement` of loss_k2 or loss_k3 adds kl_coef times the weighted sum of these estimates to each. All tensors
    have one shape and hold valid tokens only; all but `logps` carry no gradient.

    Raises:
        ValueError: if the kind is unknown.
    """
    log_ratios = logps - old_logps
    ratios = log_ratios.exp()
    clipped = torch.zeros((), device=logps.device)
    if kind == "ppo_clip":
        plain = -advantages * ratios
        bounded = -advantages * ratios.clamp(1 - clip, 1 + clip)
        losses = torch.maximum(plain, bounded)
        clipped = (bounded > plain).detach().sum()
    elif kind == "reinforce":
        losses = -advantages * logps
    elif kind == "square":
        log_reference = sum((weight * reference for weight, reference in references), torch.zeros_like(old_logps))
        losses = (logps - log_reference - advantages / kl_coef).square()
    elif kind == "awr":
        losses = -(advantages / awr_temperature).exp().clamp(max=AWR_LARGEST) * logps
    else:
        raise ValueError(f"there is no loss {kind}; there are ppo_clip, square, awr and reinforce")
    if kl_placement in KL_LOSSES and kl_coef:
        estimate = KL_LOSSES[kl_placement]
        estimates = [weight * estimate(logps, reference_logps) for weight, reference_logps in references]
        losses = losses + kl_coef * torch.stack(estimates).sum(0)
    with torch.no_grad():
        deviation = (ratios - 1).abs().sum()
        approx_kl = (torch.expm1(log_ratios) - log_ratios).sum()
    return PolicyLoss(losses, clipped, deviation, approx_kl)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> ValueLoss:
    """Return max((V - return)^2, (V_clipped - return)^2) / 2, where V_clipped stays within `clip` of the old value.

    All tensors have one shape and hold valid tokens only; `old_values` and `returns` carry no gradient. The clipping
    is that of the reference implementation of arXiv:1909.08593.
    """
    bounded = old_values + (values - old_values).clamp(-clip, clip)
    plain_error, bounded_error = (values - returns).square(), (bounded - returns).square()
    with torch.no_grad():
        clipped = (bounded_error > plain_error).sum()
    return ValueLoss(torch.maximum(plain_error, bounded_error) / 2, clipped)


def reply_weights(aggregate: str, reply_lengths: Tensor) -> Tensor:
    """Return the weight [replies] that each token of a reply has in the loss of a minibatch of these replies.

    "tokens": the mean over tokens (PPO; DAPO); "replies": the mean over replies of the means over their tokens (GRPO's
    paper); "reply_sums": the mean over replies of the sums over their tokens (the gradient of a reply's probability).

    Raises:
        ValueError: if the aggregate is unknown.
    """
    count = len(reply_lengths)
    lengths = reply_lengths if reply_lengths.is_floating_point() else reply_lengths.float()
    if aggregate == "tokens":
        return (1 / lengths.sum()).expand(count)
    if aggregate == "replies":
        return 1 / (count * lengths)
    if aggregate == "reply_sums":
        return torch.full_like(lengths, 1 / count)
    raise ValueError(f"there is no aggregate {aggregate}; there are tokens, replies and reply_sums")
