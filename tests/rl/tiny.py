"""Small random models of the three families, built straight from the library's configurations."""

import copy

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
)

FAMILIES = ("llama", "mistral", "gemma")
PAD, BOS, EOS = 0, 1, 2
WORDS = 20
WINDOW = 6
"""Sliding window of the Mistral, shorter than most sequences of the tests."""

_SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": PAD,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "attention_dropout": 0.0,
}


def configuration(family, **changes):
    if family == "llama":
        return LlamaConfig(**_SIZES | {"num_key_value_heads": 4, "tie_word_embeddings": True} | changes)
    if family == "mistral":
        return MistralConfig(**_SIZES | {"num_key_value_heads": 2, "sliding_window": WINDOW} | changes)
    return GemmaConfig(**_SIZES | {"num_key_value_heads": 1, "head_dim": 16} | changes)


def _build(kind, config, seed, spread):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind.from_config(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, spread, generator=generator)
    return model


def causal(family="llama", seed=0, spread=None, **changes) -> PreTrainedModel:
    # A Gemma scales its embeddings up: with a large spread it would say one word for ever.
    spread = spread or (0.08 if family == "gemma" else 0.15)
    return _build(AutoModelForCausalLM, configuration(family, **changes), seed, spread)


def scalar(family="llama", seed=0, spread=0.15, **changes) -> PreTrainedModel:
    return _build(AutoModelForSequenceClassification, configuration(family, num_labels=1, **changes), seed, spread)


def in_float64(model):
    """Return a copy in float64 throughout: the library's norms round to float32, so they are replaced."""
    model = copy.deepcopy(model).double()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__.endswith("RMSNorm"):
                norm = nn.RMSNorm(child.weight.shape, eps=getattr(child, "variance_epsilon", None) or child.eps)
                shift = 1.0 if type(child).__name__.startswith("Gemma") else 0.0
                norm.weight = nn.Parameter(child.weight.detach().double() + shift)
                setattr(module, name, norm)
    return model


def texts(seed, rows, shortest=2, longest=12):
    """Return `rows` random token lists that begin with the first token of a text."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(shortest, longest + 1, (rows,), generator=generator).tolist()
    return [[BOS, *torch.randint(EOS + 1, WORDS, (length - 1,), generator=generator).tolist()] for length in lengths]


def replies(seed, rows, shortest=1, longest=9):
    """Return `rows` random replies, the last token of each of which is the end token."""
    return [[*text[1:], EOS] for text in texts(seed, rows, shortest, longest)]
