"""Replies of a model to the prompts of a suite, through Lightning's `predict`."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from transformers import PreTrainedModel

from salsa import seeds
from salsa.models.scoring import MICRO_BATCH_TOKENS
from salsa.rl.rollout import generate
from salsa.training.interruption import Interrupted, honest_interrupts
from salsa.training.loop import bare_trainer, quiet


class Reply(NamedTuple):
    """The token ids of one reply, and whether it has its end token (which is then its last id)."""

    ids: list[int]
    ended: bool


class Responder(LightningModule):
    """Generates replies to `prompts` with noise that belongs to the prompt's index, whatever batch it is in.

    Two models with one seed answer prompt i with the same uniform numbers, which makes their difference less noisy.
    Temperature 0 takes the likeliest token each time. Dropout is off.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        *,
        eos: int,
        pad: int,
        max_new_tokens: int,
        temperature: float,
        seed: int,
        max_tokens: int = MICRO_BATCH_TOKENS,
    ) -> None:
        super().__init__()
        self.model = model.eval()
        self.prompts = prompts
        self.eos = eos
        self.pad = pad
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.seed = seed
        self.max_tokens = max_tokens

    def predict_step(self, indices: Tensor, batch_idx: int = 0) -> list[Reply]:
        """Return the replies to the prompts with the given indices [rows], in their order."""
        rows = indices.tolist()
        rollout = generate(
            self.model,
            [self.prompts[row] for row in rows],
            eos=self.eos,
            pad=self.pad,
            max_new=self.max_new_tokens,
            temperature=self.temperature,
            noise=torch.stack([self._noise(row) for row in rows]),
            max_tokens=self.max_tokens,
        )
        ids, prompt_lengths, reply_lengths = (field.tolist() for field in rollout.sequences)
        return [
            Reply(row[begin : begin + length], ended)
            for row, begin, length, ended in zip(
                ids, prompt_lengths, reply_lengths, rollout.ended.tolist(), strict=True
            )
        ]

    def _noise(self, row: int) -> Tensor:
        generator = torch.Generator().manual_seed(seeds.integer(self.seed, 0, "reply", row))
        return torch.rand(self.max_new_tokens, generator=generator)


class _Count(Callback):
    """Tells how many prompts are answered, and ends after SIGTERM, which Lightning's `predict` only takes note of."""

    def __init__(self, progress: Callable[[int], None] | None) -> None:
        self.progress = progress
        self.done = 0

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: Responder,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the prompts of a batch."""
        self.done += len(batch)
        if self.progress is not None:
            self.progress(self.done)
        if trainer.received_sigterm:
            raise Interrupted(f"interrupted (SIGTERM) after {self.done} of {len(pl_module.prompts)} prompts")


def respond(
    responder: Responder,
    *,
    batch_prompts: int = 128,
    accelerator: str = "auto",
    precision: str = "32-true",
    progress: Callable[[int], None] | None = None,
) -> list[Reply]:
    """Return the replies to all prompts of a responder, in their order, on one device.

    Prompts of like length share a batch of `batch_prompts`, which changes the speed and not the replies. `progress` is
    called after each batch with the number of prompts answered.

    Raises:
        KeyboardInterrupt: if the user pressed Ctrl-C.
        Interrupted: if SIGTERM came and nothing else answers it.
    """
    order = sorted(range(len(responder.prompts)), key=lambda row: len(responder.prompts[row]))
    if not order:
        return []
    rows = torch.tensor(order)
    loader = DataLoader(
        TensorDataset(rows), batch_size=batch_prompts, collate_fn=lambda items: torch.stack([row for (row,) in items])
    )
    with quiet(), honest_interrupts():
        trainer = bare_trainer(accelerator, precision, _Count(progress))
        batches = trainer.predict(responder, loader)
    answered = [reply for replies in batches for reply in replies]
    replies = dict(zip(order, answered, strict=True))
    return [replies[row] for row in range(len(order))]
