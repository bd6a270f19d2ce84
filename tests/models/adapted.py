"""Small adapters with random factors, over the small models of the tests."""

from pathlib import Path

import torch

from salsa.models.adapters import AdaptedModel, SharedBase
from salsa.models.lora import LINEAR_LAYERS, LoraSettings


def settings(rank=3, alpha=6.0, targets=LINEAR_LAYERS) -> LoraSettings:
    return LoraSettings(rank, alpha, tuple(targets))


def randomise(view: AdaptedModel, seed: int, spread: float = 0.2) -> AdaptedModel:
    """Give all factors random values, so that the adapter changes what its base says."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in view.factors.values():
            parameter.normal_(0.0, spread, generator=generator)
    return view


def adapted(shared: SharedBase, name: str, seed: int, **changes) -> AdaptedModel:
    return randomise(shared.new(name, settings(**changes), seed), seed)


def adapter_folder(folder: Path, base: Path, model, seed: int, tokenizer=None, **changes) -> Path:
    """Write an adapter folder beside its base; `model` is a fresh copy of the base."""
    view = adapted(SharedBase(model), "made", seed, **changes)
    folder.mkdir(parents=True, exist_ok=True)
    view.save_pretrained(folder, f"../{base.name}")
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder
