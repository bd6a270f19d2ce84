"""What the KL divergence is measured to: the one thing in which SALSA and PPO differ."""

from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from salsa.models.scoring import MICRO_BATCH_TOKENS, reply_logps
from salsa.models.sequences import Sequences


class Reference(Protocol):
    """A distribution over replies that stays what it is while the policy learns."""

    identity: str
    """What tells references apart, such as the fingerprint of the weights."""

    def token_logps(self, sequences: Sequences, temperature: float) -> Tensor:
        """Return log-probabilities [rows, longest reply] of the reply tokens, 0 where there is none."""
        ...

    def to(self, device: torch.device) -> None:
        """Move to the device of the policy."""
        ...


class FrozenReference:
    """A fixed model as reference: an SFT model (PPO) or a soup of SFT models (SALSA, arXiv:2411.01798).

    The model is taken over: it goes to evaluation mode and its parameters no longer ask for gradients, so it must not
    be the object that is trained. It is not a part of any module, so that no checkpoint stores it.
    """

    def __init__(self, model: PreTrainedModel, identity: str, max_tokens: int = MICRO_BATCH_TOKENS) -> None:
        self.identity = identity
        self.model = model.eval().requires_grad_(False)
        self.max_tokens = max_tokens

    def token_logps(self, sequences: Sequences, temperature: float) -> Tensor:
        """Return log-probabilities [rows, longest reply] in nats of the reply tokens, 0 where there is none."""
        with torch.inference_mode():
            logps, _ = reply_logps(self.model, sequences, temperature, max_tokens=self.max_tokens)
        return logps.clone()

    def to(self, device: torch.device) -> None:
        """Move the model to a device."""
        self.model.to(device)
