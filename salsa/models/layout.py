"""Laying sequences of different lengths end to end, and finding their tokens again.

A forward pass costs as much for a padding token as for a real one, and replies differ in length: padding each sequence
to the longest one would make two slots out of three idle. So tokens are a flat list. Only attention needs rows, and
sequences of like length share them, padded on the right, where causal attention never looks.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from salsa.models.sequences import Sequences

_SLACK = 1.25
"""How many times as long as its shortest sequence the longest one of a group may be: padding against more groups."""
_SLACK_TOKENS = 3
"""How many tokens longer it may be in any case."""


class Group(NamedTuple):
    """Successive sequences of like length: tokens `start` to `stop`, as `rows` rows of `width` cells.

    `cells` [tokens] are the indices of the tokens into the flattened rows; None where there is no padding.
    """

    start: int
    stop: int
    rows: int
    width: int
    cells: Tensor | None


class Layout(NamedTuple):
    """Some of the rows of `Sequences`, laid end to end in order of their lengths.

    `ids` and `positions` [tokens] are tokens and their places in their sequences; `groups` say which sequences attend
    together. The other fields are indices: `sources` [sequences] into the rows of the `Sequences`; `ends` [sequences]
    into the tokens, the last one of each sequence; `states` [reply tokens] into the tokens, the place at which each
    reply token is predicted; `targets` [reply tokens] those reply tokens; `cells` [reply tokens] into a flattened
    [rows, longest reply] table of all the `Sequences`. Reply tokens are ordered by sequence and, within it, by time.
    """

    ids: Tensor
    positions: Tensor
    groups: tuple[Group, ...]
    sources: Tensor
    ends: Tensor
    states: Tensor
    targets: Tensor
    cells: Tensor

    def to(self, device: torch.device) -> "Layout":
        """Return the layout on a device."""
        groups = tuple(
            group._replace(cells=None if group.cells is None else group.cells.to(device)) for group in self.groups
        )
        moved = {name: field.to(device) for name, field in self._asdict().items() if name != "groups"}
        return Layout(groups=groups, **moved)

    def rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tokens as rows for the library: ids and positions [rows, width], and each token's index into them.

        Short sequences share a row. Positions that start again at 0 keep them apart: the library's causal models derive
        from them a mask in which no token sees another sequence (only without an attention mask and without a cache).
        """
        device = self.ids.device
        lengths = (self.positions[self.ends] + 1).tolist()
        width = max(lengths)
        bins, starts, used = fill_bins(lengths, width)
        first = torch.tensor(bins, device=device) * width + torch.tensor(starts, device=device)
        cells = torch.repeat_interleave(first, self.positions[self.ends] + 1) + self.positions
        # The padding behind the last sequence counts from 0 too: to the model it is one more sequence of its own.
        places = torch.arange(width, device=device) - torch.tensor(used, device=device)[:, None]
        positions = places.clamp_(min=0).flatten().index_copy(0, cells, self.positions)
        ids = self.ids.new_zeros(len(positions)).index_copy(0, cells, self.ids)
        return ids.view(-1, width), positions.view(-1, width), cells

    @classmethod
    def of_tokens(cls, texts: Sequence[Sequence[int]]) -> "Layout":
        """Return the layout of texts without replies, in order of their lengths."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        lengths = torch.tensor([len(texts[index]) for index in order])
        ids = torch.tensor([token for index in order for token in texts[index]])
        nothing = torch.empty(0, dtype=torch.long)
        positions = _ragged(lengths)[1]
        ends = lengths.cumsum(0) - 1
        return cls(ids, positions, _groups(lengths), torch.tensor(order), ends, nothing, nothing, nothing)


def layouts(sequences: Sequences, max_tokens: int, rows: Tensor | None = None) -> list[Layout]:
    """Lay out `rows` of the sequences (all, if None) in parts of at most `max_tokens` tokens.

    A part holds sequences of like length, and at least one, however long it is; attention pads them by a tenth or so.
    Every model output is the same for all `max_tokens`, up to rounding.
    """
    ids = sequences.ids.cpu()
    prompt_lengths, reply_lengths = sequences.prompt_lengths.cpu(), sequences.reply_lengths.cpu()
    longest_reply = int(reply_lengths.max())
    chosen = torch.arange(len(ids)) if rows is None else rows.cpu()
    lengths = (prompt_lengths + reply_lengths)[chosen]
    lengths, order = lengths.sort(stable=True)
    chosen = chosen[order]
    return [
        _part(ids, chosen[part], prompt_lengths[chosen[part]], reply_lengths[chosen[part]], longest_reply)
        for part in _parts(lengths.tolist(), max_tokens)
    ]


def _parts(lengths: list[int], max_tokens: int) -> list[slice]:
    """Cut ascending lengths into slices of at most `max_tokens` tokens, or of one sequence.

    They are filled from the longest down, so that what is left over is short sequences.
    """
    parts, stop, tokens = [], len(lengths), 0
    for index in range(len(lengths) - 1, -1, -1):
        if index + 1 < stop and tokens + lengths[index] > max_tokens:
            parts.append(slice(index + 1, stop))
            stop, tokens = index + 1, 0
        tokens += lengths[index]
    return [slice(0, stop), *parts[::-1]]


def _part(ids: Tensor, sources: Tensor, prompt_lengths: Tensor, reply_lengths: Tensor, longest_reply: int) -> Layout:
    """Build the layout of the rows `sources`, whose lengths ascend."""
    lengths = prompt_lengths + reply_lengths
    owner, step = _ragged(lengths)
    replier, time = _ragged(reply_lengths)
    begin = prompt_lengths[replier] + time
    first = lengths.cumsum(0) - lengths
    return Layout(
        ids=ids[sources[owner], step],
        positions=step,
        groups=_groups(lengths),
        sources=sources,
        ends=first + lengths - 1,
        states=first[replier] + begin - 1,
        targets=ids[sources[replier], begin],
        cells=sources[replier] * longest_reply + time,
    )


def _groups(lengths: Tensor) -> tuple[Group, ...]:
    """Return the groups of sequences whose lengths ascend."""
    groups = []
    each, first, start = lengths.tolist(), 0, 0
    while first < len(each):
        limit = max(each[first] * _SLACK, each[first] + _SLACK_TOKENS)
        stop = first
        while stop < len(each) and each[stop] <= limit:
            stop += 1
        rows, width, tokens = stop - first, each[stop - 1], sum(each[first:stop])
        cells = None
        if tokens < rows * width:
            owner, step = _ragged(lengths[first:stop])
            cells = owner * width + step
        groups.append(Group(start, start + tokens, rows, width, cells))
        first, start = stop, start + tokens
    return tuple(groups)


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


def _ragged(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for items of the given lengths one after the other, the item and the place in it of every element."""
    owner = torch.repeat_interleave(lengths)
    return owner, torch.arange(len(owner)) - (lengths.cumsum(0) - lengths)[owner]
