"""Next-token training of causal language models (pre-training and fine-tuning), and their perplexity and recall."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from salsa.models.head import likeliest_tokens, linear_head
from salsa.models.layout import Layout
from salsa.models.scoring import token_logps
from salsa.models.trunk import hidden_states
from salsa.training.optimiser import OptimiserSettings
from salsa.training.supervised import Supervised

__all__ = [
    "LanguageModeling",
    "OptimiserSettings",
    "collate",
    "next_word_accuracy",
    "pack_documents",
    "packed_batch",
    "perplexity",
]


def collate(sequences: Sequence[tuple[Sequence[int], Sequence[bool]]]) -> Layout:
    """Lay sequences of (token ids, which of them are learned) end to end; `states` and `targets` are what is learned.

    The first token of a sequence has no token before it and is never learned, whatever its mark.

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
    layout = Layout.of_tokens([ids for ids, _ in sequences])
    marks = torch.tensor([mark for source in layout.sources.tolist() for mark in [False, *sequences[source][1][1:]]])
    places = marks.nonzero()[:, 0]
    return layout._replace(states=places - 1, targets=layout.ids[places])


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


def packed_batch(rows: Tensor) -> Layout:
    """Return the batch that learns every token but the first of each row [rows, width] of packed documents."""
    return collate([(row, [True] * len(row)) for row in rows.tolist()])


class LanguageModeling(Supervised):
    """Maximises the likelihood of the learned tokens: the loss is their mean negative log-likelihood in the batch.

    The vocabulary is scored only where a token is learned, in float32, and never as a whole if it is large.
    """

    def __init__(self, model: PreTrainedModel, settings: OptimiserSettings, steps: int) -> None:
        super().__init__(model, settings, steps)

    def loss(self, batch: Layout) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean negative log-likelihood (nats a token) of the learned tokens."""
        return -token_logps(self.model, batch).mean(), {}


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
        logps = token_logps(model, batch)
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
        hidden = hidden_states(model, batch, batch.states)
        right += int((likeliest_tokens(hidden, linear_head(model)) == batch.targets).sum())
    return right / len(texts)


def _batches(sequences: Sequence[tuple[Sequence[int], Sequence[bool]]], max_tokens: int) -> Iterator[Layout]:
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
