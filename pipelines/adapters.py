"""The models of a stage: each by itself, or all as LoRA adapters over one base in memory; and how they are kept."""

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipelines.work import Work
from salsa.models.adapters import AdaptedModel, SharedBase
from salsa.models.families import load_causal, load_scalar, save
from salsa.models.heads import critic_from_reward, head_weight, reward_from_causal
from salsa.models.lora import LoraSettings
from salsa.models.source import is_adapter

LORA = "lora"
"""Key of the stages that train adapters; a stage without it fine-tunes all weights."""


@dataclass(frozen=True)
class Models:
    """Gives a stage its models: full ones, or views of the base where the stage's models are adapters.

    The names are those of the adapters on the base, and mean nothing for full models. What was not trained here, such
    as a published reward model, is a model of its own in either case.
    """

    base: Path | None
    shared: SharedBase | None

    @classmethod
    def of(cls, work: Work, adapted: bool) -> "Models":
        """Return the models of a stage; `adapted` ones share its input `base`, in that one's number format."""
        base = work.inputs["base"].path if adapted else None
        return cls(base, None if base is None else SharedBase(load_causal(base)))

    def language(self, name: str, folder: Path) -> Any:
        """Return the language model in a folder."""
        if self.shared is None:
            return load_causal(folder)
        return self.shared.bare() if folder == self.base else self.shared.load(name, folder)

    def scalar(self, name: str, folder: Path) -> Any:
        """Return the reward model in a folder."""
        if self.shared is None or not is_adapter(folder):
            return load_scalar(folder)
        return self.shared.load(name, folder)

    def copy(self, name: str, model: Any) -> Any:
        """Return a copy of a language model that learns or moves by itself."""
        return copy.deepcopy(model) if self.shared is None else model.copy(name)

    def critic(self, folder: Path, *, from_reward: bool) -> Any:
        """Return a critic that starts from the reward model or the language model in a folder, with a zero head.

        A full one is in float32: published weights come in half precision, whose steps are larger than an update at a
        usual learning rate.
        """
        if self.shared is not None and is_adapter(folder):
            hidden = self.shared.model.config.hidden_size
            return self.shared.load("critic", folder).give_head(torch.zeros(1, hidden))
        if from_reward:
            return critic_from_reward(load_scalar(folder, torch.float32))
        return critic_from_reward(reward_from_causal(load_causal(folder), head_seed=0))


def sft_start(work: Work) -> Any:
    """Return the model that fine-tuning starts from: the base, or a new adapter on it, the same for all ingredients."""
    base = work.inputs["base"].path
    if LORA not in work.config:
        # Published weights come in half precision, whose steps are larger than an update at a usual learning rate.
        return load_causal(base, torch.float32)
    return SharedBase(load_causal(base)).new("sft", _settings(work.config), work.seed("sft adapter"))


def reward_start(work: Work) -> Any:
    """Return the model that reward training starts from: the stage's `start` with a fresh head.

    With adapters it is the adapter of the start, or a new one where that is the base.
    """
    start, seed = work.inputs["start"].path, work.seed(f"{work.config['role']} head")
    if LORA not in work.config:
        # Published weights come in half precision, whose steps are larger than an update at a usual learning rate.
        return reward_from_causal(load_causal(start, torch.float32), seed)
    shared = SharedBase(load_causal(work.inputs["base"].path))
    if is_adapter(start):
        view = shared.load("reward", start)
    else:
        view = shared.new("reward", _settings(work.config), work.seed(f"{work.config['role']} adapter"))
    return view.give_head(head_weight(shared.model.config.hidden_size, seed))


def keep(work: Work, model: Any, tokenizer: Any, place: str = "") -> None:
    """Save a model in the artifact's folder, or in the folder `place` of it; of an adapter, the adapter.

    An adapter names its base by the way there from where it will lie in the store.
    """
    save(model, tokenizer, work.folder / place, base_from(work, place) if isinstance(model, AdaptedModel) else None)


def base_from(work: Work, place: str = "") -> str:
    """Return the way from the artifact's place in the store, or from the folder `place` of it, to the base."""
    base = work.inputs["base"].path
    store = base.parent.parent
    return os.path.relpath(base, store / work.stage.kind / work.stage.fingerprint / place)


def _settings(config: Mapping[str, Any]) -> LoraSettings:
    lora = config[LORA]
    return LoraSettings(lora["rank"], lora["alpha"], tuple(lora["targets"]))
