"""Models with one number a token instead of a vocabulary: reward models and critics.

Both are the library's `XForSequenceClassification` with one label: a backbone `model.model` and a bias-free linear
head `model.score`. The reward of a sequence is the number at its last token; the value of a state that at the last
token of the state.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel


def reward_from_causal(causal_model: PreTrainedModel, head_seed: int) -> PreTrainedModel:
    """Return a reward model whose backbone is a copy of a language model's, with a fresh head.

    The head is drawn from N(0, 1 / sqrt(hidden + 1)) (Stiennon et al., arXiv:2009.01325), so that first scores have
    a size of about one; it depends on `head_seed` alone.
    """
    config = copy.deepcopy(causal_model.config)
    config.num_labels = 1
    dtype = causal_model.dtype
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForSequenceClassification.from_config(config, dtype=dtype)
    model.model.load_state_dict(causal_model.model.state_dict())
    with torch.no_grad():
        model.score.weight.copy_(head_weight(config.hidden_size, head_seed))
    return model.eval()


def head_weight(hidden: int, seed: int) -> Tensor:
    """Return the weight [1, hidden] of the fresh head of a reward model, as `reward_from_causal` has it."""
    generator = torch.Generator().manual_seed(seed)
    return torch.empty(1, hidden).normal_(0.0, (hidden + 1) ** -0.5, generator=generator)


def critic_from_reward(reward_model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of a reward model with a zero head, so that the first value estimates are zero everywhere."""
    model = copy.deepcopy(reward_model)
    with torch.no_grad():
        model.score.weight.zero_()
    return model


class ScalarHead(nn.Linear):
    """A linear head that computes in its own number format, whatever that of the hidden states is."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Return values [..., 1] of hidden states [..., hidden]."""
        return F.linear(hidden.to(self.weight.dtype), self.weight)


class ValueHead(nn.Module):
    """A value for each state from the hidden states of another model, zero everywhere at first; in float32 or better.

    It takes the place of a critic of one's own: half the memory, and one pass less in each update, for a trunk that
    serves two losses.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        weight = model.get_input_embeddings().weight
        dtype = torch.promote_types(weight.dtype, torch.float32)
        self.score = ScalarHead(model.config.hidden_size, 1, bias=False, device=weight.device, dtype=dtype)
        nn.init.zeros_(self.score.weight)


class TrunkCritic:
    """A value head and the policy whose trunk it reads, as one critic for scoring: it owns neither."""

    def __init__(self, policy: PreTrainedModel, head: ValueHead) -> None:
        self._policy = policy
        self._head = head

    @property
    def device(self) -> torch.device:
        """Return where the policy is."""
        return self._policy.device

    @property
    def config(self) -> Any:
        """Return the policy's configuration."""
        return self._policy.config

    @property
    def base_model(self) -> Any:
        """Return the policy's trunk."""
        return self._policy.base_model

    def score(self, hidden: Tensor) -> Tensor:
        """Return values [states, 1] of hidden states [states, hidden]."""
        return self._head.score(hidden)
