"""LoRA adapters as files in peft's format: the factors of every layer that is adapted, and a reward model's head."""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
from peft import LoraConfig
from peft.utils.other import get_pattern_key
from torch import Tensor

from salsa.models.source import ADAPTER_CONFIGURATION, ADAPTER_WEIGHTS, UnavailableModelError

_LEAD = "base_model.model."
"""What peft puts before the names of a model's parameters."""
_HEAD = f"{_LEAD}score.weight"
_FACTOR = re.compile(rf"{re.escape(_LEAD)}(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")


class Factors(NamedTuple):
    """What an adapter adds to the weight of one layer: (alpha / rank) `up` @ `down`.

    `down` [rank, in] is LoRA's A, `up` [out, rank] its B.
    """

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        """Return the number of rows of A and columns of B."""
        return self.down.shape[0]

    def change(self) -> Tensor:
        """Return the change [out, in] of the layer's weight in float64."""
        return self.up.double() @ self.down.double() * (self.alpha / self.rank)


@dataclass(frozen=True)
class Adapter:
    """An adapter by itself: its factors by the names of the layers in the language model.

    `targets` are the names by which peft finds these layers (their last parts, or whole names); `head` [1, hidden] is
    the head of a reward model or critic, None for a language model.
    """

    layers: Mapping[str, Factors]
    targets: tuple[str, ...]
    head: Tensor | None = None

    def configuration(self) -> LoraConfig:
        """Return how peft describes the adapter; layers that differ from the most common rank or alpha are listed."""
        rank, _ = Counter(factors.rank for factors in self.layers.values()).most_common(1)[0]
        alpha, _ = Counter(factors.alpha for factors in self.layers.values()).most_common(1)[0]
        return LoraConfig(
            r=rank,
            lora_alpha=_number(alpha),
            target_modules=list(self.targets),
            rank_pattern={name: factors.rank for name, factors in self.layers.items() if factors.rank != rank},
            alpha_pattern={
                name: _number(factors.alpha) for name, factors in self.layers.items() if factors.alpha != alpha
            },
        )


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter folder in peft's format.

    Raises:
        UnavailableModelError: if files are missing, or hold more than factors of linear layers and a reward head.
    """
    weights = folder / ADAPTER_WEIGHTS
    if not weights.is_file():
        raise UnavailableModelError(f"{folder} holds {ADAPTER_CONFIGURATION} but no {ADAPTER_WEIGHTS}; save it again")
    config = LoraConfig.from_pretrained(str(folder))
    if not isinstance(config, LoraConfig) or config.use_dora or config.fan_in_fan_out:
        raise UnavailableModelError(f"{folder} holds another kind of adapter than plain LoRA, which is not loaded")
    sides: dict[str, dict[str, Tensor]] = {"A": {}, "B": {}}
    head = None
    for name, tensor in safetensors.torch.load_file(weights).items():
        found = _FACTOR.fullmatch(name)
        if name == _HEAD:
            head = tensor
        elif found is None or tensor.dim() != 2:
            raise UnavailableModelError(
                f"{weights} holds {name}; only factors of linear layers (lora_A, lora_B) and a reward model's "
                "score.weight are loaded: train without modules_to_save, bias and embeddings"
            )
        else:
            sides[found["side"]][found["layer"]] = tensor
    downs, ups = sides["A"], sides["B"]
    for layer in downs.keys() | ups.keys():
        if layer not in downs or layer not in ups or downs[layer].shape[0] != ups[layer].shape[1]:
            raise UnavailableModelError(f"{weights}: lora_A and lora_B of {layer} do not belong together")
    if not downs:
        raise UnavailableModelError(f"{weights} holds no factors; save the adapter again")
    layers = {
        layer: Factors(downs[layer], ups[layer], _alpha(config, layer, downs[layer].shape[0]))
        for layer in sorted(downs)
    }
    targets = config.target_modules
    named = isinstance(targets, set | list | tuple) and not config.layers_to_transform
    return Adapter(layers, tuple(sorted(targets if named else layers)), head)


def write_adapter(adapter: Adapter, folder: Path, base: str) -> None:
    """Write an adapter folder in peft's format; `base` is the path of the base model's folder from this one.

    The bytes depend on the adapter alone: peft itself writes names in an order that changes from run to run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for layer, factors in adapter.layers.items():
        tensors[f"{_LEAD}{layer}.lora_A.weight"] = factors.down
        tensors[f"{_LEAD}{layer}.lora_B.weight"] = factors.up
    if adapter.head is not None:
        tensors[_HEAD] = adapter.head
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    config = adapter.configuration()
    config.base_model_name_or_path = base
    config.inference_mode = True
    config.task_type = "CAUSAL_LM" if adapter.head is None else "SEQ_CLS"
    config.modules_to_save = None if adapter.head is None else ["score"]
    described = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    text = json.dumps(described, indent=2, sort_keys=True)
    (folder / ADAPTER_CONFIGURATION).write_text(text + "\n", encoding="utf-8")
    (folder / ADAPTER_WEIGHTS).write_bytes(safetensors.torch.save(tensors, metadata={"format": "pt"}))


def _alpha(config: LoraConfig, layer: str, rank: int) -> float:
    alpha = float(config.alpha_pattern.get(get_pattern_key(list(config.alpha_pattern), layer), config.lora_alpha))
    return alpha * math.sqrt(rank) if config.use_rslora else alpha


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value
