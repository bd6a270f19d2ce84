"""Held-out loss of language models by document, through Lightning's `validate`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from transformers import PreTrainedModel

from salsa.models.layout import Layout
from salsa.models.scoring import MICRO_BATCH_TOKENS, token_logps
from salsa.training.batches import Batches
from salsa.training.interruption import Interrupted, honest_interrupts
from salsa.training.language import collate
from salsa.training.loop import bare_trainer, quiet

Encoded = tuple[Sequence[int], Sequence[bool]]
"""The token ids of a document, and which of them are learned (never the first)."""


@dataclass(frozen=True)
class HeldoutLoss:
    """What a model makes of documents: negative log-likelihoods `nats`, summed over the learned tokens of each.

    `nats` and `tokens` have an entry for each document, so that an interval can resample whole documents: the tokens of
    one are not independent.
    """

    nats: tuple[float, ...]
    tokens: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Return the mean negative log-likelihood (nats a token) of all learned tokens."""
        return sum(self.nats) / sum(self.tokens)


class Likelihoods(LightningModule):
    """Sums a model's negative log-likelihoods of the learned tokens of each document. Dropout is off.

    Documents of like length share a batch of about `max_tokens` tokens, which changes the speed and, but for rounding,
    nothing else.

    Raises:
        ValueError: if nothing at all is learned, or ids and marks of a document differ in number.
    """

    def __init__(
        self, model: PreTrainedModel, documents: Sequence[Encoded], max_tokens: int = MICRO_BATCH_TOKENS
    ) -> None:
        super().__init__()
        self.model = model.eval()
        self.documents = documents
        self.tokens = _learned(documents)
        lengths = [len(ids) if count else 0 for (ids, _), count in zip(documents, self.tokens, strict=True)]
        self.groups = _groups(lengths, max_tokens)
        self.nats = [0.0] * len(documents)

    def batch(self, step: int) -> Layout:
        """Return the documents of one batch, end to end."""
        return collate([self.documents[row] for row in self.groups[step]])

    def validation_step(self, batch: Layout, batch_idx: int) -> None:
        """Keep the sums of the documents of a batch."""
        rows = [self.groups[batch_idx][source] for source in batch.sources.tolist()]
        counts = torch.tensor([self.tokens[row] for row in rows], device=batch.ids.device)
        losses = -token_logps(self.model, batch).double()
        sums = losses.new_zeros(len(rows)).index_add_(0, torch.repeat_interleave(counts), losses)
        for row, value in zip(rows, sums.tolist(), strict=True):
            self.nats[row] = value


def heldout_loss(
    likelihoods: Likelihoods,
    *,
    accelerator: str = "auto",
    precision: str = "32-true",
    progress: Callable[[int, int], None] | None = None,
) -> HeldoutLoss:
    """Return a language model's loss on documents, on one device.

    `progress` is told, after each batch, documents done and documents in all; those without a learned token, which have
    no loss, do not count.

    Raises:
        KeyboardInterrupt: if the user pressed Ctrl-C.
        Interrupted: if SIGTERM came and nothing else answers it.
    """
    validate(
        likelihoods,
        likelihoods.batch,
        likelihoods.groups,
        accelerator=accelerator,
        precision=precision,
        progress=progress,
    )
    return HeldoutLoss(tuple(likelihoods.nats), tuple(likelihoods.tokens))


def validate(
    module: LightningModule,
    make_batch: Callable[[int], Any],
    groups: Sequence[Sequence[int]],
    *,
    accelerator: str,
    precision: str,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Run the validation step of a module on the batch of each group of rows, on one device and without a sound.

    `progress` is told, after each batch, rows done and rows in all.

    Raises:
        KeyboardInterrupt: if the user pressed Ctrl-C.
        Interrupted: if SIGTERM came and nothing else answers it.
        RuntimeError: if a step ran into the end of an iterator.
    """
    count = _Count([len(group) for group in groups], progress)
    with quiet(), honest_interrupts():
        trainer = bare_trainer(accelerator, precision, count)
        trainer.validate(module, Batches(len(groups), make_batch), verbose=False)
    if count.batches < len(groups):
        # Lightning takes a StopIteration that escapes from a step for the end of the data.
        raise RuntimeError(f"validation batch {count.batches} of {len(groups)} ran into the end of an iterator")


class _Count(Callback):
    """Counts batches and their rows, and ends after SIGTERM, which Lightning would end with exit code 0."""

    def __init__(self, sizes: Sequence[int], progress: Callable[[int, int], None] | None) -> None:
        self.sizes = sizes
        self.progress = progress
        self.batches = 0

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        self.batches += 1
        done, total = sum(self.sizes[: self.batches]), sum(self.sizes)
        if self.progress is not None:
            self.progress(done, total)
        if trainer.received_sigterm:
            raise Interrupted(f"interrupted (SIGTERM) after {done} of {total} rows of a validation")


def _learned(documents: Sequence[Encoded]) -> list[int]:
    """Return the number of learned tokens of each document."""
    for number, (ids, marks) in enumerate(documents):
        if len(ids) != len(marks):
            raise ValueError(f"document {number} has {len(ids)} tokens but {len(marks)} marks of what is learned")
    counts = [sum(map(bool, marks[1:])) for _, marks in documents]
    if not any(counts):
        raise ValueError(
            f"none of the tokens of {len(documents)} documents is learned, so there is no loss; check the setting that "
            "says which turns are learned, and that documents are not cut before them"
        )
    return counts


def _groups(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Return the indices of documents, those of like length together, in groups of at most `max_tokens` tokens or one.

    Documents of length 0 are in none.
    """
    groups: list[list[int]] = []
    tokens = 0
    for row in sorted((row for row, length in enumerate(lengths) if length), key=lambda row: lengths[row]):
        if not groups or tokens + lengths[row] > max_tokens:
            groups.append([])
            tokens = 0
        groups[-1].append(row)
        tokens += lengths[row]
    return groups
