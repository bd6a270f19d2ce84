"""The schema of the configuration: types for Hydra, ranges checked before anything runs. Imports no torch.

The values, with their units and sources, are in the YAML files under `conf/`; a key exists only if a stage reads it.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from pipelines.arm import Align
from pipelines.benchmarks import Benchmark
from pipelines.choices import (
    Accelerator,
    Family,
    Origin,
    Schedule,
    Tracker,
    TrackerMode,
)
from pipelines.landscape import Landscape
from pipelines.ranges import ConfigurationError, accept, check_all, require
from pipelines.study.settings import Regime, StudySettings
from salsa.models.architecture import Architecture
from salsa.models.lora import LoraSettings
from salsa.training.settings import OptimiserSettings

__all__ = ["Config", "ConfigurationError", "accept", "check_all", "require"]


@dataclass
class TinyModel:
    """Sizes of a family's small build."""

    hidden: int = MISSING
    layers: int = MISSING
    heads: int = MISSING
    kv_heads: int = MISSING
    head_dim: int = MISSING
    intermediate: int = MISSING
    sliding_window: int | None = MISSING
    tie_embeddings: bool = MISSING
    init_std: float = MISSING

    def architecture(self, family: Family, context: int) -> Architecture:
        """Return the shape of the model that these sizes build for sequences of up to `context` tokens."""
        return Architecture(family=family.value, context=context, **vars(self))


@dataclass
class Model:
    """A base-model family."""

    family: Family = MISSING
    name: str = MISSING
    revision: str | None = MISSING
    template: str = MISSING
    tiny: TinyModel = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        require(self.template in ("text", "own"), f"{at}.template", self.template, "choose text or own")


@dataclass
class Optimiser:
    """AdamW with a schedule."""

    learning_rate: float = MISSING
    schedule: Schedule = MISSING
    warmup_steps: int = MISSING
    final_fraction: float = MISSING
    betas: tuple[float, float] = MISSING
    weight_decay: float = MISSING
    gradient_clip: float = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        accept(at, lambda: OptimiserSettings(**vars(self) | {"schedule": self.schedule.value}))


def optimiser_identity(optimiser: Optimiser | None) -> dict[str, Any]:
    """Return what of an optimiser decides a training: all of it; nothing where there is none."""
    if optimiser is None:
        return {}
    return dict(vars(optimiser)) | {"schedule": optimiser.schedule.value, "betas": list(optimiser.betas)}


@dataclass
class AlignScale:
    """Sizes of a PPO arm that depend on the model's size."""

    steps: int = MISSING
    batch_prompts: int = MISSING
    learning_rate: float = MISSING
    critic_learning_rate: float = MISSING
    kl_coef: float = MISSING
    betas: tuple[float, float] = MISSING


@dataclass
class Scale:
    """Which size of model, and where its weights come from."""

    name: str = MISSING
    source: Origin = MISSING
    align: AlignScale = MISSING


@dataclass
class Base:
    """Pre-training of a small base; only `context` is read for published weights."""

    context: int = MISSING
    steps: int = 0
    batch: int = 1
    row_tokens: int = 64
    vocabulary: int = 0
    optimiser: Optimiser | None = None

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        require(self.context >= 16, f"{at}.context", self.context, "must be at least 16 tokens")
        require(self.batch >= 1, f"{at}.batch", self.batch, "must be at least 1")
        require(
            2 <= self.row_tokens <= self.context, f"{at}.row_tokens", self.row_tokens, f"must be in [2, {self.context}]"
        )


@dataclass
class Lora:
    """Adapters over one frozen base in place of full fine-tuning."""

    rank: int = MISSING
    alpha: float = MISSING
    targets: list[str] = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        require(self.rank >= 0, f"{at}.rank", self.rank, "must not be negative (0: all weights are fine-tuned)")
        accept(at, lambda: LoraSettings(self.rank or 1, self.alpha, tuple(self.targets)))


@dataclass
class Sft:
    """Supervised fine-tuning of one ingredient."""

    demonstrations: int = MISSING
    steps: int = MISSING
    batch: int = MISSING
    replay: int = MISSING
    replay_tokens: int = MISSING
    optimiser: Optimiser = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        require(self.replay >= 0, f"{at}.replay", self.replay, "must not be negative")
        require(self.replay_tokens >= 2, f"{at}.replay_tokens", self.replay_tokens, "must be at least 2")
        for key in ("demonstrations", "steps", "batch"):
            require(getattr(self, key) >= 1, f"{at}.{key}", getattr(self, key), "must be at least 1")


@dataclass
class Preferences:
    """Pairs of replies with labels."""

    pairs: int = MISSING
    heldout: int = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        require(self.pairs >= 2, f"{at}.pairs", self.pairs, "must be at least 2")
        require(self.heldout >= 2, f"{at}.heldout", self.heldout, "must be at least 2")


