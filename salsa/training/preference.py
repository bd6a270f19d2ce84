"""Training a reward model on preferences between two replies (Bradley and Terry, 1952)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from salsa.models.layout import fill_bins
from salsa.models.sequences import Sequences, pack
from salsa.training.optimiser import OptimiserSettings
from salsa.training.supervised import Supervised

_PROMPT, _CHOSEN, _REJECTED = range(3)


def collate_pairs(pairs: Sequence[Mapping[str, Any]], pad: int) -> Sequences:
    """Return pairs as one batch: all the chosen replies, then in the same order all the rejected ones.

    Each pair holds token ids under "prompt", "chosen" and "rejected" (the replies with their end token, if any).

    Raises:
        ValueError: if there are no pairs, or a prompt is empty.
    """
    prompts = [pair["prompt"] for pair in pairs]
    replies = [pair[side] for side in ("chosen", "rejected") for pair in pairs]
    return pack([*prompts, *prompts], replies, pad)


class RewardModeling(Supervised):
    """Trains a reward model so that sigmoid(score of chosen - score of rejected) is the chance of being preferred.

    The loss is the mean of -log sigmoid(score of chosen - score of rejected) over the pairs of a batch, each score
    taken at the last token of a reply (InstructGPT, arXiv:2203.02155, equation 1 with two replies).

    Raises:
        ValueError: if the model's layers attend in different ways.
    """

    headline = ("loss", "accuracy")

    def __init__(self, model: PreTrainedModel, settings: OptimiserSettings, steps: int) -> None:
        super().__init__(model, settings, steps)
        kinds = set(getattr(model.config, "layer_types", None) or ())
        if len(kinds) > 1:
            raise ValueError(
                f"{type(model).__name__} mixes kinds of attention ({', '.join(sorted(kinds))}), which the layout of "
                "pairs does not support; use a Llama, Mistral or Gemma (1) model"
            )

    def loss(self, batch: Sequences) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the loss of a batch of `collate_pairs` (nats a pair) and the share of pairs ordered rightly."""
        chosen, rejected = pair_scores(self.model, batch)
        margins = chosen - rejected
        accuracy = (margins.detach() > 0).float().mean()
        return -F.logsigmoid(margins).mean(), {"accuracy": accuracy, "margin": margins.detach().mean()}


def pair_scores(model: PreTrainedModel, batch: Sequences) -> Tensor:
    """Return the scores [2, pairs] in float32 of the chosen and the rejected replies of `collate_pairs`.

    They equal `salsa.models.scoring.sequence_scores`, but a prompt is read once for both of its replies, which saves a
    quarter of the work or more. All pairs go through the model at once.

    Raises:
        ValueError: if the two halves of the batch do not have the same prompts.
    """
    layout = _lay_out(batch).to(model.device)
    seen = _visible(layout, getattr(model.config, "sliding_window", None))
    hidden = model.model(
        input_ids=layout.ids, position_ids=layout.positions, attention_mask=seen[:, None], use_cache=False
    ).last_hidden_state
    return model.score(hidden.flatten(0, 1)[layout.ends]).squeeze(-1).float()


class _PairLayout(NamedTuple):
    """Pairs laid out as prompt, chosen reply, rejected reply; several pairs share a row.

    `ids`, `positions`, `pair` and `part` are [rows, width]: tokens; their positions, which in a rejected reply go on
    from the end of the prompt; the pair that a token belongs to (-1: padding); and which part of it. `ends` [2, pairs]
    are indices into the flattened rows of the last token of each chosen (first) and rejected (second) reply.
    """

    ids: Tensor
    positions: Tensor
    pair: Tensor
    part: Tensor
    ends: Tensor

    def to(self, device: torch.device) -> "_PairLayout":
        return _PairLayout(*(field.to(device) for field in self))


def _lay_out(batch: Sequences) -> _PairLayout:
    ids = batch.ids.cpu()
    count = len(ids) // 2
    prompt_lengths, reply_lengths = batch.prompt_lengths.tolist(), batch.reply_lengths.tolist()
    in_prompt = torch.arange(ids.shape[1]) < batch.prompt_lengths[:count, None].cpu()
    if prompt_lengths[:count] != prompt_lengths[count:] or (ids[:count] != ids[count:])[in_prompt].any():
        raise ValueError("the chosen and the rejected replies of a batch are not to the same prompts")
    lengths = [prompt_lengths[i] + reply_lengths[i] + reply_lengths[count + i] for i in range(count)]
    width = max(lengths)
    rows, starts, used = fill_bins(lengths, width)
    slots = len(used) * width
    tokens, positions = torch.zeros(slots, dtype=torch.long), torch.zeros(slots, dtype=torch.long)
    pair, part = torch.full((slots,), -1), torch.zeros(slots, dtype=torch.long)
    ends = torch.empty(2, count, dtype=torch.long)
    for number, (row, start, length) in enumerate(zip(rows, starts, lengths, strict=True)):
        begin = row * width + start
        prompt, reply = prompt_lengths[number], reply_lengths[number]
        chosen, rejected, end = begin + prompt, begin + prompt + reply, begin + length
        tokens[begin:rejected] = ids[number, : prompt + reply]
        tokens[rejected:end] = ids[count + number, prompt : prompt + end - rejected]
        positions[begin:rejected] = torch.arange(prompt + reply)
        positions[rejected:end] = torch.arange(prompt, prompt + end - rejected)
        pair[begin:end] = number
        part[chosen:rejected], part[rejected:end] = _CHOSEN, _REJECTED
        ends[0, number] = rejected - 1
        # A reply without a token is scored where the prompt ends.
        ends[1, number] = end - 1 if end > rejected else chosen - 1
    shape = (len(used), width)
    return _PairLayout(tokens.view(shape), positions.view(shape), pair.view(shape), part.view(shape), ends)


def _visible(layout: _PairLayout, window: int | None) -> Tensor:
    """Return which tokens see which [rows, width, width]: the earlier ones of their own pair, but not the other reply.

    A sliding window counts positions, not slots: the chosen reply does not push the prompt away from the rejected one.
    """
    pair, part, positions = layout.pair, layout.part, layout.positions
    width = pair.shape[1]
    earlier = torch.ones(width, width, dtype=torch.bool, device=pair.device).tril()
    same_pair = pair[:, :, None] == pair[:, None, :]
    same_text = (part[:, None, :] == _PROMPT) | (part[:, :, None] == part[:, None, :])
    seen = earlier & same_pair & same_text
    if window is not None:
        seen &= positions[:, :, None] - positions[:, None, :] < window
    return seen
