"""Mean reward of a model's replies to fixed prompts, through Lightning's `validate`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from salsa.rl.responder import Reply, Responder
from salsa.training.validation import validate

Scoring = Callable[[Sequence[int], Sequence[Reply]], Sequence[float]]
"""The rewards of replies to the prompts with the given indices."""


@dataclass(frozen=True)
class MeanReward:
    """What a model's replies are worth: the reward of each prompt's reply, in the order of the prompts."""

    rewards: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Return the mean over the prompts."""
        return sum(self.rewards) / len(self.rewards)


class Rewards(LightningModule):
    """Scores a responder's replies to all its prompts.

    The responder draws each prompt's noise from its seed and the prompt's index: two models with one seed and the same
    prompts are compared with common random numbers. Prompts of like length share a batch of `batch_prompts`, which
    changes the speed and not the replies.

    Raises:
        ValueError: if there are no prompts.
    """

    def __init__(self, responder: Responder, score: Scoring, batch_prompts: int = 128) -> None:
        super().__init__()
        if not responder.prompts:
            raise ValueError("the mean reward of a model needs at least one prompt to reply to")
        self.responder = responder
        self.score = score
        order = sorted(range(len(responder.prompts)), key=lambda row: len(responder.prompts[row]))
        self.groups = [order[first : first + batch_prompts] for first in range(0, len(order), batch_prompts)]
        self.values = [float("nan")] * len(order)

    def batch(self, step: int) -> Tensor:
        """Return the indices of the prompts of one batch, which are of like length."""
        return torch.tensor(self.groups[step])

    def validation_step(self, indices: Tensor, batch_idx: int) -> None:
        """Reply to the prompts of a batch and keep the rewards.

        Raises:
            ValueError: if there is not one finite reward for each reply.
        """
        replies = self.responder.predict_step(indices)
        rewards = [float(value) for value in self.score(self.groups[batch_idx], replies)]
        if len(rewards) != len(replies) or not torch.tensor(rewards).isfinite().all():
            raise ValueError(f"{len(replies)} replies need a finite reward each, got {rewards}")
        for row, value in zip(self.groups[batch_idx], rewards, strict=True):
            self.values[row] = value


def mean_reward(
    rewards: Rewards,
    *,
    accelerator: str = "auto",
    precision: str = "32-true",
    progress: Callable[[int, int], None] | None = None,
) -> MeanReward:
    """Return what a model's replies are worth, on one device.

    `progress` is told, after each batch, prompts done and prompts in all.

    Raises:
        KeyboardInterrupt: if the user pressed Ctrl-C.
        Interrupted: if SIGTERM came and nothing else answers it.
    """
    validate(rewards, rewards.batch, rewards.groups, accelerator=accelerator, precision=precision, progress=progress)
    return MeanReward(tuple(rewards.values))
