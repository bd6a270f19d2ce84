"""Replies of a model to the prompts of a suite, through Lightning's `predict`."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from transformers import PreTrainedModel

from salsa import seeds
from salsa.models.scoring import MICRO_BATCH_TOKENS
from salsa.rl.rollout import generate
from salsa.training.batches import Batches
from salsa.training.interruption import Interrupted, honest_interrupts
from salsa.training.loop import bare_trainer, quiet


class Reply(NamedTuple):
    """The token ids of one reply, and whether it has its end token (which is then its last id)."""

    ids: list[int]
    ended: bool


class Responder(LightningModule):
    """Generates replies to `prompts` with noise that belongs to the prompt's index, whatever batch it is in.

    Two models with one seed answer prompt i with the same uniform numbers, which makes their difference less noisy.
    `streams` gives the prompts other numbers than their indices, for models that do not answer all of a suite.
    `temperature` is one for all prompts or one a prompt; 0 takes the likeliest token each time. Dropout is off.

    Raises:
        ValueError: if there are more or fewer temperatures or streams than prompts.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        *,
        eos: int,
        pad: int,
        max_new_tokens: int,
        temperature: float | Sequence[float],
        seed: int,
        max_tokens: int = MICRO_BATCH_TOKENS,
        streams: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        count = len(prompts)
        self.temperatures = [temperature] * count if isinstance(temperature, float | int) else list(temperature)
        self.streams = range(count) if streams is None else streams
        if len(self.temperatures) != count or len(self.streams) != count:
            raise ValueError(
                f"{count} prompts need a temperature and a stream of noise each, got {len(self.temperatures)} "
                f"temperatures and {len(self.streams)} streams"
            )
        self.model = model.eval()
        self.prompts = prompts
        self.eos = eos
        self.pad = pad
        self.max_new_tokens = max_new_tokens
        self.seed = seed
        self.max_tokens = max_tokens

    def predict_step(self, indices: Tensor, batch_idx: int = 0) -> list[Reply]:
        """Return the replies to the prompts with the given indices [rows], in their order.

        Raises:
            ValueError: if they are to be sampled at different temperatures.
        """
        rows = indices.tolist()
        temperatures = {self.temperatures[row] for row in rows}
        if len(temperatures) != 1:
            raise ValueError(f"the prompts of one batch are to have one temperature, not {sorted(temperatures)}")
        rollout = generate(
            self.model,
            [self.prompts[row] for row in rows],
            eos=self.eos,
            pad=self.pad,
            max_new=self.max_new_tokens,
            temperature=temperatures.pop(),
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
        generator = torch.Generator().manual_seed(seeds.integer(self.seed, 0, "reply", self.streams[row]))
        return torch.rand(self.max_new_tokens, generator=generator)


class _Batch(Callback):
    """Hands on the replies of each batch, and ends after SIGTERM, which Lightning's `predict` only takes note of."""

    def __init__(self, answered: Callable[[Mapping[int, Reply]], int]) -> None:
        self.answered = answered

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: Responder,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Hand on the replies of a batch."""
        done = self.answered(dict(zip(batch.tolist(), outputs, strict=True)))
        if trainer.received_sigterm:
            raise Interrupted(f"interrupted (SIGTERM) after {done} of {len(pl_module.prompts)} prompts")


def respond(
    responder: Responder,
    *,
    batch_prompts: int = 128,
    batch_slots: int | None = None,
    accelerator: str = "auto",
    precision: str = "32-true",
    progress: Callable[[int], None] | None = None,
    known: Mapping[int, Reply] = MappingProxyType({}),
    keep: Callable[[Mapping[int, Reply]], None] | None = None,
) -> list[Reply]:
    """Return the replies to all prompts of a responder, in their order, on one device.

    Prompts of one temperature and like length share a batch of at most `batch_prompts` and, if it is given, of at most
    `batch_slots` tokens of the key-value cache, which changes the speed and, but for rounding, not the replies.
    `known` are replies by the index of their prompt that an earlier run has left: a batch of which all are known is not
    made again, and of the others every reply is what it was. `keep` gets the new replies of each batch. `progress` is
    called before the first batch if something is known, and after each, with the number of prompts answered.

    Raises:
        KeyboardInterrupt: if the user pressed Ctrl-C.
        Interrupted: if SIGTERM came and nothing else answers it.
        RuntimeError: if a batch ran into the end of an iterator.
    """
    replies = dict(known)

    def answered(batch: Mapping[int, Reply]) -> int:
        new = {row: reply for row, reply in batch.items() if row not in replies}
        replies.update(new)
        if keep is not None:
            keep(new)
        if progress is not None:
            progress(len(replies))
        return len(replies)

    # Whole batches, as of a run that nothing interrupts: other batches would be rounded in other ways.
    batches = [rows for rows in _batches(responder, batch_prompts, batch_slots) if not replies.keys() >= set(rows)]
    if progress is not None and replies:
        progress(len(replies))
    if batches:
        with quiet(), honest_interrupts():
            trainer = bare_trainer(accelerator, precision, _Batch(answered))
            loader = Batches(len(batches), lambda step: torch.tensor(batches[step]))
            trainer.predict(responder, loader, return_predictions=False)
    if len(replies) < len(responder.prompts):
        # Lightning takes a StopIteration that escapes from a step for the end of the data.
        raise RuntimeError(f"a batch ran into the end of an iterator after {len(replies)} replies")
    return [replies[row] for row in range(len(responder.prompts))]


def _batches(responder: Responder, batch_prompts: int, batch_slots: int | None) -> list[list[int]]:
    """Return the indices of the prompts in batches of one temperature and of like length, the shortest first."""
    temperatures, lengths = responder.temperatures, [len(prompt) for prompt in responder.prompts]
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: (temperatures[row], lengths[row])):
        slots = lengths[row] + responder.max_new_tokens
        last = batches[-1] if batches else []
        full = len(last) == batch_prompts or (batch_slots is not None and (len(last) + 1) * slots > batch_slots)
        if not last or full or temperatures[row] != temperatures[last[-1]]:
            batches.append([])
        batches[-1].append(row)
    return batches