@dataclass
class Reward:
    """The reward model: a published one, or its training."""

    name: str | None = MISSING
    revision: str | None = MISSING
    steps: int = MISSING
    batch: int = MISSING
    normaliser_replies: int = MISSING
    optimiser: Optimiser = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        require(self.steps >= 1, f"{at}.steps", self.steps, "must be at least 1")
        require(self.batch >= 1, f"{at}.batch", self.batch, "must be at least 1")
        require(self.normaliser_replies >= 2, f"{at}.normaliser_replies", self.normaliser_replies, "must be at least 2")


@dataclass
class Generation:
    """Sampling of replies."""

    temperature: float = MISSING
    max_new_tokens: int = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        require(
            self.temperature > 0,
            f"{at}.temperature",
            self.temperature,
            "must be above 0 (log-probabilities are taken at this temperature)",
        )
        require(self.max_new_tokens >= 1, f"{at}.max_new_tokens", self.max_new_tokens, "must be at least 1")


@dataclass
class Suite:
    """Prompts that the models are compared on."""

    names: list[str] = MISSING
    prompts: int = MISSING
    temperature: float | None = None
    anchor_prompts: int = MISSING
    samples: int = MISSING
    tax_documents: int = MISSING
    benchmarks: dict[str, Any] = field(default_factory=dict)

    @property
    def published(self) -> dict[str, Benchmark]:
        """The benchmarks by name, once `pipelines.schema.parse` has read them."""
        return self.benchmarks

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        require(len(self.names) > 0, f"{at}.names", self.names, "name at least one suite")
        require(len(set(self.names)) == len(self.names), f"{at}.names", self.names, "names a suite twice")
        for key in ("prompts", "anchor_prompts", "tax_documents"):
            require(getattr(self, key) >= 2, f"{at}.{key}", getattr(self, key), "must be at least 2")
        require(self.samples >= 0, f"{at}.samples", self.samples, "must not be negative")
        right = self.temperature is None or self.temperature >= 0
        require(right, f"{at}.temperature", self.temperature, "must not be negative (0 takes the likeliest token)")


@dataclass
class Logger:
    """The experiment tracker."""

    name: Tracker = MISSING
    mode: TrackerMode = TrackerMode.offline
    project: str = "salsa"
    entity: str | None = None


@dataclass
class Compute:
    """How the stages are executed; never part of a result's identity."""

    workers: int | None = MISSING
    threads: int = MISSING
    accelerator: Accelerator = MISSING
    micro_batch_tokens: int = MISSING
    checkpoint_steps: int | None = MISSING
    checkpoint_seconds: float = MISSING
    save_seconds: float = MISSING
    retries: int = MISSING
    retry_failed: bool = MISSING
    verify: bool = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        if self.workers is not None:
            require(self.workers >= 0, f"{at}.workers", self.workers, "must not be negative (0 = run in this process)")
        if self.checkpoint_steps is not None:
            require(self.checkpoint_steps >= 1, f"{at}.checkpoint_steps", self.checkpoint_steps, "must be at least 1")
        require(self.save_seconds > 0, f"{at}.save_seconds", self.save_seconds, "must be above 0")
        require(self.retries >= 0, f"{at}.retries", self.retries, "must not be negative")
        require(self.threads >= 1, f"{at}.threads", self.threads, "must be at least 1")
        require(self.micro_batch_tokens >= 64, f"{at}.micro_batch_tokens", self.micro_batch_tokens, "at least 64")
        require(self.checkpoint_seconds > 0, f"{at}.checkpoint_seconds", self.checkpoint_seconds, "must be above 0")


@dataclass
class Outputs:
    """Where results live."""

    dir: str = MISSING


@dataclass
class Config:
    """The whole configuration of one experiment."""

    model: Model = MISSING
    scale: Scale = MISSING
    data: Any = MISSING
    base: Base = MISSING
    lora: Lora = MISSING
    sft: Sft = MISSING
    soup: Any = MISSING
    landscape: Landscape = MISSING
    regime: Regime = MISSING
    study: StudySettings = MISSING
    preferences: Preferences = MISSING
    reward: Reward = MISSING
    policy: Align = MISSING
    opponent: Align = MISSING
    controls: dict[str, Align] = field(default_factory=dict)
    generation: Generation = MISSING
    suite: Suite = MISSING
    judge: Any = MISSING
    logger: Logger = MISSING
    compute: Compute = MISSING
    outputs: Outputs = MISSING
    seed: int = MISSING
    replicate: int = MISSING
    worker: int = MISSING
    plan: bool = MISSING
    why: str | None = MISSING

    def arms(self) -> dict[str, Align]:
        """Return the arms by the key that each is under."""
        controls = {f"controls.{name}": control for name, control in self.controls.items()}
        return {"policy": self.policy, "opponent": self.opponent} | controls

    def check(self, at: str = "") -> None:
        """Check the ranges of the keys under `at`."""
        require(self.seed >= 0, "seed", self.seed, "must not be negative")
        require(self.replicate >= 0, "replicate", self.replicate, "must not be negative")
