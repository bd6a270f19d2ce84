"""Where models lie around their base: norms, angles and distances of task vectors, in all and by layer.

Every folder may hold a LoRA adapter in place of a full model, if all of them are over one base, which then is the
origin (or under it; None: whatever base they name): what is measured is what they change of the base's layers, without
merging them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from salsa.models.source import is_adapter, resolve
from salsa.soup.checkpoint import Checkpoint, SoupError, opened
from salsa.soup.compatibility import check_forms
from salsa.soup.formats import Array

TOTAL = "total"
"""The name under which `layers` gives the whole model, last."""

Progress = Callable[[int, int], None]
"""Told bytes read and bytes in all."""

# How the language models of the library begin the names of their trunk's tensors.
_TRUNK = ("base_model", "model", "transformer")
_EMBEDDINGS = re.compile(r"(embed_tokens|embed_in|embed_positions|word_embeddings|wte|wpe)$")
_HEADS = ("lm_head", "embed_out", "score")


@dataclass(frozen=True)
class TaskVectors:
    """How models differ from their common base: task vector i is theta_i - theta_base, over all floating tensors.

    `norms` [models] are Euclidean; `cosines` [models][models] are of the angles between task vectors (None where one
    of them is zero); `distances` [models][models] are Euclidean between the models.
    """

    norms: tuple[float, ...]
    cosines: tuple[tuple[float | None, ...], ...]
    distances: tuple[tuple[float, ...], ...]


def task_vectors(base: Path | None, folders: Sequence[Path]) -> TaskVectors:
    """Measure the task vectors of models that were trained from `base`, reading a piece of each at a time.

    The base may have another number format: published weights in half precision are fine-tuned in float32.

    Raises:
        SoupError: if the models differ in names or shapes of tensors, or a tensor holds NaN or infinity.
    """
    return measured(len(folders), (part for _, part in changes(base, folders)))


def adapter_vectors(folders: Sequence[Path]) -> TaskVectors:
    """Measure the task vectors of models that are adapters, from the base that they name.

    Raises:
        SoupError: if the adapters are over different bases.
    """
    return task_vectors(None, folders)


def layers(base: Path | None, folders: Sequence[Path], *, progress: Progress | None = None) -> dict[str, TaskVectors]:
    """Measure task vectors as `task_vectors` does, by layer in the model's order, and at last as the whole (`TOTAL`).

    A layer is what `layer_name` makes of the names of its tensors: "embed_tokens", "layers.0", ..., "norm", "lm_head".
    All models are read once.

    Raises:
        SoupError: as `task_vectors`.
    """
    found: dict[str, _Sums] = {}
    total = _Sums(len(folders))
    for name, part in changes(base, folders, progress):
        found.setdefault(layer_name(name), _Sums(len(folders))).add(part)
    for sums in found.values():
        total.take(sums)
    ordered = {name: found[name].vectors() for name in sorted(found, key=_place)}
    return ordered | {TOTAL: total.vectors()}


def gram(origin: Path | None, folders: Sequence[Path]) -> Array:
    """Return the inner products [models, models] of theta_i - theta_origin, for projections onto lines and planes.

    Raises:
        SoupError: as `task_vectors`.
    """
    return sum((part for _, part in grams(origin, folders)), start=np.zeros((len(folders), len(folders))))


def grams(
    origin: Path | None, folders: Sequence[Path], progress: Progress | None = None
) -> Iterator[tuple[str, Array]]:
    """Yield the inner products [models, models] of theta_i - theta_origin, tensor by tensor (adapters: by layer).

    Raises:
        SoupError: as `task_vectors`.
    """
    for name, parts in itertools.groupby(changes(origin, folders, progress), key=lambda change: change[0]):
        total = np.zeros((len(folders), len(folders)))
        for _, part in parts:
            total += part @ part.T
        yield name, total


def changes(
    origin: Path | None, folders: Sequence[Path], progress: Progress | None = None
) -> Iterator[tuple[str, Array]]:
    """Yield, piece by piece, the name of a floating tensor and theta_i - theta_origin [models, elements] in float64.

    The pieces of a tensor follow each other. Of adapters, the name is that of a layer whose weight they change; heads
    of reward models, which the base does not have, are left out.

    Raises:
        SoupError: as `task_vectors`; for adapters, also if they are not all over the same base, or one is measured
            from a full model that is not its base.
    """
    if any(is_adapter(folder) for folder in (origin, *folders) if folder is not None):
        from salsa.soup.adapters import adapter_changes  # takes torch, which full models can do without

        yield from adapter_changes(origin, folders)
        return
    if origin is None:
        raise SoupError(f"{folders[0]} holds a full model, which does not name its base; name it")
    with ExitStack() as stack:
        centre, *models = (stack.enter_context(opened(resolve(folder))) for folder in (origin, *folders))
        for model in models:
            check_forms(centre, model, formats=False)
        total = sum(checkpoint.bytes for checkpoint in (centre, *models))
        done = 0
        for name, entry in centre.entries.items():
            if entry.floating:
                yield from _steps(name, centre, models)
            done += sum(checkpoint.entries[name].bytes for checkpoint in (centre, *models))
            if progress is not None:
                progress(done, total)


def measured(count: int, parts: Iterable[Array]) -> TaskVectors:
    """Return the geometry of `count` task vectors, given in parts: float64 [models, elements] each."""
    sums = _Sums(count)
    for part in parts:
        sums.add(part)
    return sums.vectors()


def layer_name(tensor: str) -> str:
    """Return the layer that a tensor belongs to, such as "layers.3" of "model.layers.3.self_attn.q_proj.weight".

    Of a numbered block it is the name up to the number; of any other tensor the name without its last part ("weight",
    "bias"). What comes before the layers in the library's names ("model.") is left out.
    """
    parts = tensor.split(".")
    numbers = [place for place, part in enumerate(parts) if part.isdecimal()]
    parts = parts[: numbers[0] + 1] if numbers else parts[: max(1, len(parts) - 1)]
    while len(parts) > 1 and parts[0] in _TRUNK:
        parts = parts[1:]
    return ".".join(parts)


def _place(layer: str) -> tuple[int, str, int]:
    """Return a sorting key by which layers come in the order in which data pass through them."""
    name, _, number = layer.rpartition(".")
    if number.isdecimal():
        return 1, name, int(number)
    if _EMBEDDINGS.search(layer):
        return 0, layer, 0
    return (3 if layer in _HEADS else 2), layer, 0


def _steps(name: str, centre: Checkpoint, models: Sequence[Checkpoint]) -> Iterator[tuple[str, Array]]:
    for middle, *pieces in zip(centre.pieces(name), *(model.pieces(name) for model in models), strict=True):
        part = np.stack(pieces) - middle
        if not np.isfinite(part.sum()):
            holder = next(
                checkpoint
                for checkpoint, piece in zip((centre, *models), (middle, *pieces), strict=True)
                if not np.isfinite(piece.sum())
            )
            raise SoupError(f"the tensor {name} of {holder.folder} holds NaN or infinity; train that model again")
        yield name, part


class _Sums:
    """Sums over the elements of task vectors: inner products, and squared differences of every two of them."""

    def __init__(self, count: int) -> None:
        self.inner = np.zeros((count, count))
        self.squares = np.zeros((count, count))

    def add(self, part: Array) -> None:
        """Add what some elements [models, elements] contribute."""
        self.inner += part @ part.T
        for index in range(len(part) - 1):
            # Summed on their own: the difference of large inner products would drown a small distance.
            steps = part[index + 1 :] - part[index]
            self.squares[index, index + 1 :] += np.einsum("ij,ij->i", steps, steps)

    def take(self, other: _Sums) -> None:
        """Add the sums over other elements."""
        self.inner += other.inner
        self.squares += other.squares

    def vectors(self) -> TaskVectors:
        """Return the geometry that follows."""
        norms = np.sqrt(self.inner.diagonal()).tolist()
        distances = np.sqrt(self.squares + self.squares.T)
        cosines = tuple(
            tuple(
                float(self.inner[i, j]) / (norms[i] * norms[j]) if norms[i] * norms[j] else None
                for j in range(len(norms))
            )
            for i in range(len(norms))
        )
        return TaskVectors(tuple(norms), cosines, tuple(map(tuple, distances.tolist())))
