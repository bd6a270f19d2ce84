"""Models that are LoRA adapters over one frozen base in memory (Hu et al., arXiv:2106.09685), through `peft`.

Fine-tuned model, reward model, critic, policy and reference differ from their base by matrices of low rank. So the base
is held once, with the adapters of all of them on its layers, and each model is a view that makes its own adapter the
active one whenever it computes.
"""

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from salsa.models.factors import Adapter, Factors, read_adapter, write_adapter
from salsa.models.heads import ScalarHead
from salsa.models.lora import LoraSettings
from salsa.models.source import UnavailableModelError


class SharedBase:
    """One frozen language model in memory, and the adapters on it.

    It is no module, so that a view of it brings its own parameters only into optimisers and checkpoints. Switching
    between adapters changes one list that all adapted layers share; a forward pass that has been made keeps what its
    backward pass needs, whatever is active by then. Only recomputing (gradient checkpointing) would go wrong.

    Raises:
        ValueError: if the model uses gradient checkpointing.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
            raise ValueError(
                "a base that several adapters share cannot use gradient checkpointing: what is computed again in a "
                "backward pass may meet another adapter; switch it off (model.gradient_checkpointing_disable())"
            )
        self.model = model.eval().requires_grad_(False)
        self._tuned: PeftModel | None = None
        self._layers: dict[str, LoraLayer] = {}
        self._active: list[str] = []

    def bare(self) -> "AdaptedModel":
        """Return the base itself as a view: no adapter is active."""
        return AdaptedModel(self, None, {}, (), None)

    def new(self, name: str, settings: LoraSettings, seed: int) -> "AdaptedModel":
        """Add an adapter that changes nothing yet: A is uniform in +-1 / sqrt(in), as peft's, and B is zero.

        A depends on `seed` alone.
        """
        targets = list(settings.targets)
        layers = self._add(name, LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=targets))
        generator = torch.Generator().manual_seed(seed)
        for layer in layers.values():
            down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
            drawn = torch.empty(down.shape)
            nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
            with torch.no_grad():
                down.copy_(drawn)
                up.zero_()
        return self._view(name, layers, settings.targets, None)

    def load(self, name: str, adapter: Adapter | Path) -> "AdaptedModel":
        """Add the adapter of a folder (or of memory), with its head if it is a reward model's.

        Raises:
            UnavailableModelError: if the folder holds no plain adapter, or one of another architecture.
        """
        content = adapter if isinstance(adapter, Adapter) else read_adapter(adapter)
        _check_fits(self.model, content, "the adapter" if isinstance(adapter, Adapter) else str(adapter))
        layers = self._add(name, content.configuration())
        _fill(layers, name, content)
        return self._view(name, layers, content.targets, content.head)

    def activate(self, name: str | None) -> None:
        """Let the adapter `name` (None: none) decide what the layers compute from now on."""
        self._active[:] = [] if name is None else [name]

    def _add(self, name: str, config: LoraConfig) -> dict[str, LoraLayer]:
        """Put an adapter on the base's layers and return those layers; other adapters stay as they were."""
        if self._tuned is not None and name in self._tuned.peft_config:
            raise ValueError(f"there is an adapter {name} on this base already; give this one another name")
        learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        # Initial weights are drawn from the global generator, and then replaced: without a trace.
        with torch.random.fork_rng(devices=[]), _quiet():
            if self._tuned is None:
                self._tuned = PeftModel(self.model, config, name)
            else:
                self._tuned.add_adapter(name, config)
        layers = _adapted_layers(self.model)
        for layer in layers.values():
            layer._active_adapter = self._active
        self._layers = layers
        self.model.requires_grad_(False)
        for parameter in learning:
            parameter.requires_grad_(True)
        added = {key: layer for key, layer in layers.items() if name in layer.lora_A}
        for layer in added.values():
            for factors in (layer.lora_A[name], layer.lora_B[name]):
                # Small steps are lost in half precision, in which published bases come.
                factors.to(torch.promote_types(layer.get_base_layer().weight.dtype, torch.float32))
        return added

    def _view(
        self, name: str, layers: Mapping[str, LoraLayer], targets: tuple[str, ...], head: Tensor | None
    ) -> "AdaptedModel":
        view = AdaptedModel(self, name, layers, targets, head)
        return view.requires_grad_(True)


