"""Soups of LoRA models as one adapter that is exact: the average of the models, not of their factors.

The average of W + s_i B_i A_i with weights w_i that sum to 1 is W + sum_i w_i s_i B_i A_i, and that sum is one product:
[w_1 s_1 B_1 | w_2 s_2 B_2 | ...] times the A_i stacked. Its rank is the sum of the ranks. (The product of the averages
of B_i and A_i has cross terms B_i A_j, which belong to no ingredient.)
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from salsa.models.factors import Adapter, Factors, read_adapter, write_adapter
from salsa.models.source import base_of, model_files, resolve
from salsa.soup.average import TaskVectors, check_settings, check_weights, copy_settings, measured
from salsa.soup.checkpoint import SoupError


def average_adapters(folders: Sequence[Path], weights: Sequence[float], out: Path, base: str) -> None:
    """Write the adapter of the model sum_i weights[i] * model_i to `out`, with the tokenizer of the first one.

    `base` is the path of the base's folder from `out`. Weights may be negative (extrapolation); ingredients of weight 0
    add no rank. Ranks, alphas and adapted layers may differ: a layer that one of them leaves alone it does not change.
    The product B A of the soup equals the weighted sum of the ingredients' products up to one rounding of each entry
    of B.

    Raises:
        SoupError: if the weights do not sum to 1, the adapters are over different bases, differ in tokenizer or chat
            template, have heads (reward models), or a factor is not finite.
        UnavailableModelError: if a folder holds no plain adapter.
    """
    check_weights(folders, weights)
    _check_bases(folders)
    for other in folders[1:]:
        check_settings(folders[0], other)
    adapters = [_ingredient(folder) for folder in folders]
    used = [(adapter, weight) for adapter, weight in zip(adapters, weights, strict=True) if weight != 0]
    write_adapter(soup_of([adapter for adapter, _ in used], [weight for _, weight in used]), out, base)
    copy_settings(folders[0], out)


def soup_of(adapters: Sequence[Adapter], weights: Sequence[float]) -> Adapter:
    """Return the adapter whose change of the base is the weighted sum of the changes that the given ones make.

    Raises:
        SoupError: if two of them change a layer of different sizes.
    """
    names = sorted({name for adapter in adapters for name in adapter.layers})
    layers = {}
    for name in names:
        parts = [
            (adapter.layers[name], weight)
            for adapter, weight in zip(adapters, weights, strict=True)
            if name in adapter.layers
        ]
        layers[name] = _joined(name, parts)
    alike = all(adapter.layers.keys() == layers.keys() for adapter in adapters)
    targets = {name for adapter in adapters for name in adapter.targets} if alike else set(names)
    return Adapter(layers, tuple(sorted(targets)))


def adapter_vectors(folders: Sequence[Path]) -> TaskVectors:
    """Measure how models that are adapters over one base differ from it, layer by layer, as `task_vectors` does.

    Raises:
        SoupError: if the adapters are over different bases.
    """
    _check_bases(folders)
    return measured(len(folders), _changes([read_adapter(folder).layers for folder in folders]))


def _changes(adapters: Sequence[Mapping[str, Factors]]) -> Iterator[list[torch.Tensor]]:
    for name in sorted({name for layers in adapters for name in layers}):
        some = next(layers[name] for layers in adapters if name in layers)
        nothing = torch.zeros(some.up.shape[0], some.down.shape[1], dtype=torch.float64)
        yield [layers[name].change() if name in layers else nothing for layers in adapters]


def _joined(name: str, parts: Sequence[tuple[Factors, float]]) -> Factors:
    sizes = {(factors.up.shape[0], factors.down.shape[1]) for factors, _ in parts}
    if len(sizes) > 1:
        raise SoupError(f"the layer {name} has different sizes in the ingredients: {sorted(sizes)}")
    dtype = parts[0][0].up.dtype
    ups = [factors.up.double() * (weight * factors.alpha / factors.rank) for factors, weight in parts]
    up = torch.cat(ups, 1).to(dtype)
    down = torch.cat([factors.down.to(dtype) for factors, _ in parts])
    return Factors(down.contiguous(), up, alpha=len(down))


def _ingredient(folder: Path) -> Adapter:
    adapter = read_adapter(folder)
    if adapter.head is not None:
        raise SoupError(f"{folder} holds the adapter of a reward model; soups are of language models")
    for name, factors in adapter.layers.items():
        if not (torch.isfinite(factors.down).all() and torch.isfinite(factors.up).all()):
            raise SoupError(f"the factors of {name} in {folder} hold NaN or infinity; train that model again")
    return adapter


def _check_bases(folders: Sequence[Path]) -> None:
    """Refuse adapters over different bases: W would not be the same in all of them. Equal copies are one base."""
    first = base_of(folders[0])
    for folder in folders[1:]:
        other = base_of(folder)
        if other != first and _digest(other) != _digest(first):
            raise SoupError(
                f"the adapters in {folders[0]} and {folder} are over different bases, {first} and {other}; only "
                "adapters over one base have an exact soup that is an adapter: average the merged models instead"
            )


def _digest(base: Path) -> str:
    """Return a digest of the names and bytes of a base's weights and configuration."""
    digest = hashlib.sha256()
    for path in model_files(resolve(base)):
        if path.suffix == ".safetensors" or path.name == "config.json":
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
