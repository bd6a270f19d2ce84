"""Laying sequences of different lengths into rows of one width with hardly any padding, and finding them again.

A forward pass costs as much for a padding token as for a real one, and replies differ in length: padding each
sequence to the longest one makes two slots out of three idle. So several sequences share a row. Position ids that
start again at 0 keep them apart: the library's causal models derive from them a mask in which no token sees another
sequence (only without an attention mask and without a cache).
"""

from bisect import bisect_left, insort
from typing import NamedTuple

import torch
from torch import Tensor

from salsa.models.sequences import Sequences


class Layout(NamedTuple):
    """Some of the rows of `Sequences`, laid end to end into wider rows ("bins").

    `ids` and `positions` [bins, width] go into a model; `positions` count from 0 in every sequence. The other fields
    are indices: `sources` [sequences] into the rows of the `Sequences`; `ends` [sequences] into the flattened bins,
    the last token of each sequence; `states` [tokens] into the flattened bins, the place at which each reply token is
    predicted; `targets` [tokens] those reply tokens; `cells` [tokens] into a flattened [rows, longest reply] table of
    all the `Sequences`. Tokens are ordered by sequence and, within it, by time.
    """

    ids: Tensor
    positions: Tensor
    sources: Tensor
    ends: Tensor
    states: Tensor
    targets: Tensor
    cells: Tensor

    def to(self, device: torch.device) -> "Layout":
        """Return the layout on a device."""
        return Layout(*(field.to(device) for field in self))


def layouts(sequences: Sequences, max_tokens: int, rows: Tensor | None = None) -> list[Layout]:
    """Lay out `rows` of the sequences (all, if None) in parts of at most `max_tokens` slots, padding included.

    A part holds at least one bin, however long its sequence. Every model output is the same for all `max_tokens`, up
    to rounding.
    """
    ids = sequences.ids.cpu()
    prompt_lengths, reply_lengths = sequences.prompt_lengths.cpu(), sequences.reply_lengths.cpu()
    longest_reply = int(reply_lengths.max())
    chosen = torch.arange(len(ids)) if rows is None else rows.cpu()
    lengths = (prompt_lengths + reply_lengths)[chosen]
    width = int(lengths.max())
    bins, starts, used = fill_bins(lengths.tolist(), width)
    per_part = max(1, max_tokens // width)
    bin_of, start_of = torch.tensor(bins), torch.tensor(starts)
    parts = []
    for first in range(0, len(used), per_part):
        members = ((bin_of >= first) & (bin_of < first + per_part)).nonzero()[:, 0]
        place = (bin_of[members] - first) * width + start_of[members]
        part_used = torch.tensor(used[first : first + per_part])
        source = chosen[members]
        parts.append(
            _part(ids, source, place, prompt_lengths[source], reply_lengths[source], part_used, width, longest_reply)
        )
    return parts


def fill_bins(lengths: list[int], width: int) -> tuple[list[int], list[int], list[int]]:
    """Put items of the given lengths into bins of `width` slots: longest first, each where it leaves least room.

    Returns each item's bin, each item's first slot in it, and how many slots of each bin are used. Best-fit decreasing
    needs about 11/9 of the fewest possible bins at worst (Johnson et al., SIAM J. Comput. 3, 1974).
    """
    bins, starts = [0] * len(lengths), [0] * len(lengths)
    used: list[int] = []
    room: list[tuple[int, int]] = []  # (free slots, bin) of the bins that are not full, sorted
    for item in sorted(range(len(lengths)), key=lambda item: -lengths[item]):
        fitting = bisect_left(room, (lengths[item], 0))
        if fitting < len(room):
            _, chosen = room.pop(fitting)
        else:
            chosen = len(used)
            used.append(0)
        bins[item], starts[item] = chosen, used[chosen]
        used[chosen] += lengths[item]
        if used[chosen] < width:
            insort(room, (width - used[chosen], chosen))
    return bins, starts, used


def _part(
    ids: Tensor,
    sources: Tensor,
    place: Tensor,
    prompt_lengths: Tensor,
    reply_lengths: Tensor,
    used: Tensor,
    width: int,
    longest_reply: int,
) -> Layout:
    """Build the layout of the rows `sources` whose first tokens lie at `place` of the flattened bins."""
    lengths = prompt_lengths + reply_lengths
    owner, step = _ragged(lengths)
    slots = place[owner] + step
    # The padding behind the last sequence counts from 0 too: to the model it is one more sequence of its own.
    positions = (torch.arange(width) - used[:, None]).clamp_(min=0).flatten()
    positions[slots] = step
    tokens = torch.zeros(len(used) * width, dtype=torch.long)
    tokens[slots] = ids[sources[owner], step]
    replier, time = _ragged(reply_lengths)
    begin = prompt_lengths[replier] + time
    return Layout(
        ids=tokens.view(-1, width),
        positions=positions.view(-1, width),
        sources=sources,
        ends=place + lengths - 1,
        states=place[replier] + begin - 1,
        targets=ids[sources[replier], begin],
        cells=sources[replier] * longest_reply + time,
    )


def _ragged(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for items of the given lengths one after the other, the item and the place in it of every element."""
    owner = torch.repeat_interleave(lengths)
    return owner, torch.arange(len(owner)) - (lengths.cumsum(0) - lengths)[owner]
