"""The schema of the configuration: types for Hydra, ranges checked before anything runs. Imports no torch.

The values, with their units and sources, are in the YAML files under `conf/`; a key exists only if a stage reads it.
"""

from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any

from omegaconf import MISSING


class ConfigurationError(ValueError):
    """A value that cannot work; the message names the key, the value and the fix."""


def check_all(node: object, at: str = "") -> None:
    """Check the ranges of a configuration and of everything in it, naming each key by its full path."""
    if isinstance(node, dict):
        for key, value in node.items():
            check_all(value, f"{at}.{key}" if at else str(key))
    elif is_dataclass(node):
        if hasattr(node, "check"):
            node.check(at)
        for item in fields(node):
            check_all(getattr(node, item.name), f"{at}.{item.name}" if at else item.name)


def require(condition: bool, key: str, value: object, fix: str) -> None:
    """Raise `ConfigurationError` unless the condition holds."""
    if not condition:
        raise ConfigurationError(f"{key}={value}: {fix}")


class Family(Enum):
    """Architectures that can be built small."""

    llama2 = "llama2"
    mistral = "mistral"
    gemma = "gemma"


class Origin(Enum):
    """Where the base weights come from."""

    build = "build"
    hub = "hub"


class Reference(Enum):
    """Models that the KL can be measured to."""

    sft = "sft"
    soup = "soup"
    other = "other"
    base = "base"


class Init(Enum):
    """Models that a policy can start from."""

    sft_1 = "sft_1"
    soup = "soup"


class Draws(Enum):
    """Whether the SFT models share their demonstrations."""

    shared = "shared"
    separate = "separate"


class Learn(Enum):
    """Tokens that fine-tuning learns."""

    assistant = "assistant"
    last = "last"
    all = "all"


class JudgeName(Enum):
    """Judges of replies."""

    gold = "gold"
    reward_model = "reward_model"


class Tracker(Enum):
    """Experiment trackers."""

    wandb = "wandb"
    none = "none"


class TrackerMode(Enum):
    """How the tracker reaches its server."""

    auto = "auto"
    online = "online"
    offline = "offline"


class Schedule(Enum):
    """Shapes of the learning rate after warm-up."""

    cosine = "cosine"
    linear = "linear"
    constant = "constant"


