"""How much two float32 soups of the same models differ."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from salsa.soup.checkpoint import opened

ROUNDINGS = 4.0
"""Half a unit and more for each rounding: of the weights, of the products, of the sum, and of the other program's."""


@dataclass(frozen=True)
class Difference:
    """How many tensors there are, how many of them are equal to the last bit, and the largest difference of a number.

    It is in units of the last place of the sum of both products without their signs: where they cancel, the last place
    of their sum says nothing about rounding. With float32 all the way one program may be `ROUNDINGS` such units from
    another, which rounds once.
    """

    tensors: int
    equal: int
    units: float


def difference(ours: Path, theirs: Path, models: tuple[Path, Path], weights: tuple[float, float]) -> Difference:
    """Compare two soups of two models, tensor by tensor."""
    equal, units = 0, 0.0
    with opened(ours) as one, opened(theirs) as other, opened(models[0]) as first, opened(models[1]) as second:
        if one.entries.keys() != other.entries.keys():
            return Difference(len(one.entries), 0, float("inf"))
        for name, entry in one.entries.items():
            span = (name, 0, entry.count)
            if entry.dtype == other.entries[name].dtype and one.raw(*span) == other.raw(*span):
                equal += 1
                continue
            products = np.abs(weights[0] * first.values(*span)) + np.abs(weights[1] * second.values(*span))
            apart = np.abs(one.values(*span) - other.values(*span))
            units = max(units, float((apart / np.spacing(products.astype(np.float32))).max()))
        return Difference(len(one.entries), equal, units)
