"""From scores and log-probabilities to the advantages that PPO learns from. All tables are [rows, longest reply]."""

import torch
from torch import Tensor


def token_rewards(scores: Tensor, logps: Tensor, reference_logps: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """Return the reward of each token: -kl_coef (logp - reference logp), plus the score at a reply's last token.

    A reply's rewards sum to its score minus kl_coef times its log-ratio to the reference. The log-ratio as a reward,
    not as a loss, has the gradient of KL(policy || reference) in expectation (Ziegler et al., arXiv:1909.08593).
    `scores` is [rows]; cells outside `mask` get 0.

    Raises:
        ValueError: if a row of the mask is empty, because its score would have no token to go to.
    """
    lengths = mask.sum(1)
    if not bool(lengths.all()):
        raise ValueError("a reply without any token cannot be rewarded; a finished reply holds at least its end token")
    rewards = torch.where(mask, -kl_coef * (logps - reference_logps), 0.0)
    last = (lengths - 1)[:, None]
    return rewards.scatter_add(1, last, scores.to(rewards.dtype)[:, None])


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Return generalised advantage estimates and returns (Schulman et al., arXiv:1506.02438).

    delta_t = R_t + gamma V_{t+1} - V_t with V = 0 behind the last token; A_t = sum over l of (gamma lam)^l delta_{t+l};
    the return is A_t + V_t. Cells outside `mask` are ignored and come out as 0.
    """
    rewards, values = torch.where(mask, rewards, 0.0), torch.where(mask, values, 0.0)
    following = torch.cat([values[:, 1:], values.new_zeros(len(values), 1)], dim=1)
    deltas = rewards + gamma * following - values
    advantages = torch.empty_like(deltas)
    running = deltas.new_zeros(len(deltas))
    for step in range(deltas.shape[1] - 1, -1, -1):
        running = deltas[:, step] + gamma * lam * running
        advantages[:, step] = running
    return advantages, advantages + values


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Return the values shifted and scaled to mean 0 and variance 1 over the cells of `mask`; the others become 0."""
    valid = values[mask]
    mean = valid.mean()
    variance = (valid - mean).square().mean()
    return torch.where(mask, (values - mean) * torch.rsqrt(variance + 1e-8), 0.0)