class Accelerator(Enum):
    """Where tensors live."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


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

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        for key in ("hidden", "layers", "heads", "kv_heads", "head_dim", "intermediate"):
            require(getattr(self, key) >= 1, f"{at}.{key}", getattr(self, key), "must be at least 1")
        require(self.head_dim % 2 == 0, f"{at}.head_dim", self.head_dim, "must be even (rotary embeddings)")
        require(self.heads % self.kv_heads == 0, f"{at}.kv_heads", self.kv_heads, f"must divide heads={self.heads}")
        require(self.init_std > 0, f"{at}.init_std", self.init_std, "must be above 0")


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
        require(self.learning_rate >= 0, f"{at}.learning_rate", self.learning_rate, "must not be negative")
        require(0 <= self.final_fraction <= 1, f"{at}.final_fraction", self.final_fraction, "must be in [0, 1]")
        require(self.warmup_steps >= 0, f"{at}.warmup_steps", self.warmup_steps, "must not be negative")
        require(self.gradient_clip > 0, f"{at}.gradient_clip", self.gradient_clip, "must be above 0")
        require(all(0 <= b < 1 for b in self.betas), f"{at}.betas", self.betas, "must be in [0, 1)")


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
        require(self.steps >= 0, f"{at}.steps", self.steps, "must not be negative")
        require(
            2 <= self.row_tokens <= self.context, f"{at}.row_tokens", self.row_tokens, f"must be in [2, {self.context}]"
        )


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
class Soup:
    """The soup of the SFT models."""

    alpha: float = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        require(
            0 <= self.alpha <= 1,
            f"{at}.alpha",
            self.alpha,
            "is the weight of SFT2 and must be in [0, 1] (0 is plain PPO)",
        )


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
    """Training of the reward model."""

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
class Align:
    """One PPO arm."""

    reference: Reference = MISSING
    init: Init = MISSING
    kl_coef: float = MISSING
    steps: int = MISSING
    batch_prompts: int = MISSING
    epochs: int = MISSING
    minibatches: int = MISSING
    learning_rate: float = MISSING
    critic_learning_rate: float = MISSING
    final_fraction: float = MISSING
    warmup_steps: int = MISSING
    betas: tuple[float, float] = MISSING
    adam_eps: float = MISSING
    clip: float = MISSING
    value_clip: float = MISSING
    gamma: float = MISSING
    lam: float = MISSING
    missing_end_score: float = MISSING
    gradient_clip: float = MISSING
    trace_every: int = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        for key in ("steps", "batch_prompts", "epochs", "minibatches", "trace_every"):
            require(getattr(self, key) >= 1, f"{at}.{key}", getattr(self, key), "must be at least 1")
        for key in ("kl_coef", "learning_rate", "critic_learning_rate", "warmup_steps"):
            require(getattr(self, key) >= 0, f"{at}.{key}", getattr(self, key), "must not be negative")
        for key in ("gamma", "lam", "final_fraction"):
            require(0 <= getattr(self, key) <= 1, f"{at}.{key}", getattr(self, key), "must be in [0, 1]")
        for key in ("clip", "value_clip", "gradient_clip", "adam_eps"):
            require(getattr(self, key) > 0, f"{at}.{key}", getattr(self, key), "must be above 0")
        require(
            self.minibatches <= self.batch_prompts,
            f"{at}.minibatches",
            self.minibatches,
            f"must be at most batch_prompts={self.batch_prompts}",
        )


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
    anchor_prompts: int = MISSING
    samples: int = MISSING
    tax_documents: int = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        require(len(self.names) > 0, f"{at}.names", self.names, "name at least one suite")
        require(len(set(self.names)) == len(self.names), f"{at}.names", self.names, "names a suite twice")
        for key in ("prompts", "anchor_prompts", "tax_documents"):
            require(getattr(self, key) >= 2, f"{at}.{key}", getattr(self, key), "must be at least 2")
        require(self.samples >= 0, f"{at}.samples", self.samples, "must not be negative")


@dataclass
class Judge:
    """Who judges the replies, and the intervals of the judgement."""

    name: JudgeName = MISSING
    tie_margin: float = MISSING
    rounds: int = MISSING
    level: float = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        require(self.tie_margin >= 0, f"{at}.tie_margin", self.tie_margin, "must not be negative")
        require(self.rounds >= 100, f"{at}.rounds", self.rounds, "must be at least 100")
        require(0.5 <= self.level < 1, f"{at}.level", self.level, "must be in [0.5, 1)")


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

    workers: int = MISSING
    threads: int = MISSING
    accelerator: Accelerator = MISSING
    micro_batch_tokens: int = MISSING
    checkpoint_seconds: float = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        require(self.workers >= 0, f"{at}.workers", self.workers, "must not be negative (0 = run in this process)")
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
    sft: Sft = MISSING
    soup: Soup = MISSING
    preferences: Preferences = MISSING
    reward: Reward = MISSING
    policy: Align = MISSING
    opponent: Align = MISSING
    controls: dict[str, Align] = field(default_factory=dict)
    generation: Generation = MISSING
    suite: Suite = MISSING
    judge: Judge = MISSING
    logger: Logger = MISSING
    compute: Compute = MISSING
    outputs: Outputs = MISSING
    seed: int = MISSING
    replicate: int = MISSING
    plan: bool = MISSING

    def check(self, at: str = "") -> None:
        """Check the ranges of the keys under `at`."""
        require(self.seed >= 0, "seed", self.seed, "must not be negative")
        require(self.replicate >= 0, "replicate", self.replicate, "must not be negative")
