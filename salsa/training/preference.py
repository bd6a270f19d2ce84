"""Training a reward model on preferences between two replies (Bradley and Terry, 1952)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from salsa.rl.scoring import sequence_scores
from salsa.rl.sequences import Sequences, pack
from salsa.training.optimiser import OptimiserSettings
from salsa.training.supervised import Supervised

_ALL_AT_ONCE = 1 << 40


def collate_pairs(pairs: Sequence[Mapping[str, Any]], pad: int) -> Sequences:
    """Return pairs as one batch: all the chosen replies, then in the same order all the rejected ones.

    Each pair holds token ids under "prompt", "chosen" and "rejected" (the replies with their end token, if any).

    Raises:
        ValueError: if there are no pairs.
    """
    prompts = [pair["prompt"] for pair in pairs]
    replies = [pair[side] for side in ("chosen", "rejected") for pair in pairs]
    return pack([*prompts, *prompts], replies, pad)


class RewardModeling(Supervised):
    """Trains a reward model so that sigmoid(score of chosen - score of rejected) is the chance of being preferred.

    The loss is the mean of -log sigmoid(score of chosen - score of rejected) over the pairs of a batch, each score
    taken at the last token of a reply (InstructGPT, arXiv:2203.02155, equation 1 with two replies).
    """

    headline = ("loss", "accuracy")

    def __init__(
        self, model: PreTrainedModel, settings: OptimiserSettings, steps: int, max_tokens: int = _ALL_AT_ONCE
    ) -> None:
        super().__init__(model, settings, steps)
        self.max_tokens = max_tokens

    def loss(self, batch: Sequences) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the loss of a batch of `collate_pairs` (nats a pair) and the share of pairs ordered rightly."""
        chosen, rejected = sequence_scores(self.model, batch, max_tokens=self.max_tokens).chunk(2)
        margins = chosen - rejected
        accuracy = (margins.detach() > 0).float().mean()
        return -F.logsigmoid(margins).mean(), {"accuracy": accuracy, "margin": margins.detach().mean()}


@torch.no_grad()
def preference_margins(model: PreTrainedModel, pairs: Sequences) -> np.ndarray:
    """Return score of chosen - score of rejected [pairs] (float64) for a batch of `collate_pairs`."""
    chosen, rejected = sequence_scores(model, pairs).double().cpu().numpy().reshape(2, -1)
    return chosen - rejected
