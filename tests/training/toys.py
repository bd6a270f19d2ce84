"""Linear regressions as Lightning modules: one with automatic optimisation, one that steps two optimisers itself."""

from typing import Any

import torch

from salsa.training.loop import Recorded


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 4, generator=generator), torch.randn(8, 3, generator=generator)


class Automatic(Recorded):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(4, 3))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        inputs, targets = batch
        loss = (inputs @ self.weight - targets).square().mean()
        self.record(self.completed, {"loss": loss.item()})
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        optimiser = torch.optim.AdamW(self.parameters(), lr=0.05, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / 10)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Manual(Automatic):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.bias = torch.nn.Parameter(torch.zeros(3))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        inputs, targets = batch
        optimisers = self.optimizers()
        for _ in range(3):
            loss = (inputs @ self.weight + self.bias - targets).square().mean()
            for optimiser in optimisers:
                optimiser.zero_grad()
            self.manual_backward(loss)
            for optimiser in optimisers:
                optimiser.step()
        self.record(self.completed, {"loss": loss.item()})

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.AdamW([self.weight], lr=0.05), torch.optim.AdamW([self.bias], lr=0.05)]