class AdaptedModel(nn.Module):
    """The base under one adapter (or none), where a language model, reward model or critic is expected.

    Its parameters are those of its adapter and, for a reward model or critic, of its head `score`. To move it moves
    the whole base; `train` and `eval` are the base's as well.
    """

    def __init__(
        self,
        shared: SharedBase,
        name: str | None,
        layers: Mapping[str, LoraLayer],
        targets: tuple[str, ...],
        head: Tensor | None,
    ) -> None:
        super().__init__()
        self.shared = shared
        self._name = name
        self._targets = targets
        self._alphas = {key: float(layer.lora_alpha[name]) for key, layer in layers.items()}
        self.factors = nn.ParameterDict()
        for key, layer in layers.items():
            # A dot would mean a module within a module.
            self.factors[f"{key}.A".replace(".", "/")] = layer.lora_A[name].weight
            self.factors[f"{key}.B".replace(".", "/")] = layer.lora_B[name].weight
        self.score: ScalarHead | None = None
        if head is not None:
            self.give_head(head)

    def forward(self, **inputs: Any) -> Any:
        """Return what the language model returns under this adapter."""
        self.shared.activate(self._name)
        return self.shared.model(**inputs)

    def base_model(self, **inputs: Any) -> Any:
        """Return what the trunk, the language model without its output head, returns under this adapter."""
        self.shared.activate(self._name)
        return self.shared.model.base_model(**inputs)

    model = base_model
    """What the library calls the trunk of the three families."""

    def get_output_embeddings(self) -> nn.Module:
        """Return the base's output head, which no adapter changes."""
        return self.shared.model.get_output_embeddings()

    def get_input_embeddings(self) -> nn.Module:
        """Return the base's embeddings, which no adapter changes."""
        return self.shared.model.get_input_embeddings()

    @property
    def config(self) -> Any:
        """Return the base's configuration."""
        return self.shared.model.config

    @property
    def device(self) -> torch.device:
        """Return where the base is."""
        return self.shared.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Return the number format of the base."""
        return self.shared.model.dtype

    def give_head(self, weight: Tensor) -> "AdaptedModel":
        """Make this a reward model or critic with the head `weight` [1, hidden], in float32 or better; return it."""
        weight = weight.to(self.device, torch.promote_types(weight.dtype, torch.float32))
        with torch.random.fork_rng(devices=[]):
            self.score = ScalarHead(weight.shape[1], 1, bias=False, device=weight.device, dtype=weight.dtype)
        with torch.no_grad():
            self.score.weight.copy_(weight)
        return self

    def copy(self, name: str) -> "AdaptedModel":
        """Return a view that starts as this one and learns by itself, under another name.

        Raises:
            ValueError: if there is no adapter to copy.
        """
        if self._name is None:
            raise ValueError("the base itself has no adapter that could be copied; make a new one")
        return self.shared.load(name, self.adapter())

    def adapter(self) -> Adapter:
        """Return the adapter by itself; it shares its memory with this view."""
        layers = {
            key: Factors(self.factors[f"{key}.A".replace(".", "/")], self.factors[f"{key}.B".replace(".", "/")], alpha)
            for key, alpha in self._alphas.items()
        }
        return Adapter(layers, self._targets, None if self.score is None else self.score.weight)

    def save_pretrained(self, folder: Path, base: str) -> None:
        """Write the adapter in peft's format; `base` is the path of the base's folder from this one."""
        write_adapter(self.adapter(), folder, base)

    def train(self, mode: bool = True) -> "AdaptedModel":
        """Set the mode of the base too: it holds whatever dropout there is."""
        self.shared.model.train(mode)
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> "AdaptedModel":
        self.shared.model._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def __deepcopy__(self, memo: Any) -> "AdaptedModel":
        raise TypeError("a deep copy would copy the base that adapters share; use AdaptedModel.copy(name)")


def merge(model: PreTrainedModel, adapter: Adapter, where: str) -> PreTrainedModel:
    """Add an adapter into the weights of its base, in place, and return the base; a head is left out.

    Raises:
        UnavailableModelError: if the adapter, which errors call `where`, is one of another architecture.
    """
    _check_fits(model, adapter, where)
    with torch.random.fork_rng(devices=[]), _quiet():
        tuned = PeftModel(model.requires_grad_(False), adapter.configuration(), "merged")
    _fill(_adapted_layers(model), "merged", adapter)
    return tuned.merge_and_unload().requires_grad_(True)


def _adapted_layers(model: PreTrainedModel) -> dict[str, LoraLayer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def _check_fits(model: PreTrainedModel, adapter: Adapter, where: str) -> None:
    """Raise UnavailableModelError unless the base has a linear layer of the right size for each pair of factors."""
    modules = dict(model.named_modules())
    for key, factors in adapter.layers.items():
        weight = getattr(modules.get(key), "weight", None)
        wanted = [factors.up.shape[0], factors.down.shape[1]]
        if weight is None or list(weight.shape) != wanted:
            found = "no such layer" if weight is None else f"one of {list(weight.shape)}"
            raise UnavailableModelError(
                f"{where} changes a layer {key} of {wanted}, but the base has {found}; they do not belong together"
            )


def _fill(layers: Mapping[str, LoraLayer], name: str, adapter: Adapter) -> None:
    """Give layers the factors of an adapter; raise UnavailableModelError if it has none for one of them."""
    for key, layer in layers.items():
        if key not in adapter.layers:
            raise UnavailableModelError(f"the adapter has no factors for {key}, which its targets name; save it again")
        with torch.no_grad():
            layer.lora_A[name].weight.copy_(adapter.layers[key].down)
            layer.lora_B[name].weight.copy_(adapter.layers[key].up)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence peft's use of an attribute that the library will rename."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield
