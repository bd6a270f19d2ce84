"""Soups of LoRA models as one adapter that is exact: the sum of the models' changes, not of their factors.

With coefficients w_i on W + s_i B_i A_i and 1 - sum_i w_i on the base W, the sum is W + sum_i w_i s_i B_i A_i, and that
change is one product: [w_1 s_1 B_1 | w_2 s_2 B_2 | ...] times the A_i stacked. Its rank is the sum of the ranks. (The
product of the averages of B_i and A_i has cross terms B_i A_j, which belong to no ingredient.)
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from salsa.hub import is_local
from salsa.models.factors import Adapter, Factors, read_adapter, write_adapter
from salsa.models.source import (
    ADAPTER_CONFIGURATION,
    UnavailableModelError,
    base_of,
    is_adapter,
    model_files,
    resolve,
)
from salsa.soup.average import Coefficients, copy_settings
from salsa.soup.checkpoint import PIECE, SoupError
from salsa.soup.compatibility import check_settings, check_weights
from salsa.soup.formats import Array

HEAD = "score"
"""The name under which coefficients are asked for the head of a reward model."""


def average_adapters(folders: Sequence[Path], weights: Sequence[float], out: Path, base: str) -> None:
    """Write the adapter of the model sum_i weights[i] * model_i to `out`, with the tokenizer of the first one.

    `base` is the path of the base's folder from `out`. Weights may be negative (extrapolation); ingredients of weight 0
    add no rank. Ranks, alphas and adapted layers may differ: a layer that one of them leaves alone it does not change.
    The product B A of the soup equals the weighted sum of the ingredients' products up to one rounding of each entry
    of B. Heads of reward models are averaged as they are.

    Raises:
        SoupError: if the weights do not sum to 1, the adapters are over different bases, differ in tokenizer or chat
            template, only some have heads, or a number is not finite.
        UnavailableModelError: if a folder holds no plain adapter.
    """
    check_weights(folders, weights)
    blend_adapters(folders, lambda _: weights, out, base)


def blend_adapters(folders: Sequence[Path], coefficients: Coefficients, out: Path, base: str) -> None:
    """Write the adapter that changes each layer by the sum of the ingredients' changes times coefficients of its own.

    `coefficients` is asked with the name of each layer ("model.layers.0.self_attn.q_proj") for one number a model: the
    base's own follows, because over one base only changes count, and those of the models need not sum to 1. Only those
    of a head (`HEAD`) must: the base has none that could make up for the rest. Otherwise as `average_adapters`.

    Raises:
        SoupError: as `average_adapters`, but for the sum; if the coefficients are not one finite number a model, those
            of a head do not sum to 1, or a folder holds a full model.
        UnavailableModelError: if a folder holds another kind of adapter.
    """
    for folder in folders:
        if not is_adapter(folder):
            raise SoupError(f"{folder} holds no adapter; a soup is made of adapters only or of full models only")
    _check_bases(folders)
    for other in folders[1:]:
        check_settings(folders[0], other)
    adapters = [_ingredient(folder) for folder in folders]
    write_adapter(_blend(adapters, coefficients), out, base)
    copy_settings(folders[0], out)


def soup_of(adapters: Sequence[Adapter], weights: Sequence[float]) -> Adapter:
    """Return the adapter whose change of the base is the weighted sum of the changes that the given ones make.

    Raises:
        SoupError: if two of them change a layer of different sizes, or the heads of reward models cannot be averaged.
    """
    return _blend(adapters, lambda _: weights)


def adapter_changes(origin: Path | None, folders: Sequence[Path]) -> Iterator[tuple[str, Array]]:
    """Yield, piece by piece, the name of a layer and how its weight differs from the origin's: [models, elements].

    The origin (None: the base) and each model are adapters over one base, or the base itself. Heads are left out.

    Raises:
        SoupError: if one of them is neither.
        UnavailableModelError: if a folder holds no plain adapter.
    """
    _check_bases([*([] if origin is None else [origin]), *folders])
    centre = {} if origin is None else _layers(origin)
    models = [_layers(folder) for folder in folders]
    for name in sorted({name for layers in (centre, *models) for name in layers}):
        parts = [layers.get(name) for layers in (centre, *models)]
        height, width = _size(name, [factors for factors in parts if factors is not None])
        rows = max(1, PIECE // width)
        for first in range(0, height, rows):
            pieces = np.stack([_rows(factors, first, min(first + rows, height), width) for factors in parts])
            yield name, pieces[1:] - pieces[0]


def _layers(folder: Path) -> Mapping[str, Factors]:
    return read_adapter(folder).layers if is_adapter(folder) else {}


def _rows(factors: Factors | None, first: int, last: int, width: int) -> Array:
    """Return some rows of an adapter's change of a layer, end to end."""
    if factors is None:
        return np.zeros((last - first) * width)
    up = factors.up[first:last].double() * (factors.alpha / factors.rank)
    return (up @ factors.down.double()).flatten().numpy()


def _blend(adapters: Sequence[Adapter], coefficients: Coefficients) -> Adapter:
    layers = {}
    used = set()
    for name in sorted({name for adapter in adapters for name in adapter.layers}):
        scales = _checked(name, coefficients(name), len(adapters))
        indices = [index for index, scale in enumerate(scales) if scale != 0 and name in adapters[index].layers]
        if indices:
            layers[name] = _joined(name, [(adapters[index].layers[name], scales[index]) for index in indices])
            used.update(indices)
    if not layers:
        layers = {name: _nothing(factors) for name, factors in adapters[0].layers.items()}
        used = {0}
    alike = all(adapters[index].layers.keys() == layers.keys() for index in used)
    targets = {target for index in used for target in adapters[index].targets} if alike else set(layers)
    return Adapter(layers, tuple(sorted(targets)), _head(adapters, coefficients))


def _nothing(factors: Factors) -> Factors:
    """Return factors of rank 1 that leave their layer as it is."""
    return Factors(torch.zeros_like(factors.down[:1]), torch.zeros_like(factors.up[:, :1]), alpha=1.0)


def _head(adapters: Sequence[Adapter], coefficients: Coefficients) -> Tensor | None:
    """Return the weighted mean of the heads of reward models; None where these are language models."""
    heads = [adapter.head for adapter in adapters if adapter.head is not None]
    if not heads:
        return None
    if len(heads) < len(adapters):
        raise SoupError(
            f"{len(heads)} of {len(adapters)} adapters are those of reward models (they have a head) and the others of "
            "language models; average those of one kind"
        )
    if len({head.shape for head in heads}) > 1:
        raise SoupError(f"the heads have different sizes: {sorted({tuple(head.shape) for head in heads})}")
    scales = _checked(HEAD, coefficients(HEAD), len(adapters))
    if abs(sum(scales) - 1) > 1e-6:
        raise SoupError(
            f"the coefficients of the heads of reward models must sum to 1, got {scales} (sum {sum(scales):g}): their "
            "base has no head that could make up for the rest"
        )
    total = torch.stack([head.double() * scale for head, scale in zip(heads, scales, strict=True)]).sum(0)
    return total.to(heads[0].dtype)


def _joined(name: str, parts: Sequence[tuple[Factors, float]]) -> Factors:
    _size(name, [factors for factors, _ in parts])
    dtype = parts[0][0].up.dtype
    ups = [factors.up.double() * (weight * factors.alpha / factors.rank) for factors, weight in parts]
    up = torch.cat(ups, 1).to(dtype)
    down = torch.cat([factors.down.to(dtype) for factors, _ in parts])
    return Factors(down.contiguous(), up, alpha=len(down))


def _size(name: str, parts: Sequence[Factors]) -> tuple[int, int]:
    """Return the size [out, in] of a layer that some adapters change."""
    sizes = {(factors.up.shape[0], factors.down.shape[1]) for factors in parts}
    if len(sizes) > 1:
        raise SoupError(f"the layer {name} has different sizes in the ingredients: {sorted(sizes)}")
    return sizes.pop()


def _checked(name: str, scales: Sequence[float], count: int) -> list[float]:
    if len(scales) != count or not np.isfinite(scales).all():
        raise SoupError(f"{name} needs a finite coefficient for each of {count} adapters, got {list(scales)}")
    return list(scales)


def _ingredient(folder: Path) -> Adapter:
    adapter = read_adapter(folder)
    for name, factors in adapter.layers.items():
        if not (torch.isfinite(factors.down).all() and torch.isfinite(factors.up).all()):
            raise SoupError(f"the factors of {name} in {folder} hold NaN or infinity; train that model again")
    if adapter.head is not None and not torch.isfinite(adapter.head).all():
        raise SoupError(f"the head in {folder} holds NaN or infinity; train that model again")
    return adapter


def _check_bases(folders: Sequence[Path]) -> None:
    """Refuse adapters over different bases: W would not be the same in all of them. Equal copies are one base.

    A folder that holds no adapter counts as a base.
    """
    first = _base(folders[0])
    for folder in folders[1:]:
        other = _base(folder)
        here = isinstance(first, Path) and isinstance(other, Path)
        if other != first and not (here and _digest(Path(other)) == _digest(Path(first))):
            raise SoupError(
                f"{folders[0]} and {folder} are over different bases, {first} and {other}; only adapters over one base "
                "have an exact soup that is an adapter: average the merged models instead"
            )


def _base(folder: Path) -> Path | str:
    """Return the folder of the base that an adapter names, or the base's name on the hub."""
    if not is_adapter(folder):
        return Path(folder).resolve()
    try:
        return base_of(folder)
    except UnavailableModelError:
        name = json.loads((folder / ADAPTER_CONFIGURATION).read_text(encoding="utf-8")).get("base_model_name_or_path")
        # Only names are compared, so the base need not be here.
        if not isinstance(name, str) or is_local(name):
            raise
        return name


def _digest(base: Path) -> str:
    """Return a digest of the names and bytes of a base's weights and configuration."""
    digest = hashlib.sha256()
    for path in model_files(resolve(base)):
        if path.suffix == ".safetensors" or path.name == "config.json":
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
