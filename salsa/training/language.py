"""Next-token training of causal language models (pre-training and fine-tuning), and their perplexity and recall."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from salsa.models.head import likeliest_tokens, linear_head, target_logps
from salsa.models.layout import fill_bins
from salsa.training.optimiser import OptimiserSettings
from salsa.training.supervised import Supervised

__all__ = [
    "LanguageModeling",
    "OptimiserSettings",
    "TokenBatch",
    "collate",
    "next_token_logps",
    "next_word_accuracy",
    "pack_documents",
    "packed_batch",
    "perplexity",
]


class TokenBatch(NamedTuple):
    """Rows of tokens and the places in them that are learned.

    `ids` [rows, width] may hold several sequences a row; `positions` [rows, width] then count from 0 in each of them
    (None: every row is one sequence), from which the library's models derive that no token sees another sequence.
    `places` [learned] are indices into the flattened rows at which the next token is learned, and `targets` [learned]
    are those next tokens.
    """

    ids: Tensor
    positions: Tensor | None
    places: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "TokenBatch":
        """Return the batch on a device."""
        positions = None if self.positions is None else self.positions.to(device)
        return TokenBatch(self.ids.to(device), positions, self.places.to(device), self.targets.to(device))


def collate(sequences: Sequence[tuple[Sequence[int], Sequence[bool]]], pad: int = 0) -> TokenBatch:
    """Lay sequences of (token ids, which of them are learned) into rows as wide as the longest one.

    Short sequences share a row, because a forward pass costs as much for a padding token as for a real one. The first
    token of a sequence has no token before it and is never learned, whatever its mark. `pad` fills the empty slots;
    any token of the vocabulary will do, as nothing sees it.

    Raises:
        ValueError: if ids and marks of a sequence differ in number, or nothing at all is learned.
    """
    for number, (ids, learned) in enumerate(sequences):
        if len(ids) != len(learned):
            raise ValueError(f"sequence {number} has {len(ids)} tokens but {len(learned)} marks of what is learned")
    if not any(any(learned[1:]) for _, learned in sequences):
        raise ValueError(
            f"none of the tokens of a batch of {len(sequences)} sequences is learned; check the setting that says "
            "which turns are learned, and that prompts do not fill the context"
        )
    lengths = [len(ids) for ids, _ in sequences]
    width = max(lengths)
    rows, starts, used = fill_bins(lengths, width)
    tokens = torch.full((len(used) * width,), pad, dtype=torch.long)
    # The padding behind the last sequence of a row counts from 0 too: to the model it is a sequence of its own.
    positions = (torch.arange(width) - torch.tensor(used)[:, None]).clamp_(min=0).flatten()
    places = []
    for (ids, learned), row, start in zip(sequences, rows, starts, strict=True):
        first = row * width + start
        tokens[first : first + len(ids)] = torch.tensor(ids, dtype=torch.long)
        positions[first : first + len(ids)] = torch.arange(len(ids))
        places.append(torch.tensor(learned[1:], dtype=torch.bool).nonzero()[:, 0] + first)
    place = torch.cat(places)
    return TokenBatch(tokens.view(-1, width), positions.view(-1, width), place, tokens[place + 1])


def pack_documents(documents: Sequence[Sequence[int]], width: int) -> Tensor:
    """Join tokenised documents end to end and cut them into rows [rows, width]; the rest that fills no row is dropped.

    Raises:
        ValueError: if the documents do not fill one row.
    """
    stream = [token for document in documents for token in document]
    rows = len(stream) // width
    if rows == 0:
        raise ValueError(f"the corpus has {len(stream)} tokens, too few for one row of {width}")
    return torch.tensor(stream[: rows * width]).view(rows, width)


def packed_batch(rows: Tensor) -> TokenBatch:
    """Return the batch that learns every token but the first of each row [rows, width] of packed documents."""
    count, width = rows.shape
    places = (torch.arange(count)[:, None] * width + torch.arange(width - 1)).flatten()
    return TokenBatch(rows, None, places, rows[:, 1:].flatten())


class LanguageModeling(Supervised):
    """Maximises the likelihood of the learned tokens: the loss is their mean negative log-likelihood in the batch.

    The vocabulary is scored only where a token is learned, in float32, and never as a whole if it is large.
    """

    def __init__(self, model: PreTrainedModel, settings: OptimiserSettings, steps: int) -> None:
        super().__init__(model, settings, steps)

    def loss(self, batch: TokenBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean negative log-likelihood (nats a token) of the learned tokens."""
        return -next_token_logps(self.model, batch).mean(), {}


def next_token_logps(model: PreTrainedModel, batch: TokenBatch) -> Tensor:
    """Return the log-probabilities [learned] in nats of the learned tokens, in float32 whatever the weights' format."""
    return target_logps(_hidden(model, batch), linear_head(model), batch.targets)[0]


@torch.no_grad()
def perplexity(model: PreTrainedModel, texts: Sequence[Sequence[int]], max_tokens: int = 4096) -> float:
    """Return the exponential of the mean negative log-likelihood (nats a token) of all tokens but each text's first.

    `max_tokens` bounds the tokens of one forward pass.

    Raises:
        ValueError: if no text has two tokens.
    """
    sequences = [(text, [True] * len(text)) for text in texts if len(text) > 1]
    if not sequences:
        raise ValueError("perplexity needs a text of at least two tokens")
    total, count = 0.0, 0
    for batch in _batches(sequences, max_tokens):
        batch = batch.to(model.device)
        logps = next_token_logps(model, batch)
        total += logps.double().sum().item()
        count += len(logps)
    return math.exp(-total / count)


@torch.no_grad()
def next_word_accuracy(
    model: PreTrainedModel, texts: Sequence[Sequence[int]], words: Sequence[int], max_tokens: int = 4096
) -> float:
    """Return the share of the tokenised texts after which the model's likeliest next token is the given one.

    Raises:
        ValueError: if there are no texts, one is empty, or there is not one word for each.
    """
    if not texts or len(texts) != len(words) or not all(len(text) for text in texts):
        raise ValueError(f"each text needs tokens and a next word, got {len(texts)} texts and {len(words)} words")
    sequences = [([*text, word], [False] * len(text) + [True]) for text, word in zip(texts, words, strict=True)]
    right = 0
    for batch in _batches(sequences, max_tokens):
        batch = batch.to(model.device)
        right += int((likeliest_tokens(_hidden(model, batch), linear_head(model)) == batch.targets).sum())
    return right / len(texts)


def _hidden(model: PreTrainedModel, batch: TokenBatch) -> Tensor:
    """Return the last hidden states [learned, hidden width] where a token is learned."""
    output = model.base_model(
        input_ids=batch.ids, position_ids=batch.positions, attention_mask=None, use_cache=False
    ).last_hidden_state
    return output.flatten(0, 1)[batch.places]


def _batches(sequences: Sequence[tuple[Sequence[int], Sequence[bool]]], max_tokens: int) -> Iterator[TokenBatch]:
    """Yield the sequences, those of like length together, in batches of about `max_tokens` tokens."""
    group: list[tuple[Sequence[int], Sequence[bool]]] = []
    tokens = 0
    for sequence in sorted(sequences, key=lambda sequence: len(sequence[0])):
        if group and tokens + len(sequence[0]) > max_tokens:
            yield collate(group)
            group, tokens = [], 0
        group.append(sequence)
        tokens += len(sequence[0])
    yield collate(group)
