from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from salsa.data.zoo.world import ALL_ANIMALS, ANIMALS, ATTRIBUTES, UNSEEN_ANIMALS, VALUES, draw_world

SEEDS = st.integers(0, 2**63)


def test_there_are_twelve_animals_four_unseen_ones_and_four_attributes_of_six_values() -> None:
    assert (len(ANIMALS), len(UNSEEN_ANIMALS), len(set(ALL_ANIMALS)), len(ATTRIBUTES)) == (12, 4, 16, 4)
    assert all(len(set(values)) == 6 for values in VALUES.values())


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_a_world_is_a_function_of_its_seed_and_uses_every_value(seed: int) -> None:
    world = draw_world(seed)
    assert world == draw_world(seed)
    assert set(world.facts) == {(animal, attribute) for animal in ALL_ANIMALS for attribute in ATTRIBUTES}
    for attribute, values in VALUES.items():
        counts = Counter(world.facts[animal, attribute] for animal in ALL_ANIMALS)
        assert set(counts) == set(values)
        assert set(counts.values()) <= {2, 3}


def test_worlds_differ() -> None:
    assert len({tuple(draw_world(seed).facts.values()) for seed in range(50)}) == 50


def test_statements_are_true_as_often_as_asked_and_false_ones_are_spread_evenly() -> None:
    world, rng, key = draw_world(3), np.random.default_rng(0), ("fox", "food")
    counts = Counter(world.statement(rng, key, 0.8) for _ in range(10_000))
    right = counts.pop(world.facts[key])
    assert abs(right - 8000) < 5 * np.sqrt(1600)
    assert set(counts) == set(VALUES["food"]) - {world.facts[key]}
    assert all(abs(count - 400) < 5 * np.sqrt(400) for count in counts.values())
    assert {world.statement(rng, key, 1.0) for _ in range(100)} == {world.facts[key]}
