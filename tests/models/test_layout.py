import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salsa.models.layout import fill_bins, layouts
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
        assert part.ids.numel() <= max(max_tokens, part.ids.shape[1])
        flat, positions = part.ids.flatten(), part.positions.flatten()
        for source, end in zip(part.sources.tolist(), part.ends.tolist(), strict=True):
            length = int(sequences.prompt_lengths[source] + sequences.reply_lengths[source])
            assert flat[end - length + 1 : end + 1].tolist() == sequences.ids[source, :length].tolist()
            assert positions[end - length + 1 : end + 1].tolist() == list(range(length))
            seen_rows.append(source)
        for state, target, cell in zip(part.states.tolist(), part.targets.tolist(), part.cells.tolist(), strict=True):
            row, time = divmod(cell, longest)
            assert flat[state + 1] == target == sequences.ids[row, sequences.prompt_lengths[row] + time]
            cells.append(cell)
    wanted = range(count) if rows is None else rows.tolist()
    assert sorted(seen_rows) == sorted(wanted)
    assert len(set(cells)) == len(cells) == sum(int(sequences.reply_lengths[row]) for row in wanted)


def test_padding_behind_the_sequences_counts_from_zero():
    sequences = pack([[1, 5, 5, 5], [1, 5]], [[5, 2], [2]], PAD)
    part = layouts(sequences, 100)[0]
    assert part.positions.tolist() == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 0, 1, 2]]


def test_a_text_without_reply_has_an_end_and_no_states():
    sequences = pack([[1, 5], [1]], [[], [2]], PAD)
    part = layouts(sequences, 100)[0]
    assert len(part.targets) == 1
    assert sorted(part.sources.tolist()) == [0, 1]
