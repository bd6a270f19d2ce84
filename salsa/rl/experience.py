"""What one iteration learns from: a rollout with its rewards, its credit, and what a person watches of it."""

from typing import NamedTuple

import torch
from torch import Tensor

from salsa.models.sequences import Sequences, reply_mask
from salsa.rl.credit import token_credit, token_rewards
from salsa.rl.objectives import k1, k3
from salsa.rl.references import Weighted
from salsa.rl.rollout import Rollout
from salsa.rl.settings import PPOSettings


class Experience(NamedTuple):
    """Replies, and tables [rows, longest reply] about their tokens; values and returns only with a critic."""

    sequences: Sequences
    logps: Tensor
    references: Weighted
    advantages: Tensor
    values: Tensor | None
    returns: Tensor | None


def experience(
    rollout: Rollout, scores: Tensor, references: Weighted, values: Tensor | None, settings: PPOSettings, kl_coef: float
) -> tuple[Experience, dict[str, Tensor]]:
    """Return what to learn from a rollout, with its metrics, each a tensor without dimensions.

    `scores` [rows] are the rewards of the replies, `references` and `values` tables [rows, longest reply]. Without a
    KL in the reward, a token's reward is the score at the last token alone.
    """
    sequences, mask = rollout.sequences, reply_mask(rollout.sequences)
    charged = kl_coef if settings.kl_placement == "reward" else 0.0
    rewards = token_rewards(scores, rollout.logps, references, mask, charged)
    advantages, returns = token_credit(
        settings.credit,
        rewards,
        values,
        mask,
        gamma=settings.gamma,
        lam=settings.lam,
        replies_per_prompt=settings.replies_per_prompt,
        whitened=settings.whiten,
    )
    metrics = _divergences(rollout, references, mask)
    metrics |= {
        "reward/score": scores.mean(),
        "reward/objective": scores.mean() - kl_coef * metrics["kl/reply_k1"],
        "reply/entropy": rollout.entropies[mask].mean(),
        "reply/length": sequences.reply_lengths.float().mean(),
        "reply/unfinished": 1 - rollout.ended.float().mean(),
    }
    if values is not None and returns is not None:
        errors, spread = (returns - values)[mask], returns[mask]
        unexplained = errors.var(correction=0) / spread.var(correction=0).clamp(min=1e-8)
        metrics["critic/explained_variance"] = 1 - unexplained
    return Experience(sequences, rollout.logps, references, advantages, values, returns), metrics


def _divergences(rollout: Rollout, references: Weighted, mask: Tensor) -> dict[str, Tensor]:
    """Return estimates of the KL to the reference (weighted over several), nats a reply and nats a token."""
    totals = {}
    for name, estimate in (("k1", k1), ("k3", k3)):
        parts = [weight * estimate(rollout.logps, logps) for weight, logps in references]
        table = torch.where(mask, torch.stack(parts).sum(0), 0.0)
        totals[f"kl/reply_{name}"] = table.sum(1).mean()
        totals[f"kl/token_{name}"] = table[mask].mean()
    return totals
