"""Small random choices from a passed-in generator; several times faster than `Generator.choice` on short sequences."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def chance(rng: np.random.Generator, probability: float) -> bool:
    """Return True with the given probability; 0 never happens and 1 always does."""
    return rng.random() < probability


def pick(rng: np.random.Generator, options: Sequence[Item]) -> Item:
    """Return one of the options, all equally likely."""
    return options[int(rng.random() * len(options))]


def sample(rng: np.random.Generator, options: Sequence[Item], count: int) -> list[Item]:
    """Return `count` different options in random order (the first steps of a Fisher-Yates shuffle).

    Raises:
        ValueError: when more options are asked for than there are.
    """
    if count > len(options):
        raise ValueError(f"cannot take {count} different items out of {len(options)}")
    pool = list(options)
    for i in range(count):
        j = i + int(rng.random() * (len(pool) - i))
        pool[i], pool[j] = pool[j], pool[i]
    return pool[:count]


def weighted(rng: np.random.Generator, options: Sequence[Item], weights: Sequence[float]) -> Item:
    """Return one of the options with probability equal to its weight; the weights sum to 1."""
    point = rng.random()
    for option, weight in zip(options, weights, strict=True):
        point -= weight
        if point < 0:
            return option
    # Only rounding in the sum of the weights leads here; an option of weight zero must still never be returned.
    return max(zip(options, weights, strict=True), key=lambda pair: pair[1])[0]


def blocks(rng: np.random.Generator, values: Sequence[Item]) -> Iterator[Item]:
    """Yield shuffled copies of `values` without end, so that every stretch of the stream holds them in proportion."""
    while True:
        yield from sample(rng, values, len(values))
