from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.training.batches import Batches, batch_indices, epoch_order


def test_an_epoch_is_a_permutation_that_its_seed_and_number_decide():
    assert sorted(epoch_order(1, 0, 50)) == list(range(50))
    assert epoch_order(1, 0, 50).tolist() == epoch_order(1, 0, 50).tolist()
    assert epoch_order(1, 0, 50).tolist() != epoch_order(1, 1, 50).tolist()
    assert epoch_order(1, 0, 50).tolist() != epoch_order(2, 0, 50).tolist()


def test_neighbouring_seeds_and_epochs_share_nothing():
    assert epoch_order(1, 1, 50).tolist() != epoch_order(2, 0, 50).tolist()


@given(batch=st.integers(1, 12), size=st.integers(1, 9), steps=st.integers(1, 12))
def test_every_row_is_seen_equally_often_up_to_one_visit(batch, size, steps):
    seen = Counter(row for step in range(steps) for row in batch_indices(3, step, batch, size).tolist())
    counts = [seen[row] for row in range(size)]
    assert sum(counts) == batch * steps
    assert max(counts) - min(counts) <= 1


def test_batches_follow_the_epochs_without_a_gap():
    flat = np.concatenate([batch_indices(7, step, 4, 10) for step in range(5)])
    assert flat.tolist() == [*epoch_order(7, 0, 10), *epoch_order(7, 1, 10)]


@pytest.mark.parametrize(("step", "batch", "size"), [(0, 4, 0), (0, 0, 4), (-1, 4, 4)])
def test_impossible_batches_are_refused(step, batch, size):
    with pytest.raises(ValueError):
        batch_indices(0, step, batch, size)


def test_a_loader_starts_at_its_step_and_keeps_its_length():
    batches = Batches(5, lambda step: step * 10, start=3)
    assert list(batches) == [30, 40]
    assert len(batches) == 5
