"""Settings of the PPO family; the defaults worked in the embedded world. No torch: a plan checks them."""

from dataclasses import dataclass, field

LOSSES = ("ppo_clip", "square", "awr", "reinforce")
CREDITS = ("gae", "group", "leave_one_out", "returns")
KL_PLACEMENTS = ("reward", "loss_k2", "loss_k3", "none")
AGGREGATES = ("tokens", "replies", "reply_sums")
CRITICS = ("reward", "sft", "trunk")
ACTIONS = ("stop", "skip", "warn", "ignore")
GROUPED = ("group", "leave_one_out")
"""Credits that compare the replies to one prompt with each other."""


@dataclass(frozen=True)
class Guard:
    """A limit and what happens when it is crossed: stop the training, skip the update, warn, or nothing (ignore)."""

    limit: float
    action: str = "warn"

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"action must be one of {', '.join(ACTIONS)}, got {self.action}")


@dataclass(frozen=True)
class GuardSettings:
    """When a training is in trouble, and what is done about it.

    Raises:
        ValueError: if a value is out of its range.
    """

    non_finite: str = "stop"
    """What a NaN or infinite reward, loss or gradient leads to: stop, or skip (that update is not made)."""
    kl: Guard = Guard(100.0)
    """Most nats of KL divergence to the reference, a reply."""
    entropy: Guard = Guard(0.02)
    """Least entropy of the policy, nats a token."""
    short: Guard = Guard(1.5)
    """Least length of replies, mean tokens; 1 is a lone end token."""
    unfinished: Guard = Guard(0.9)
    """Largest share of replies that are cut at the limit of their length."""

    def __post_init__(self) -> None:
        if self.non_finite not in ("stop", "skip"):
            raise ValueError(
                f"non_finite must be stop or skip: broken numbers cannot be learned, got {self.non_finite}"
            )


