"""Next-token training of causal language models (pre-training and fine-tuning), and their perplexity and recall."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from salsa.training.optimiser import OptimiserSettings
from salsa.training.supervised import Supervised

__all__ = [
    "LanguageModeling",
    "OptimiserSettings",
    "TokenBatch",
    "collate",
    "next_word_accuracy",
    "pack_documents",
    "perplexity",
]


class TokenBatch(NamedTuple):
    """Rows of tokens and the places in them that are learned.

    `ids` [rows, width] is right-padded; `positions` [learned] are indices into the flattened rows at which the next
    token is learned, and `targets` [learned] are those next tokens.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor


def collate(rows: Sequence[tuple[Sequence[int], Sequence[bool]]], pad: int) -> TokenBatch:
    """Pad rows of (token ids, which of them are learned) to the longest one.

    The first token of a row has no token before it and is never learned, whatever its mark.

    Raises:
        ValueError: if ids and marks of a row differ in number, or nothing at all is learned.
    """
    width = max((len(ids) for ids, _ in rows), default=0)
    padded: list[list[int]] = []
    positions: list[int] = []
    targets: list[int] = []
    for row, (ids, learned) in enumerate(rows):
        if len(ids) != len(learned):
            raise ValueError(f"row {row} has {len(ids)} tokens but {len(learned)} marks of what is learned")
        padded.append([*ids, *[pad] * (width - len(ids))])
        for place in range(1, len(ids)):
            if learned[place]:
                positions.append(row * width + place - 1)
                targets.append(ids[place])
    if not targets:
        raise ValueError(
            f"no token of the {len(rows)} rows of a batch is learned; check which turns are learned, and that "
            "prompts do not fill the context"
        )
    return TokenBatch(torch.tensor(padded), torch.tensor(positions), torch.tensor(targets))


def pack_documents(documents: Sequence[Sequence[int]], width: int) -> torch.Tensor:
    """Join tokenised documents end to end and cut them into rows [rows, width]; the rest that fills no row is dropped.

    Raises:
        ValueError: if the documents do not fill one row.
    """
    stream = [token for document in documents for token in document]
    rows = len(stream) // width
    if rows == 0:
        raise ValueError(f"the corpus has {len(stream)} tokens, too few for one row of {width}")
    return torch.tensor(stream[: rows * width]).view(rows, width)


def packed_batch(rows: torch.Tensor) -> TokenBatch:
    """Return the batch that learns every token but the first of each packed row [rows, width]."""
    count, width = rows.shape
    positions = (torch.arange(count)[:, None] * width + torch.arange(width - 1)).flatten()
    return TokenBatch(rows, positions, rows[:, 1:].flatten())


class LanguageModeling(Supervised):
    """Maximises the likelihood of the learned tokens: the loss is their mean negative log-likelihood in the batch.

    The vocabulary is scored only where a token is learned, and cross-entropies are taken in float32.
    """

    def __init__(self, model: PreTrainedModel, settings: OptimiserSettings, steps: int) -> None:
        super().__init__(model, settings, steps)

    def loss(self, batch: TokenBatch) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Return the mean negative log-likelihood (nats a token) of the learned tokens."""
        logits = _logits(self.model, batch.ids, batch.positions)
        return F.cross_entropy(logits, batch.targets), {}


@torch.no_grad()
def perplexity(model: PreTrainedModel, rows: Sequence[Sequence[int]], max_tokens: int = 4096) -> float:
    """Return the exponential of the mean negative log-likelihood (nats a token) of all tokens but each row's first.

    Rows of like length are scored together, at most `max_tokens` padded tokens at once.

    Raises:
        ValueError: if no row has two tokens.
    """
    total, count = 0.0, 0
    for group in _groups([len(row) for row in rows], max_tokens):
        batch = collate([(rows[row], [True] * len(rows[row])) for row in group], pad=0)
        logits = _logits(model, batch.ids.to(model.device), batch.positions.to(model.device))
        losses = F.cross_entropy(logits, batch.targets.to(model.device), reduction="none")
        total += losses.double().sum().item()
        count += len(losses)
    if count == 0:
        raise ValueError("perplexity needs a text of at least two tokens")
    return math.exp(total / count)


@torch.no_grad()
def next_word_accuracy(
    model: PreTrainedModel, texts: Sequence[Sequence[int]], words: Sequence[int], max_tokens: int = 4096
) -> float:
    """Return the share of the tokenised texts after which the model's likeliest next token is the given one.

    Raises:
        ValueError: if there are no texts, or not one word for each.
    """
    if not texts or len(texts) != len(words):
        raise ValueError(f"next-word accuracy needs one word for each text, got {len(texts)} texts, {len(words)} words")
    right = 0
    for group in _groups([len(text) for text in texts], max_tokens, smallest=1):
        width = max(len(texts[row]) for row in group)
        ids = torch.tensor([[*texts[row], *[0] * (width - len(texts[row]))] for row in group])
        last = torch.tensor([place * width + len(texts[row]) - 1 for place, row in enumerate(group)])
        guesses = _logits(model, ids.to(model.device), last.to(model.device)).argmax(-1).tolist()
        right += sum(guess == words[row] for guess, row in zip(guesses, group, strict=True))
    return right / len(texts)


def _logits(model: PreTrainedModel, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return the logits [positions, vocabulary] in float32 at places of the flattened rows `ids` [rows, width].

    Rows are right-padded, so that no real token sees a padding token and no attention mask is needed.
    """
    hidden = model.model(input_ids=ids, attention_mask=None, use_cache=False).last_hidden_state
    return model.lm_head(hidden.flatten(0, 1)[positions]).float()


def _groups(lengths: Sequence[int], max_tokens: int, smallest: int = 2) -> Iterator[list[int]]:
    """Yield the rows of at least `smallest` tokens, sorted by length, in groups of at most `max_tokens` when padded."""
    group: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        if lengths[row] < smallest:
            continue
        if group and lengths[row] * (len(group) + 1) > max_tokens:
            yield group
            group = []
        group.append(row)
    if group:
        yield group
