"""How every training stage trains: checkpoints in the unfinished folder, curves kept with the artifact."""

import shutil
from collections.abc import Callable, Mapping
from typing import Any

from pipelines.work import Work
from salsa.training.loop import Recorded, fit
from salsa.training.metrics import FILE_NAME, JsonLines
from salsa.training.optimiser import OptimiserSettings


def train(work: Work, module: Recorded, make_batch: Callable[[int], Any], steps: int) -> dict[str, float]:
    """Train a module, resuming where a killed run stopped; return the metrics of the last step."""
    execution = work.execution
    curves = JsonLines(work.unfinished)
    fit(
        module,
        make_batch,
        steps,
        work.unfinished,
        checkpoint_steps=execution.checkpoint_steps,
        checkpoint_seconds=execution.checkpoint_seconds,
        loggers=[curves, *work.loggers],
        progress=work.progress,
        accelerator=execution.accelerator,
    )
    curves.save()
    shutil.copyfile(work.unfinished / FILE_NAME, work.folder / FILE_NAME)
    return dict(module.latest)


def optimiser_settings(config: Mapping[str, Any]) -> OptimiserSettings:
    """Return the optimiser's settings from a stage's configuration."""
    return OptimiserSettings(**(dict(config) | {"betas": tuple(config["betas"])}))
