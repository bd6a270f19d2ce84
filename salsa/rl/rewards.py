"""The reward of a reply, in the normalised unit in which a KL coefficient has its meaning."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from salsa.models.scoring import MICRO_BATCH_TOKENS, sequence_scores
from salsa.models.sequences import Sequences


class RewardScorer:
    """A frozen reward model whose scores are shifted and scaled once, on the samples of one fixed policy.

    A normalised score is (score - `mean`) / `std`. A reply without its end token gets `missing_end_score`, in the same
    unit, whatever the model thinks of it, so that rambling up to the limit does not pay. The model is taken over as
    `FrozenReference` takes over its model.

    Raises:
        ValueError: if the standard deviation is not positive.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        mean: float,
        std: float,
        missing_end_score: float,
        max_tokens: int = MICRO_BATCH_TOKENS,
    ) -> None:
        if not std > 0:
            raise ValueError(
                f"the reward model's scores have a standard deviation of {std} on the samples they are normalised on; "
                "a reward model that gives every reply the same score cannot guide a policy"
            )
        self.model = model.eval().requires_grad_(False)
        self.mean = mean
        self.std = std
        self.missing_end_score = missing_end_score
        self.max_tokens = max_tokens

    def scores(self, sequences: Sequences) -> Tensor:
        """Return the model's normalised scores [rows] of replies, ended or not."""
        with torch.inference_mode():
            scores = sequence_scores(self.model, sequences, max_tokens=self.max_tokens)
        return (scores.clone() - self.mean) / self.std

    def rewards(self, sequences: Sequences, ended: Tensor) -> Tensor:
        """Return the rewards [rows] of replies: the normalised score, or `missing_end_score` where `ended` is false."""
        scores = self.scores(sequences)
        return torch.where(ended.to(scores.device), scores, self.missing_end_score)

    def to(self, device: torch.device) -> None:
        """Move the model to a device."""
        self.model.to(device)
