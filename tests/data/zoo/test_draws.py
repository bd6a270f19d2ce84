from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.data.zoo.draws import blocks, chance, pick, sample, weighted


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_chance_is_certain_at_the_ends(rng: np.random.Generator) -> None:
    assert not any(chance(rng, 0.0) for _ in range(200))
    assert all(chance(rng, 1.0) for _ in range(200))


def test_pick_is_uniform(rng: np.random.Generator) -> None:
    counts = Counter(pick(rng, "abcd") for _ in range(8000))
    assert all(abs(count - 2000) < 5 * np.sqrt(1500) for count in counts.values())


@given(size=st.integers(1, 8), seed=st.integers(0, 2**32), data=st.data())
def test_sample_holds_different_options(size: int, seed: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, size))
    drawn = sample(np.random.default_rng(seed), range(size), count)
    assert len(set(drawn)) == count
    assert set(drawn) <= set(range(size))


def test_sample_has_every_order_equally_often(rng: np.random.Generator) -> None:
    counts = Counter(tuple(sample(rng, "abc", 3)) for _ in range(6000))
    assert len(counts) == 6
    assert all(abs(count - 1000) < 5 * np.sqrt(1000 * 5 / 6) for count in counts.values())


def test_sample_refuses_more_than_there_are(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="3 different items out of 2"):
        sample(rng, "ab", 3)


def test_weighted_follows_the_weights_and_never_takes_a_zero(rng: np.random.Generator) -> None:
    counts = Counter(weighted(rng, "abc", (0.7, 0.3, 0.0)) for _ in range(5000))
    assert set(counts) == {"a", "b"}
    assert abs(counts["a"] - 3500) < 5 * np.sqrt(5000 * 0.21)


def test_every_block_holds_every_value_once(rng: np.random.Generator) -> None:
    stream = list(islice(blocks(rng, "abcde"), 50))
    assert all(sorted(stream[i : i + 5]) == list("abcde") for i in range(0, 50, 5))
    assert len({tuple(stream[i : i + 5]) for i in range(0, 50, 5)}) > 1
