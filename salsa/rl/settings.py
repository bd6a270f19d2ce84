"""Settings of PPO; the defaults worked in the embedded world. Imports no torch, so that a plan can check them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PPOSettings:
    """All numbers of a PPO training.

    Raises:
        ValueError: if a value is out of its range.
    """

    steps: int = 32
    """PPO iterations: roll out, score, update."""
    batch_prompts: int = 128
    """Prompts, and so replies, of one iteration."""
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
    """Price of a nat of KL divergence to the reference, in normalised reward."""
    gamma: float = 1.0
    """Discount of rewards per token."""
    lam: float = 0.95
    """Decay per token of generalised advantage estimation: 0 trusts the critic, 1 the rewards."""
    temperature: float = 1.0
    """Sampling temperature of rollouts; every log-probability is taken at it."""
    max_new_tokens: int = 36
    """Most tokens of a reply, its end token included."""
    missing_end_score: float = -1.0
    """Reward of a reply that was cut before its end token, in normalised reward."""
    gradient_clip: float = 1.0
    """Largest global norm of a gradient, of policy and critic each."""
    trace_every: int = 8
    """Iterations between two traces of the policy's replies to fixed prompts."""
    seed: int = 0
    """Seed of prompts, sampling noise and minibatches."""
    micro_batch_tokens: int = 2048
    """Most slots (padding included) of one forward pass. Speed and memory only: results agree up to rounding."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_prompts", "epochs", "minibatches", "max_new_tokens", "trace_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "critic_learning_rate", "adam_eps", "clip", "value_clip", "gradient_clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("kl_coef", "warmup_steps", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("final_fraction", "gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two values in [0, 1), got {list(self.betas)}")
        if not self.temperature > 0:
            raise ValueError(
                f"temperature must be positive (a policy that never varies cannot learn), got {self.temperature}"
            )
        if self.micro_batch_tokens < 1:
            raise ValueError(f"micro_batch_tokens must be at least 1, got {self.micro_batch_tokens}")
        if self.batch_prompts < self.minibatches:
            raise ValueError(f"batch_prompts ({self.batch_prompts}) must be at least minibatches ({self.minibatches})")
