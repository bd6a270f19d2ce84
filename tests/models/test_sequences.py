import pytest
import torch

from salsa.models.sequences import Sequences, pack, reply_mask


def test_pack_joins_prompt_and_reply_without_a_gap():
    sequences = pack([[1, 5, 6], [1]], [[7, 2], [8, 9, 9, 2]], pad=0)
    assert sequences.ids.tolist() == [[1, 5, 6, 7, 2], [1, 8, 9, 9, 2]]
    assert sequences.prompt_lengths.tolist() == [3, 1]
    assert sequences.reply_lengths.tolist() == [2, 4]


def test_rows_are_padded_on_the_right():
    assert pack([[1, 5], [1]], [[2], [2]], pad=0).ids.tolist() == [[1, 5, 2], [1, 2, 0]]


def test_reply_mask_is_a_table_of_reply_tokens():
    lengths = torch.tensor([2, 0, 3])
    mask = reply_mask(Sequences(torch.zeros(3, 9, dtype=torch.long), torch.ones(3), lengths))
    assert mask.tolist() == [[True, True, False], [False, False, False], [True, True, True]]


@pytest.mark.parametrize(
    ("prompts", "given", "message"),
    [
        ([], [], "every prompt needs one reply"),
        ([[1]], [], "1 prompts and 0 replies"),
        ([[1], []], [[2], [2]], "prompt 1"),
    ],
)
def test_what_cannot_be_packed_is_refused(prompts, given, message):
    with pytest.raises(ValueError, match=message):
        pack(prompts, given, pad=0)
