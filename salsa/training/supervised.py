"""What language modelling and reward modelling have in common: one loss, one optimiser, one line of metrics a step."""

from collections.abc import Mapping
from typing import Any

import torch

from salsa.training.loop import Recorded
from salsa.training.optimiser import OptimiserSettings, adamw, schedule


class Supervised(Recorded):
    """Trains `model` on the loss of `loss(batch)` with AdamW for `steps` steps.

    Subclasses give `loss`, which returns the loss and further metrics. Each step records them with the norm of the
    gradient before clipping and the learning rate.
    """

    headline: tuple[str, ...] = ("loss",)

    def __init__(self, model: torch.nn.Module, settings: OptimiserSettings, steps: int) -> None:
        super().__init__()
        self.model = model.train()
        self.settings = settings
        self.steps = steps
        self._metrics: dict[str, float] = {}

    def loss(self, batch: Any) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Return the loss of a batch and further metrics, each a tensor without dimensions."""
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Return the loss of one batch.

        Raises:
            FloatingPointError: if it is not finite.
        """
        loss, metrics = self.loss(batch)
        values = torch.stack([loss.detach(), *(metric.float() for metric in metrics.values())]).tolist()
        self._metrics = dict(zip(["loss", *metrics], values, strict=True))
        if not torch.isfinite(loss.detach()):
            raise FloatingPointError(
                f"the loss of step {self.completed} is {values[0]}; a lower learning rate "
                f"(now {self.settings.learning_rate}) or a smaller gradient_clip may help"
            )
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient to `settings.gradient_clip` and record the step, all of whose figures are known now."""
        limit = self.settings.gradient_clip
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), float("inf") if limit is None else limit)
        rate = optimizer.param_groups[0]["lr"]
        self.record(self.completed, {**self._metrics, "gradient_norm": norm.item(), "learning_rate": rate})

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW and its schedule, which advances at every step."""
        optimiser = adamw(self.model.parameters(), self.settings)
        scheduler = schedule(optimiser, self.settings, self.steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
