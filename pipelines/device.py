"""Where models are for evaluation: training and sampling leave this to Lightning, scoring does not go through it."""

from typing import Protocol, TypeVar

import torch

from pipelines.work import Execution


class Movable(Protocol):
    """A model, or what holds one."""

    def to(self, device: torch.device) -> object:
        """Move to a device."""
        ...


M = TypeVar("M", bound=Movable)


def device_of(execution: Execution) -> torch.device:
    """Return the device that `compute.accelerator` names; "auto" is the GPU where there is one."""
    wanted = execution.accelerator
    on_gpu = wanted == "gpu" or (wanted == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if on_gpu else "cpu")


def place(model: M, execution: Execution) -> M:
    """Move a model that was loaded (or trained) to the device of the execution, and return it."""
    model.to(device_of(execution))
    return model
