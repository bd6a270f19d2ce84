"""Settings of AdamW and of its learning rate. Imports no torch, so that a plan can check them."""

from dataclasses import dataclass

SCHEDULES = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class OptimiserSettings:
    """Settings of AdamW and of its learning rate.

    The rate climbs linearly to `learning_rate` over `warmup_steps` steps, then falls along `schedule` to
    `final_fraction` of it at the end of training ("constant" does not fall). `gradient_clip` is the largest global
    norm of a gradient (None: not clipped); `weight_decay` acts on matrices only.

    Raises:
        ValueError: if a value is out of its range.
    """

    learning_rate: float
    schedule: str = "cosine"
    warmup_steps: int = 0
    final_fraction: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    gradient_clip: float | None = 1.0

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule is '{self.schedule}'; choose one of {', '.join(SCHEDULES)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps must not be negative, got {self.warmup_steps}")
        if not 0 <= self.final_fraction <= 1:
            raise ValueError(f"final_fraction must lie in [0, 1], got {self.final_fraction}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two values in [0, 1), got {list(self.betas)}")
        if not self.eps > 0:
            raise ValueError(f"eps must be positive, got {self.eps}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")
        if self.gradient_clip is not None and not self.gradient_clip > 0:
            raise ValueError(f"gradient_clip must be positive or null, got {self.gradient_clip}")
