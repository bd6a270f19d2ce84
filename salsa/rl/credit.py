"""Who is praised for a reward: from scores and log-probabilities to advantages. All tables are [rows, longest reply].

Every algorithm of the PPO family takes its advantages from `token_credit`; what differs is what a reward is compared
with: a critic's value, the other replies to the same prompt, or nothing.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

GROUP_EPS = 1e-4
"""Added to the standard deviation of a group's rewards, in reward units (GRPO; TRL's value)."""


def token_rewards(
    scores: Tensor, logps: Tensor, references: Sequence[tuple[float, Tensor]], mask: Tensor, kl_coef: float
) -> Tensor:
    """Return the reward of each token: -kl_coef (logp - reference logp), plus the score at a reply's last token.

    A reply's rewards sum to its score minus kl_coef times its log-ratio to the reference; with several `references`
    (weight, log-probabilities) the log-ratio is their weighted sum. As a reward, not as a loss, it has the gradient of
    KL(policy || reference) in expectation (Ziegler et al., arXiv:1909.08593). `scores` is [rows]; cells outside `mask`
    get 0.

    Raises:
        ValueError: if a row of the mask is empty, because its score would have no token to go to.
    """
    lengths = mask.sum(1)
    if not bool(lengths.all()):
        raise ValueError("a reply without any token cannot be rewarded; a finished reply holds at least its end token")
    rewards = torch.zeros_like(logps)
    for weight, reference_logps in references:
        rewards = rewards - kl_coef * weight * (logps - reference_logps)
    last = (lengths - 1)[:, None]
    return torch.where(mask, rewards, 0.0).scatter_add(1, last, scores.to(rewards.dtype)[:, None])


def token_credit(
    kind: str,
    rewards: Tensor,
    values: Tensor | None,
    mask: Tensor,
    *,
    gamma: float = 1.0,
    lam: float = 1.0,
    replies_per_prompt: int = 1,
    whitened: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Return advantages, and the returns that a critic learns (None without a critic).

    `kind` is "gae" (needs `values`), "group", "leave_one_out" (both compare `replies_per_prompt` successive rows and
    give all tokens of a reply the same advantage) or "returns" (the discounted reward to go). `whitened` shifts and
    scales the advantages afterwards.

    Raises:
        ValueError: if the kind is unknown, or gae lacks values.
    """
    returns = None
    if kind == "gae":
        if values is None:
            raise ValueError("the credit gae needs a critic's values")
        advantages, returns = gae(rewards, values, mask, gamma, lam)
    elif kind == "returns":
        advantages, _ = gae(rewards, torch.zeros_like(rewards), mask, gamma, 1.0)
    elif kind in ("group", "leave_one_out"):
        totals = torch.where(mask, rewards, 0.0).sum(1)
        compared = group_normalised if kind == "group" else leave_one_out
        advantages = torch.where(mask, compared(totals, replies_per_prompt)[:, None], 0.0)
    else:
        raise ValueError(f"there is no credit {kind}; there are gae, group, leave_one_out and returns")
    return (whiten(advantages, mask) if whitened else advantages), returns


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


def group_normalised(totals: Tensor, size: int) -> Tensor:
    """Return (r - mean) / (std + 1e-4) over each group of `size` successive rewards [rows] (GRPO, arXiv:2402.03300).

    The standard deviation is the unbiased one, as in TRL; equal rewards in a group give 0.
    """
    groups = _groups(totals, size)
    centred = groups - groups.mean(1, keepdim=True)
    return (centred / (groups.std(1, keepdim=True) + GROUP_EPS)).flatten()


def leave_one_out(totals: Tensor, size: int) -> Tensor:
    """Return r minus the mean of the other rewards of its group, for groups of `size` successive rewards [rows].

    Equals size / (size - 1) times r minus the mean of all (RLOO: Ahmadian et al., arXiv:2402.14740).
    """
    groups = _groups(totals, size)
    return ((groups - groups.mean(1, keepdim=True)) * (size / (size - 1))).flatten()


def _groups(totals: Tensor, size: int) -> Tensor:
    if size < 2 or len(totals) % size:
        raise ValueError(f"{len(totals)} replies do not form groups of {size}; a group holds at least 2")
    return totals.view(-1, size)


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Return the values shifted and scaled to mean 0 and variance 1 over the cells of `mask`; the others become 0."""
    valid = values[mask]
    mean = valid.mean()
    variance = (valid - mean).square().mean()
    return torch.where(mask, (values - mean) * torch.rsqrt(variance + 1e-8), 0.0)
