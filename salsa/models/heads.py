"""Models with one number a token instead of a vocabulary: reward models and critics.

Both are the library's `XForSequenceClassification` with one label: a backbone `model.model` and a bias-free linear
head `model.score`. The reward of a sequence is the number at its last token; the value of a state that at the last
token of the state.
"""

import copy

import torch
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
    generator = torch.Generator().manual_seed(head_seed)
    with torch.no_grad():
        head = torch.empty(model.score.weight.shape).normal_(0.0, (config.hidden_size + 1) ** -0.5, generator=generator)
        model.score.weight.copy_(head)
    return model.eval()


def critic_from_reward(reward_model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of a reward model with a zero head, so that the first value estimates are zero everywhere."""
    model = copy.deepcopy(reward_model)
    with torch.no_grad():
        model.score.weight.zero_()
    return model
