"""What a landscape is made of: evaluations of models at points of weight space, and the geometry of those models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from salsa.soup.landscape import Weights


class Vectors(Protocol):
    """The geometry of task vectors over some tensors, as `salsa.soup` measures it; a zero vector has no cosine."""

    @property
    def norms(self) -> Sequence[float]:
        """Euclidean norm of each model's task vector."""

    @property
    def cosines(self) -> Sequence[Sequence[float | None]]:
        """Cosine of the angle between each two task vectors."""

    @property
    def distances(self) -> Sequence[Sequence[float]]:
        """Euclidean distance between each two models."""


@dataclass(frozen=True)
class Geometry:
    """Task vectors of the models `names` from the model called `base`: in `total`, and by the name of each layer.

    A model that is missing here (the base itself has no task vector) is only left out of these tables and this figure.
    """

    base: str
    names: Sequence[str]
    total: Vectors
    layers: Mapping[str, Vectors]


@dataclass(frozen=True)
class Judge:
    """What the judge's numbers are called, and their unit, as in `experiment.json`."""

    name: str = "gold reward"
    unit: str = "points"


@dataclass(frozen=True)
class Evidence:
    """Everything that a landscape is assembled from. An evaluation is the content of a `point.json`, see `Table`.

    `models` are the two or three models that span the landscape, `others` those that are projected on it (trained
    policies), both in the order in which they are shown. `gram` holds the inner products of the differences to
    models[0], over [*models[1:], *others]. `line` and `plane` hold the evaluations of the soups with those weights:
    of the first two models, and of all three (None for two models). `measured` holds the evaluations of those of
    `others` that were evaluated themselves, by name. No geometry: no figure and no table of layers.
    """

    models: Sequence[str]
    others: Sequence[str]
    gram: ArrayLike
    line: Mapping[Weights, Mapping[str, Any]]
    plane: Mapping[Weights, Mapping[str, Any]] | None
    measured: Mapping[str, Mapping[str, Any]]
    geometry: Geometry | None = None
    judge: Judge = Judge()


_OF_PROMPTS = ("judge", "reward", "length", "ended")


class Table:
    """Evaluations side by side: `columns[key]` [items, points], for the keys that they have.

    Of a prompt, in `clusters`: `judge`, `reward`, `length` and `unfinished` (1 for a reply without end). Of a held-out
    document, in `documents`: `loss`, the sum of its nats, over its number of learned tokens in `tokens`. Raises
    ValueError naming the point that lacks what the first has, or has other prompts or documents.
    """

    def __init__(self, points: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        first, found = points[0]
        self.clusters: list[str] = list(found["clusters"])
        self.documents: list[str] = list(found.get("documents") or [])
        for name, point in points[1:]:
            for key in ("clusters", "documents", "tokens"):
                if list(point.get(key) or []) != list(found.get(key) or []):
                    raise ValueError(f"{name} has other {key} than {first}; evaluate all points on the same ones")
        self.tokens = np.asarray(found.get("tokens") or [], dtype=np.float64)
        if len(self.tokens) != len(self.documents):
            raise ValueError(f"{first} has {len(self.tokens)} counts of tokens for {len(self.documents)} documents")
        if not (self.tokens > 0).all():
            raise ValueError(f"{first}: a document has no learned token, so it has no loss a token; leave it out")
        sizes = {key: len(self.clusters) for key in _OF_PROMPTS} | {"loss": len(self.documents)}
        self.columns = {key: _column(points, key, size) for key, size in sizes.items() if found.get(key)}
        if "ended" in self.columns:
            self.columns["unfinished"] = 1 - self.columns.pop("ended")


def _column(points: Sequence[tuple[str, Mapping[str, Any]]], key: str, size: int) -> NDArray[np.float64]:
    """Return one key of all points as [items, points]."""
    for name, point in points:
        if len(point.get(key) or []) != size:
            raise ValueError(f"{name} has {len(point.get(key) or [])} values of {key}; it must have {size}")
        if not np.isfinite(np.asarray(point[key], dtype=np.float64)).all():
            raise ValueError(f"{name}: a value of {key} is missing or not a finite number")
    return np.array([point[key] for _, point in points], dtype=np.float64).T
