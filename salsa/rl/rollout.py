"""Generating replies, with the log-probabilities of their tokens collected on the way."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from salsa.models.head import MAX_LOGITS, precise
from salsa.models.scoring import MICRO_BATCH_TOKENS
from salsa.models.sequences import Sequences, reply_mask
from salsa.rl.cache import ReservedCache

_LARGE_VOCABULARY = 4096
"""Above this many words a running sum of float32 probabilities is off by more than the rarest of them."""


class Rollout(NamedTuple):
    """Replies of a policy to prompts.

    `logps` [rows, longest reply] are the log-probabilities (nats) with which the tokens were sampled and `entropies`
    [rows, longest reply] the entropies (nats) of the distributions they were sampled from, both 0 behind a reply;
    `ended` [rows] tells which replies have their end token (the last one counted), the others were cut.
    """

    sequences: Sequences
    logps: Tensor
    ended: Tensor
    entropies: Tensor


class _Chosen(NamedTuple):
    """The tokens of one step, [rows] each, and the rows they belong to."""

    rows: Tensor
    tokens: Tensor
    logps: Tensor
    entropies: Tensor


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    eos: int,
    pad: int,
    max_new: int,
    temperature: float,
    noise: Tensor,
    max_tokens: int = MICRO_BATCH_TOKENS,
) -> Rollout:
    """Reply to each prompt with at most `max_new` tokens, up to and including the end token.

    Tokens are drawn by inverting the distribution function at the row's own uniform numbers `noise` [rows, max_new],
    so that a row's reply does not depend on which other rows are in the batch. Temperature 0 takes the likeliest token
    each time; log-probabilities and entropies are then those of temperature 1. `max_tokens` bounds the slots of one
    forward pass over prompts.

    Raises:
        ValueError: if there are no prompts, one is empty, or the noise has another shape.
    """
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise ValueError("generating needs at least one prompt, and every prompt at least one token")
    if max_new < 1 or noise.shape != (len(prompts), max_new):
        raise ValueError(
            f"{len(prompts)} replies of at most {max_new} tokens need noise of shape ({len(prompts)}, {max_new}), "
            f"got {tuple(noise.shape)}"
        )
    with torch.inference_mode():
        # Sorted, so that prompts of like length are read together.
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        steps, lengths, ended = _decode(
            model, [prompts[row] for row in order], eos, temperature, noise.to(model.device)[order], max_tokens
        )
        rollout = _assemble(prompts, steps, lengths, ended, torch.tensor(order, device=model.device), pad)
    # Copies made here, outside inference mode, may take part in gradients.
    return Rollout(
        Sequences(*(field.clone() for field in rollout.sequences)), *(field.clone() for field in rollout[1:])
    )


def choose(logits: Tensor, temperature: float, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Draw one token a row from logits [rows, vocabulary] with uniform numbers [rows] in [0, 1).

    The token is the number of words whose cumulative probability does not exceed the uniform number; rounding never
    makes it a word of probability zero. Returns tokens, their log-probabilities and the entropies, [rows] each. A large
    vocabulary is looked at a few rows at a time, as that takes several times the memory of its logits.
    """
    few = max(1, MAX_LOGITS // logits.shape[1])
    if len(logits) <= few:
        return _choose(logits, temperature, uniform)
    parts = zip(logits.split(few), uniform.split(few), strict=True)
    tokens, logps, entropies = zip(*(_choose(rows, temperature, numbers) for rows, numbers in parts), strict=True)
    return torch.cat(tokens), torch.cat(logps), torch.cat(entropies)


def _choose(logits: Tensor, temperature: float, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Do what `choose` does, for all rows at once."""
    logps = torch.log_softmax(precise(logits) / (temperature or 1.0), dim=-1)
    probabilities = logps.exp()
    if temperature == 0:
        tokens = logits.argmax(-1)
    else:
        sums = probabilities.double() if logits.shape[-1] > _LARGE_VOCABULARY else probabilities
        sums = sums.cumsum(-1)
        tokens = torch.searchsorted(sums, uniform[:, None].to(sums.dtype), right=True)[:, 0]
        # The sum may stop short of 1: then the last word that still adds to it.
        tokens = torch.minimum(tokens, (sums < sums[:, -1:]).sum(-1))
    entropies = -(probabilities * logps.clamp(min=torch.finfo(logps.dtype).min)).sum(-1)
    return tokens, logps.gather(1, tokens[:, None])[:, 0], entropies


def _decode(
    model: PreTrainedModel,
    prompts: list[Sequence[int]],
    eos: int,
    temperature: float,
    noise: Tensor,
    max_tokens: int,
) -> tuple[list[_Chosen], Tensor, Tensor]:
    """Generate for prompts sorted by length; return the tokens of each step, reply lengths and which replies ended."""
    max_new, device = noise.shape[1], model.device
    width = len(prompts[-1])
    columns = torch.arange(width + max_new - 1, device=device)
    cache = ReservedCache(model.config, len(prompts), len(columns))
    logits = _read_prompts(model, cache, prompts, width, max_tokens)
    rows = torch.arange(len(prompts), device=device)
    positions = torch.tensor([len(prompt) for prompt in prompts], device=device)
    seen = columns >= (width - positions)[:, None]
    padded = len(prompts[0]) < width
    lengths = torch.full((len(prompts),), max_new, device=device)
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    steps = []
    for step in range(max_new):
        chosen = _Chosen(rows, *choose(logits, temperature, noise[rows, step]))
        steps.append(chosen)
        tokens = chosen.tokens
        running = tokens != eos
        left = int(running.sum())
        if left < len(rows):
            finished = rows[~running]
            lengths[finished], ended[finished] = step + 1, True
            if left == 0:
                break
            # Running rows from the end take the places of the finished ones before them.
            gaps, movers = (~running[:left]).nonzero()[:, 0], left + running[left:].nonzero()[:, 0]
            cache.close_gaps(gaps, movers, left)
            rows, tokens, positions, seen = (
                field.index_copy(0, gaps, field[movers])[:left] for field in (rows, tokens, positions, seen)
            )
        if step + 1 < max_new:
            logits = model(
                input_ids=tokens[:, None],
                attention_mask=_attention_mask(model, seen[:, : width + step + 1]) if padded else None,
                position_ids=positions[:, None],
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1]
            positions = positions + 1
    return steps, lengths, ended


def _attention_mask(model: PreTrainedModel, seen: Tensor) -> Tensor:
    """Return the mask for one new token a row, which sees the columns `seen` [rows, columns].

    The library builds its own mask from one of two dimensions, which takes a quarter of the time of a step of a small
    model. One of four dimensions is used as it is, which is right where all layers see all columns.
    """
    config = model.config.get_text_config()
    sees_all = getattr(config, "sliding_window", None) is None and getattr(config, "attention_chunk_size", None) is None
    return seen[:, None, None] if sees_all and model.config._attn_implementation == "sdpa" else seen


def _read_prompts(
    model: PreTrainedModel, cache: ReservedCache, prompts: list[Sequence[int]], width: int, max_tokens: int
) -> Tensor:
    """Fill the cache with prompts sorted by length, each ending in column `width` - 1; return the next token's logits.

    Groups of like length are read one after the other, each into its own rows and columns of the cache.
    """
    logits = []
    for group in _groups([len(prompt) for prompt in prompts], max_tokens):
        widest, shortest = len(prompts[group.stop - 1]), len(prompts[group.start])
        ids = torch.tensor([[0] * (widest - len(prompt)) + list(prompt) for prompt in prompts[group]])
        gaps = widest - torch.tensor([len(prompt) for prompt in prompts[group]])
        positions = (torch.arange(widest) - gaps[:, None]).clamp(min=0)
        cache.look_at(group, width - widest, width - widest)
        output = model(
            input_ids=ids.to(model.device),
            attention_mask=None if shortest == widest else (torch.arange(widest) >= gaps[:, None]).to(model.device),
            position_ids=positions.to(model.device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits.append(output.logits[:, -1])
    cache.look_at(slice(0, len(prompts)), 0, width)
    return torch.cat(logits)


def _groups(lengths: list[int], max_tokens: int) -> Iterator[slice]:
    """Yield slices of ascending lengths, each of at most `max_tokens` slots when padded (or of one row)."""
    first = 0
    for row, length in enumerate(lengths):
        if row > first and length * (row + 1 - first) > max_tokens:
            yield slice(first, row)
            first = row
    yield slice(first, len(lengths))


def _assemble(
    prompts: Sequence[Sequence[int]], steps: list[_Chosen], lengths: Tensor, ended: Tensor, order: Tensor, pad: int
) -> Rollout:
    """Put the steps' tokens behind their prompts, in the order in which the prompts were given (`order` was theirs)."""
    back = order.argsort()
    lengths, ended = lengths[back], ended[back]
    prompt_lengths = torch.tensor([len(prompt) for prompt in prompts], device=order.device)
    width = int((prompt_lengths + lengths).max())
    ids = torch.tensor([[*prompt, *[pad] * (width - len(prompt))] for prompt in prompts], device=order.device)
    sequences = Sequences(ids, prompt_lengths, lengths)
    rows = order[torch.cat([step.rows for step in steps])]
    times = torch.cat([torch.full_like(step.rows, time) for time, step in enumerate(steps)])
    ids[rows, prompt_lengths[rows] + times] = torch.cat([step.tokens for step in steps])
    mask = reply_mask(sequences)
    tables = []
    for values in (torch.cat([step.logps for step in steps]), torch.cat([step.entropies for step in steps])):
        table = values.new_zeros(mask.shape)
        table[rows, times] = values
        tables.append(table)
    return Rollout(sequences, tables[0], ended, tables[1])
