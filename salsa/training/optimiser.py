"""AdamW with a learning-rate schedule: the optimiser of every training that has one loss."""

import math
from collections.abc import Iterable

import torch

from salsa.training.settings import SCHEDULES, OptimiserSettings

__all__ = ["SCHEDULES", "OptimiserSettings", "adamw", "rate_factor", "schedule"]


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
