"""Training with interruptions, and the comparison of what is left: shared by the tests of every training module."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from salsa.training.loop import CHECKPOINT, Recorded, fit
from salsa.training.metrics import FILE_NAME, JsonLines


class KilledError(Exception):
    """Stands for a kill: it ends training at once, and nothing is written after it."""


def train(
    make_module: Callable[[], Recorded],
    make_batch: Callable[[int], Any],
    steps: int,
    folder: Path,
    kills: Sequence[int] = (),
    every: int = 1,
) -> Recorded:
    """Train to the end; before that, once for each of `kills`, until the batch of that step is asked for."""
    for kill in kills:

        def until_killed(step: int, kill: int = kill) -> Any:
            if step == kill:
                raise KilledError
            return make_batch(step)

        with pytest.raises(KilledError):
            fit(make_module(), until_killed, steps, folder, checkpoint_steps=every, loggers=[JsonLines(folder)])
    module = make_module()
    fit(module, make_batch, steps, folder, checkpoint_steps=every, loggers=[JsonLines(folder)])
    return module


def left_behind(module: Recorded, folder: Path) -> dict[str, Any]:
    """Return weights, optimisers, counters and metrics after a training, to be compared bit for bit."""
    checkpoint = torch.load(folder / CHECKPOINT, weights_only=True)
    return {
        "weights": {name: value.tolist() for name, value in module.state_dict().items()},
        "saved": {name: value.tolist() for name, value in checkpoint["state_dict"].items()},
        "optimisers": _plain(checkpoint["optimizer_states"]),
        "schedules": _plain(checkpoint["lr_schedulers"]),
        "completed": module.completed,
        "latest": module.latest,
        "metrics": (folder / FILE_NAME).read_text(),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
