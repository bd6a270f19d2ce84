"""Prompts with their replies as right-padded rows: the form in which every model of this package sees text."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Sequences(NamedTuple):
    """Rows of a prompt directly followed by its reply, padded on the right.

    `ids` [rows, width] are token ids; `prompt_lengths` [rows] and `reply_lengths` [rows] count tokens, the end token
    of a finished reply included. Reply token t of a row is predicted at its position prompt_length + t - 1, which is
    also where the value of the state before that token is read.
    """

    ids: Tensor
    prompt_lengths: Tensor
    reply_lengths: Tensor


def pack(prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]], pad: int) -> Sequences:
    """Join each prompt with its reply into one right-padded row.

    Raises:
        ValueError: if prompts and replies differ in number, there are none, or a prompt is empty (its reply's first
            token would have no position that predicts it).
    """
    if len(prompts) != len(replies) or not prompts:
        raise ValueError(f"every prompt needs one reply, got {len(prompts)} prompts and {len(replies)} replies")
    empty = next((row for row, prompt in enumerate(prompts) if not len(prompt)), None)
    if empty is not None:
        raise ValueError(f"prompt {empty} has no tokens; give it at least the token that begins a text")
    width = max(len(prompt) + len(reply) for prompt, reply in zip(prompts, replies, strict=True))
    ids = [
        [*prompt, *reply, *[pad] * (width - len(prompt) - len(reply))]
        for prompt, reply in zip(prompts, replies, strict=True)
    ]
    return Sequences(
        torch.tensor(ids, dtype=torch.long),
        torch.tensor([len(prompt) for prompt in prompts]),
        torch.tensor([len(reply) for reply in replies]),
    )


def reply_mask(sequences: Sequences) -> Tensor:
    """Return which cells of a [rows, longest reply] table hold a token of a reply."""
    lengths = sequences.reply_lengths
    return torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None]
