import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salsa.models.layout import Layout, fill_bins, layouts
from salsa.models.sequences import pack
from tests.rl.tiny import PAD, replies, texts

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=40)


@given(LENGTHS)
@settings(max_examples=60, deadline=None)
def test_bins_hold_every_item_once_without_overlap(lengths):
    width = max(lengths)
    bins, starts, used = fill_bins(lengths, width)
    slots = {(b, s + place) for b, s, length in zip(bins, starts, lengths, strict=True) for place in range(length)}
    assert len(slots) == sum(lengths) == sum(used)
    assert max(place for _, place in slots) < width
    # No two bins would have fitted into one.
    assert all(one + other > width for place, one in enumerate(used) for other in used[:place])


def test_bins_leave_little_room_on_lengths_as_they_occur():
    lengths = torch.randint(8, 70, (128,), generator=torch.Generator().manual_seed(0)).tolist()
    _, _, used = fill_bins(lengths, 70)
    assert sum(lengths) / (len(used) * 70) > 0.93


@given(st.integers(0, 1000), st.integers(1, 60), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_token_is_found_again(seed, max_tokens, some):
    count = 7
    sequences = pack(texts(seed, count), replies(seed + 1, count), PAD)
    rows = torch.tensor([5, 0, 3]) if some else None
    longest = int(sequences.reply_lengths.max())
    seen_rows, cells = [], []
    for part in layouts(sequences, max_tokens, rows):
        lengths = (part.positions[part.ends] + 1).tolist()
        assert len(lengths) == 1 or sum(lengths) <= max_tokens
        for source, end in zip(part.sources.tolist(), part.ends.tolist(), strict=True):
            length = int(sequences.prompt_lengths[source] + sequences.reply_lengths[source])
            assert part.ids[end - length + 1 : end + 1].tolist() == sequences.ids[source, :length].tolist()
            assert part.positions[end - length + 1 : end + 1].tolist() == list(range(length))
            seen_rows.append(source)
        for state, target, cell in zip(part.states.tolist(), part.targets.tolist(), part.cells.tolist(), strict=True):
            row, time = divmod(cell, longest)
            assert target == sequences.ids[row, sequences.prompt_lengths[row] + time]
            assert part.positions[state] + 1 == sequences.prompt_lengths[row] + time
            cells.append(cell)
    wanted = range(count) if rows is None else rows.tolist()
    assert sorted(seen_rows) == sorted(wanted)
    assert len(set(cells)) == len(cells) == sum(int(sequences.reply_lengths[row]) for row in wanted)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_groups_hold_all_tokens_and_sequences_of_like_length(lengths):
    layout = Layout.of_tokens([list(range(length)) for length in lengths])
    assert [group.start for group in layout.groups] == [0, *(group.stop for group in layout.groups[:-1])]
    assert layout.groups[-1].stop == sum(lengths) == len(layout.ids)
    for group in layout.groups:
        shortest = int(layout.positions[group.start : group.stop][layout.ids[group.start : group.stop] == 0].numel())
        assert shortest == group.rows
        assert (group.cells is None) == (group.stop - group.start == group.rows * group.width)
        assert group.stop - group.start >= group.rows * group.width / 1.25 - 3 * group.rows
        table = torch.full((group.rows * group.width,), -1)
        cells = torch.arange(group.rows * group.width) if group.cells is None else group.cells
        table[cells] = layout.positions[group.start : group.stop]
        # Each row counts from 0 to the end of its sequence, and padding follows.
        for row in table.view(group.rows, group.width).tolist():
            real = [place for place in row if place >= 0]
            assert row == list(range(len(real))) + [-1] * (group.width - len(real))


def test_rows_for_the_library_hold_every_token_apart_from_other_sequences():
    sequences = pack([[1, 5, 6, 7], [1, 5], [1]], [[8, 2], [2], [2]], PAD)
    (part,) = layouts(sequences, 100)
    ids, positions, cells = part.rows()
    assert ids.tolist() == [[1, 5, 6, 7, 8, 2], [1, 5, 2, 1, 2, 0]]
    assert positions.tolist() == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 0, 1, 0]]
    assert ids.flatten()[cells].tolist() == part.ids.tolist() == [1, 2, 1, 5, 2, 1, 5, 6, 7, 8, 2]


def test_a_text_without_reply_has_an_end_and_no_states():
    sequences = pack([[1, 5], [1]], [[], [2]], PAD)
    part = layouts(sequences, 100)[0]
    assert len(part.targets) == 1
    assert sorted(part.sources.tolist()) == [0, 1]
