"""The schema of one arm: an algorithm of the PPO family with its reference, start, reward and guards. No torch.

The values, with their units and sources, are in the YAML files under `conf/align/`.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from pipelines.choices import Action, Aggregate, Credit, Critic, Init, KlPlacement, Loss, Reference
from pipelines.ranges import accept, plain, require
from pipelines.rules import active
from salsa.rl.settings import GROUPED, Guard, GuardSettings, PPOSettings


@dataclass
class GuardLimit:
    """A limit and what crossing it leads to."""

    limit: float = MISSING
    action: Action = MISSING


@dataclass
class Guards:
    """When a training of an arm is in trouble, and what is done about it."""

    non_finite: Action = MISSING
    kl: GuardLimit = MISSING
    entropy: GuardLimit = MISSING
    short: GuardLimit = MISSING
    unfinished: GuardLimit = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        accept(at, lambda: guard_settings(plain(self)))


@dataclass
class Mixture:
    """Shares of the KL to several references."""

    sft: float = MISSING
    other: float = MISSING
    soup: float = MISSING
    base: float = MISSING

    def shares(self) -> dict[str, float]:
        """Return the shares above 0 by reference."""
        return {name: float(share) for name, share in vars(self).items() if share}


@dataclass
class Rewards:
    """Terms of the reward: their weights, and rules of one's own by name."""

    model: float = MISSING
    length: float = MISSING
    end: float = MISSING
    rules: dict[str, Any] = field(default_factory=dict)

    def calls(self) -> list[dict[str, Any]]:
        """Return the rules as they are called: what weighs and normalises their values is left out."""
        left_out = ("weight", "normalise")
        rules = [rule for rule in self.rules.values() if isinstance(rule, dict)]
        return [{key: value for key, value in rule.items() if key not in left_out} for rule in rules]

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        rules = active(at.removesuffix(".rewards"), self.rules)
        named = any((self.model, self.length, self.end, rules))
        require(named, f"{at}.model", self.model, "no term of the reward has a weight; give one of them a weight")
        for name in self.rules:
            free = name.isidentifier() and name not in ("model", "length", "end", "score", "objective")
            fix = "name a rule by letters, digits and underscores, and not as another figure of the reward"
            require(free, f"{at}.rules.{name}", name, fix)


@dataclass
class Align:
    """One arm: an algorithm of the PPO family, its reference, its start, its reward."""

    reference: Reference = MISSING
    init: Init = MISSING
    ema_rate: float = MISSING
    sync_rate: float = MISSING
    sync_every: int = MISSING
    mixture: Mixture = MISSING
    loss: Loss = MISSING
    credit: Credit = MISSING
    whiten: bool = MISSING
    aggregate: Aggregate = MISSING
    kl_placement: KlPlacement = MISSING
    kl_coef: float = MISSING
    kl_target: float | None = MISSING
    kl_horizon: int = MISSING
    update_kl_limit: float | None = MISSING
    steps: int = MISSING
    batch_prompts: int = MISSING
    replies_per_prompt: int = MISSING
    epochs: int = MISSING
    minibatches: int = MISSING
    learning_rate: float = MISSING
    critic: Critic = MISSING
    critic_learning_rate: float = MISSING
    value_coef: float = MISSING
    final_fraction: float = MISSING
    warmup_steps: int = MISSING
    betas: tuple[float, float] = MISSING
    adam_eps: float = MISSING
    clip: float = MISSING
    value_clip: float = MISSING
    awr_temperature: float = MISSING
    gamma: float = MISSING
    lam: float = MISSING
    rewards: Rewards = MISSING
    missing_end_score: float | None = MISSING
    gradient_clip: float = MISSING
    guards: Guards = MISSING
    trace_every: int = MISSING
    keep_best: bool = MISSING

    def algorithm(self) -> dict[str, Any]:
        """Return the numbers and names of the algorithm as plain values, by the names of `PPOSettings`."""
        own = {key: value for key, value in vars(self).items() if key not in _NOT_SETTINGS}
        return {key: value.value if isinstance(value, Enum) else value for key, value in own.items()}

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        accept(at, lambda: PPOSettings(**self.algorithm(), guards=guard_settings(plain(self.guards))))
        require(0 < self.ema_rate <= 1, f"{at}.ema_rate", self.ema_rate, "must be in (0, 1]")
        require(0 < self.sync_rate <= 1, f"{at}.sync_rate", self.sync_rate, "must be in (0, 1]")
        require(self.sync_every >= 1, f"{at}.sync_every", self.sync_every, "must be at least 1")
        if self.reference is Reference.mixture:
            shares = self.mixture.shares()
            whole = bool(shares) and min(shares.values()) > 0 and abs(sum(shares.values()) - 1) <= 1e-6
            require(whole, f"{at}.mixture", shares, "shares must not be negative and must sum to 1")


