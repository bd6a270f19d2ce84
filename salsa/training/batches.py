"""Which rows make up the batch of a step: pure functions of (seed, step), so that resuming needs no sampler state."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """Return the order [size] in which epoch `epoch` visits the rows 0 .. size - 1."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch,))).permutation(size)


def batch_indices(seed: int, step: int, batch: int, size: int) -> np.ndarray:
    """Return the row indices [batch] of step `step` when epochs follow each other without a gap.

    A batch may straddle two epochs (or more, where there are fewer rows than the batch has), so that every batch is
    full and every row is seen equally often up to one visit.

    Raises:
        ValueError: if there are no rows, the batch is empty or the step is negative.
    """
    if size < 1:
        raise ValueError("there are no rows to draw a batch from; check that the data of this stage is not empty")
    if batch < 1 or step < 0:
        raise ValueError(f"a batch needs at least one row and a step of at least 0, got batch={batch} and step={step}")
    first = step * batch
    parts = []
    while first < (step + 1) * batch:
        epoch, offset = divmod(first, size)
        part = epoch_order(seed, epoch, size)[offset : offset + (step + 1) * batch - first]
        parts.append(part)
        first += len(part)
    return np.concatenate(parts)


class Batches:
    """A loader whose batch of step k is `make_batch(k)`; iterating begins at step `start`.

    The length is the number of steps of the whole training, also after a resume, because Lightning continues its own
    count of batches.
    """

    def __init__(self, steps: int, make_batch: Callable[[int], Any], start: int = 0) -> None:
        self.steps = steps
        self.make_batch = make_batch
        self.start = start

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        for step in range(self.start, self.steps):
            yield self.make_batch(step)

    def state_dict(self) -> dict[str, int]:
        """Return nothing to restore: the position follows from the module's count of completed steps.

        The method is there because Lightning takes a loader without it for one that cannot be resumed.
        """
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Accept the empty state of `state_dict`."""
