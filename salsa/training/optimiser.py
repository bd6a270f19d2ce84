"""AdamW with a learning-rate schedule: the optimiser of every training that has one loss."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

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
        if self.gradient_clip is not None and not self.gradient_clip > 0:
            raise ValueError(f"gradient_clip must be positive or null, got {self.gradient_clip}")


def rate_factor(settings: OptimiserSettings, step: int, steps: int) -> float:
    """Return the learning rate of step `step` (from 0) of `steps`, as a fraction of `settings.learning_rate`."""
    if step < settings.warmup_steps:
        return (step + 1) / (settings.warmup_steps + 1)
    progress = min(1.0, (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps))
    if settings.schedule == "cosine":
        height = (1 + math.cos(math.pi * progress)) / 2
    elif settings.schedule == "linear":
        height = 1 - progress
    else:
        return 1.0
    return settings.final_fraction + (1 - settings.final_fraction) * height


def adamw(parameters: Iterable[torch.nn.Parameter], settings: OptimiserSettings) -> torch.optim.AdamW:
    """Return AdamW over the parameters that require a gradient; norms and biases are not decayed."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [parameter for parameter in trained if parameter.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.eps,
        fused=True,
    )


def schedule(
    optimiser: torch.optim.Optimizer, settings: OptimiserSettings, steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return the scheduler that sets the rate of `rate_factor` at every step."""
    return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_factor(settings, step, steps))