_NOT_SETTINGS = (
    "reference",
    "init",
    "ema_rate",
    "sync_rate",
    "sync_every",
    "mixture",
    "rewards",
    "missing_end_score",
    "guards",
    "keep_best",
)


def guard_settings(guards: dict[str, Any]) -> GuardSettings:
    """Return the guards of an arm from plain values. Raises ValueError for an action that a guard cannot take."""
    limits = {name: Guard(**value) for name, value in guards.items() if isinstance(value, dict)}
    return GuardSettings(non_finite=guards["non_finite"], **limits)


def identity(arm: Align) -> dict[str, Any]:
    """Return what decides the training of an arm beside its models: the values that this algorithm reads.

    Of the guards only those that skip updates decide anything: one that stops a training leaves no result, and with
    another limit the same training goes on. The models are inputs of the stage: `references` gives their names. Rules
    are left to `pipelines.rules`.
    """
    own = arm.algorithm()
    for unused in _unused(arm):
        del own[unused]
    own["betas"] = list(own["betas"])
    own["rewards"] = {name: value for name, value in plain(arm.rewards).items() if value and name != "rules"}
    own["missing_end_score"] = arm.missing_end_score
    own["keep_best"] = arm.keep_best
    own["reference"] = _reference(arm)
    skipping = _skipping(arm.guards)
    return own | {"guards": skipping} if skipping else own


def _skipping(guards: Guards) -> dict[str, Any]:
    values = plain(guards)
    found = {name: guard for name, guard in values.items() if isinstance(guard, dict) and guard["action"] == "skip"}
    return found | {"non_finite": "skip"} if values["non_finite"] == "skip" else found


def references(arm: Align) -> list[str]:
    """Return the models that the KL of an arm is measured to; none for a reference that follows the policy."""
    if arm.reference in (Reference.ema, Reference.sync):
        return []
    return list(arm.mixture.shares()) if arm.reference is Reference.mixture else [arm.reference.value]


def _reference(arm: Align) -> dict[str, Any]:
    if arm.reference is Reference.ema:
        return {"kind": "moving", "rate": arm.ema_rate, "every": 1}
    if arm.reference is Reference.sync:
        return {"kind": "moving", "rate": arm.sync_rate, "every": arm.sync_every}
    shares = list(arm.mixture.shares().values()) if arm.reference is Reference.mixture else [1.0]
    return {"kind": "frozen"} if len(shares) == 1 else {"kind": "mixture", "shares": shares}


def _unused(arm: Align) -> set[str]:
    """Return the settings that the algorithm of an arm does not read."""
    unused = set()
    if arm.credit is not Credit.gae:
        unused |= {"critic", "critic_learning_rate", "value_coef", "value_clip", "lam"}
    else:
        unused |= {"critic_learning_rate" if arm.critic is Critic.trunk else "value_coef"}
    if arm.credit.value in GROUPED:
        unused |= {"gamma"}
    if arm.loss is not Loss.ppo_clip:
        unused |= {"clip"}
    if arm.loss is not Loss.awr:
        unused |= {"awr_temperature"}
    if arm.kl_target is None:
        unused |= {"kl_target", "kl_horizon"}
    if arm.update_kl_limit is None:
        unused |= {"update_kl_limit"}
    return unused


def algorithm_name(arm: Align) -> str:
    """Return what an arm's algorithm is called in tables."""
    if arm.loss is Loss.square:
        return "APA"
    if arm.loss is Loss.awr:
        return "AWR"
    if arm.credit is Credit.group:
        return "GRPO"
    if arm.credit is Credit.leave_one_out:
        return "RLOO"
    return "REINFORCE" if arm.loss is Loss.reinforce else "PPO"


def arm_name(arm: Align) -> str:
    """Return what an arm is called in tables: PPO, SALSA, another algorithm, and what is special about its models."""
    start, reference, algorithm = arm.init.value, arm.reference.value, algorithm_name(arm)
    named = {
        ("sft", "sft_1"): "",
        ("soup", "sft_1"): "ref soup",
        ("other", "sft_1"): "ref SFT2",
        ("soup", "soup"): "start+ref soup",
        ("sft", "soup"): "start soup",
        ("base", "sft_1"): "ref base",
        ("ema", "sft_1"): "ref EMA",
        ("sync", "sft_1"): "ref sync",
        ("mixture", "sft_1"): "ref mixture",
    }
    models = named.get((reference, start), f"start {start}, ref {reference}")
    if algorithm == "PPO":
        return {"": "PPO", "ref soup": "SALSA"}.get(models, models)
    return f"{algorithm} {models}".strip()