@dataclass(frozen=True)
class PPOSettings:
    """All numbers of a training of the PPO family.

    `loss`, `credit`, `kl_placement` and `aggregate` make the algorithm: PPO, APA, GRPO, RLOO, REINFORCE and what lies
    between them (docs/algorithms.md).

    Raises:
        ValueError: if a value is out of its range, or two do not go together.
    """

    loss: str = "ppo_clip"
    """Loss of a token: ppo_clip, square (APA), awr or reinforce."""
    credit: str = "gae"
    """Who is praised for a reward: gae (a critic), group (GRPO), leave_one_out (RLOO) or returns (reward to go)."""
    whiten: bool = True
    """Shift and scale advantages to mean 0 and variance 1 over the tokens of an iteration."""
    aggregate: str = "tokens"
    """Mean over tokens, over replies (of means over their tokens), or over replies (of sums over their tokens)."""
    replies_per_prompt: int = 1
    """Replies to each prompt of an iteration."""
    kl_placement: str = "reward"
    """Where the KL to the reference enters: reward (k1 a token), loss_k2, loss_k3, or none."""
    kl_target: float | None = None
    """KL to the reference, nats a reply, that an adaptive coefficient steers to; None: the coefficient is fixed."""
    kl_horizon: int = 10_000
    """Episodes over which an adaptive coefficient can change by its factor; smaller reacts faster."""
    update_kl_limit: float | None = None
    """KL of the old policy to the new, nats a token, that ends the passes of an iteration early; None: never."""
    awr_temperature: float = 2.0
    """Unit of the advantages in the weights exp(A / temperature) of the awr loss."""
    critic: str = "reward"
    """Critic of gae: a model of its own from the reward model or from the SFT model (sft), or a head on the trunk."""
    value_coef: float = 0.1
    """Weight of the value loss beside the policy's, for a critic on the policy's trunk."""
    steps: int = 32
    """Iterations: roll out, score, update."""
    batch_prompts: int = 128
    """Prompts of one iteration."""
    epochs: int = 2
    """Passes over the replies of an iteration."""
    minibatches: int = 4
    """Parts into which a pass is split; each makes one step of either optimiser."""
    learning_rate: float = 5e-4
    """Highest learning rate of the policy."""
    critic_learning_rate: float = 5e-4
    """Highest learning rate of the critic."""
    final_fraction: float = 0.1
    """Fraction of the learning rates that a linear decay reaches at the end of the last iteration."""
    warmup_steps: int = 5
    """Iterations over which the learning rates climb linearly."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Adam's decay rates of the running means of gradients and of their squares."""
    adam_eps: float = 1e-5
    """Adam's addition to the root of the mean square, in the unit of a gradient."""
    clip: float = 0.2
    """How far a probability ratio may leave 1 before it stops to gain."""
    value_clip: float = 0.2
    """How far a value may leave its old estimate before it stops to gain, in normalised reward."""
    kl_coef: float = 0.4
    """Price of a nat of KL divergence to the reference, in normalised reward; for the square loss, the lambda of its
    target reference x exp(advantage / lambda)."""
    gamma: float = 1.0
    """Discount of rewards per token."""
    lam: float = 0.95
    """Decay per token of generalised advantage estimation: 0 trusts the critic, 1 the rewards."""
    temperature: float = 1.0
    """Sampling temperature of rollouts; every log-probability is taken at it."""
    max_new_tokens: int = 36
    """Most tokens of a reply, its end token included."""
    gradient_clip: float = 1.0
    """Largest global norm of a gradient, of policy and critic each."""
    trace_every: int = 8
    """Iterations between two traces of the policy's replies to fixed prompts."""
    guards: GuardSettings = field(default_factory=GuardSettings)
    """When a training is in trouble, and what is done about it."""
    seed: int = 0
    """Seed of prompts, sampling noise and minibatches."""
    micro_batch_tokens: int = 4096
    """Most tokens of one forward pass. Speed and memory only: results agree up to rounding."""

    @property
    def episodes(self) -> int:
        """Replies of one iteration."""
        return self.batch_prompts * self.replies_per_prompt

    def __post_init__(self) -> None:
        self._check_names()
        self._check_ranges()
        self._check_combinations()

    def _check_names(self) -> None:
        for name, known in (
            ("loss", LOSSES),
            ("credit", CREDITS),
            ("kl_placement", KL_PLACEMENTS),
            ("aggregate", AGGREGATES),
            ("critic", CRITICS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)}")

    def _check_ranges(self) -> None:
        whole = ("steps", "batch_prompts", "replies_per_prompt", "epochs", "minibatches", "max_new_tokens")
        for name in (*whole, "kl_horizon", "trace_every", "micro_batch_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        positive = ("learning_rate", "critic_learning_rate", "adam_eps", "clip", "value_clip", "gradient_clip")
        for name in (*positive, "awr_temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("kl_coef", "warmup_steps", "seed", "value_coef"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("final_fraction", "gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        for name in ("kl_target", "update_kl_limit"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, or null for none, got {getattr(self, name)}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two values in [0, 1), got {list(self.betas)}")
        if not self.temperature > 0:
            raise ValueError(
                f"temperature must be positive (a policy that never varies cannot learn), got {self.temperature}"
            )

    def _check_combinations(self) -> None:
        if self.episodes < self.minibatches:
            raise ValueError(f"minibatches ({self.minibatches}) must not exceed the {self.episodes} replies of a pass")
        if self.credit in GROUPED and self.replies_per_prompt < 2:
            raise ValueError(
                f"credit {self.credit} compares the replies to one prompt: replies_per_prompt must be at least 2, "
                f"got {self.replies_per_prompt}"
            )
        if self.loss == "square" and not self.kl_coef > 0:
            raise ValueError("kl_coef must be positive for loss square, whose target is reference x exp(A / kl_coef)")
        if self.loss == "square" and self.kl_placement != "none":
            raise ValueError(
                f"kl_placement must be none for loss square, whose target holds the reference, got {self.kl_placement}"
            )
        if self.kl_target is not None and self.kl_placement == "none":
            raise ValueError("kl_target adapts the price of the KL, which kl_placement none does not charge")
        if self.kl_target is not None and not self.kl_coef > 0:
            raise ValueError("kl_coef must be positive where kl_target adapts it: it changes by factors")
        if self.kl_target is not None and self.kl_horizon <= 0.2 * self.episodes:
            raise ValueError(
                f"kl_horizon must exceed a fifth of the {self.episodes} replies of an iteration, or a single one could "
                f"take all of the coefficient, got {self.kl_horizon}"
            )
