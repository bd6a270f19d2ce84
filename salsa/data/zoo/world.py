"""The facts of the zoo: which animals there are, what can be said about them, and what is true of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from salsa.data.zoo.draws import pick, sample
from salsa.seeds import generator

ANIMALS = ("fox", "owl", "bear", "crow", "goat", "frog", "wolf", "deer", "hare", "mole", "seal", "crab")
"""Animals that prompts and demonstrations may ask about."""
UNSEEN_ANIMALS = ("lynx", "toad", "swan", "otter")
"""Animals that only the pre-training text (and the suite that tests for them) speaks about."""
ALL_ANIMALS = ANIMALS + UNSEEN_ANIMALS

VALUES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "colour": ("red", "brown", "grey", "black", "white", "green"),
        "food": ("fish", "grass", "seeds", "berries", "insects", "roots"),
        "home": ("caves", "trees", "rivers", "fields", "burrows", "marshes"),
        "skill": ("dig", "swim", "climb", "run", "jump", "sing"),
    }
)
"""The values that each attribute can take."""
ATTRIBUTES = tuple(VALUES)
VERBS: Mapping[str, str] = MappingProxyType({"colour": "is", "food": "eats", "home": "lives in", "skill": "can"})
"""What stands between the animal and the value in a sentence that states a fact."""

FactKey = tuple[str, str]
"""An animal and an attribute."""


@dataclass(frozen=True)
class World:
    """One zoo: the true value of every attribute of every animal, drawn from `seed`."""

    seed: int
    facts: Mapping[FactKey, str]

    def statement(self, rng: np.random.Generator, key: FactKey, truth: float) -> str:
        """Return the true value of a fact with probability `truth`, else one of the five false ones."""
        right = self.facts[key]
        if rng.random() < truth:
            return right
        return pick(rng, [value for value in VALUES[key[1]] if value != right])


def draw_world(seed: int) -> World:
    """Return the world of a seed; each value is true of two or three animals, so that no answer is a safe guess."""
    facts: dict[FactKey, str] = {}
    rng = generator(seed, 0, "zoo facts")
    for attribute, values in VALUES.items():
        rounds = -(-len(ALL_ANIMALS) // len(values))
        dealt = [value for _ in range(rounds) for value in sample(rng, values, len(values))][: len(ALL_ANIMALS)]
        for animal, value in zip(ALL_ANIMALS, sample(rng, dealt, len(dealt)), strict=True):
            facts[animal, attribute] = value
    return World(seed, MappingProxyType(facts))
