"""Policies small enough to enumerate: tables of log-probabilities, in float64."""

import torch

ACTIONS = 6


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kl(one, other):
    """KL divergence of distributions given by log-probabilities in the last dimension."""
    return (one.exp() * (one - other)).sum(-1)


REFERENCE_KINDS = {
    "one": lambda: [(1.0, draw(0, 1, ACTIONS).log_softmax(-1))],
    "two": lambda: [(0.3, draw(0, 1, ACTIONS).log_softmax(-1)), (0.7, draw(9, 1, ACTIONS).log_softmax(-1))],
}
