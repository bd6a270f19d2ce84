"""One way to train every Lightning module: checkpoints that survive kills, and resuming that is exact."""

import errno
import logging
import os
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

from salsa.training.batches import Batches
from salsa.training.interruption import Deferred, Interrupted, honest_interrupts, signals_deferred

LOG = logging.getLogger(__name__)

CHECKPOINT = "last.ckpt"
_COMPLETED = "salsa_completed_steps"
_LATEST = "salsa_latest_metrics"

# What Lightning has to say about choices that are made here on purpose.
_EXPECTED_WARNINGS = (
    r".*module\(s\) in eval mode at the start of training.*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    r"The `srun` command is available on your system but is not used.*",
    r"GPU available but not used.*",
)


class _InPlace(TorchCheckpointIO):
    """Writes a checkpoint where it stays: Lightning's way leads through memory and the folder for temporary files."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint; raises OSError where the disk is full (given a path, torch names neither)."""
        try:
            with Path(path).open("wb") as file:
                torch.save(checkpoint, file)
        except RuntimeError as error:
            # What torch's own writer says of the end that it could not write hides the reason.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


class Recorded(LightningModule):
    """A Lightning module that counts its finished steps and sends metrics to every logger at once.

    During `training_step`, `completed` is the index (from 0) of the step that runs; `fit` raises it afterwards, before
    it saves a checkpoint. `latest` holds the values last recorded, of which `headline` names those that the progress
    text shows (all, if it is empty).
    """

    headline: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.completed = 0
        self.latest: dict[str, float] = {}

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Send the metrics of step `step` to the loggers.

        To be called inside the step (not in `on_train_batch_end`): what is recorded later than the checkpoint of the
        step would be lost by a kill in between.
        """
        self.latest = {name: float(value) for name, value in values.items()}
        for logger in self.loggers:
            logger.log_metrics(dict(self.latest), step=step)

    def progress_text(self) -> str:
        """Return the latest values of `headline` in one short line."""
        names = self.headline or tuple(self.latest)
        return " · ".join(f"{name} {self.latest[name]:.3g}" for name in names if name in self.latest)


class _Steps(Callback):
    """Counts the steps of a module, reports progress and writes the checkpoints."""

    def __init__(
        self,
        checkpoint: Path,
        steps: int,
        checkpoint_steps: int | None,
        checkpoint_seconds: float | None,
        progress: Callable[[int, int, str], None] | None,
        ending: Deferred,
        start: int,
    ) -> None:
        self.checkpoint = checkpoint
        self.steps = steps
        self.checkpoint_steps = checkpoint_steps
        self.checkpoint_seconds = checkpoint_seconds
        self.progress = progress
        self.ending = ending
        self.saved_at = time.monotonic()
        self.saved_step = start

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Recorded, checkpoint: dict[str, Any]) -> None:
        """Put the count of completed steps and their last metrics into the checkpoint."""
        checkpoint[_COMPLETED] = pl_module.completed
        checkpoint[_LATEST] = pl_module.latest

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Recorded, checkpoint: dict[str, Any]) -> None:
        """Take the count of completed steps and their last metrics from the checkpoint."""
        _restore(pl_module, checkpoint)

    def on_train_batch_start(self, trainer: Trainer, pl_module: Recorded, batch: Any, batch_idx: int) -> None:
        """Refuse to train on the batch of another step: Lightning's count and ours must agree."""
        if batch_idx != pl_module.completed:
            raise RuntimeError(
                f"Lightning is at batch {batch_idx} but the module has completed {pl_module.completed} steps; "
                "this version of Lightning resumes in another way than the ones known to work (2.6)"
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Recorded, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the step; save where a checkpoint is due."""
        pl_module.completed += 1
        if self._due(pl_module.completed, self.ending.received is not None):
            self._save(trainer)
        if self.ending.received is not None:
            # Lightning stops by itself only if SIGTERM came after it had set its own handler.
            trainer.should_stop = True
        if self.progress is not None:
            self.progress(pl_module.completed, self.steps, pl_module.progress_text())

    def on_exception(self, trainer: Trainer, pl_module: Recorded, exception: BaseException) -> None:
        """Save the last step where SIGTERM came after it was asked for, but before Lightning asks."""
        wanted = self.checkpoint_steps is not None or self.checkpoint_seconds is not None
        if isinstance(exception, SIGTERMException) and wanted and pl_module.completed > self.saved_step:
            self._save(trainer)

    def _due(self, completed: int, ending: bool) -> bool:
        if self.checkpoint_steps is None and self.checkpoint_seconds is None:
            return False
        if ending or completed == self.steps:
            return True
        if self.checkpoint_steps is not None and completed % self.checkpoint_steps == 0:
            return True
        return self.checkpoint_seconds is not None and time.monotonic() - self.saved_at >= self.checkpoint_seconds

    def _save(self, trainer: Trainer) -> None:
        for logger in trainer.loggers:
            logger.save()
        unfinished = self.checkpoint.with_name(f"{self.checkpoint.name}.{os.getpid()}.new")
        trainer.save_checkpoint(unfinished)
        _sync(unfinished)
        unfinished.replace(self.checkpoint)
        _sync(self.checkpoint.parent)
        self.saved_at = time.monotonic()
        self.saved_step = cast(Recorded, trainer.lightning_module).completed


def fit(
    module: Recorded,
    make_batch: Callable[[int], Any],
    steps: int,
    folder: Path,
    *,
    checkpoint_steps: int | None = None,
    checkpoint_seconds: float | None = None,
    loggers: Sequence[Logger] = (),
    progress: Callable[[int, int, str], None] | None = None,
    accelerator: str = "auto",
    precision: str = "32-true",
) -> None:
    """Train `module` for `steps` training steps on one device, continuing from `folder/last.ckpt` where there is one.

    The batch of step k is `make_batch(k)`, which must depend on nothing but k. A checkpoint is written after every
    `checkpoint_steps` steps, after the first step that ends more than `checkpoint_seconds` after the one before, after
    the last step and on SIGTERM or Ctrl-C; never, if both are None. A training that was killed and resumed ends with
    the same weights as one that was not, bit for bit on a CPU. `progress` is called after each step with the number of
    completed steps, `steps` and a text.

    Raises:
        Interrupted: if training ended before the last step without an error of its own (SIGTERM, a stopped trainer).
        KeyboardInterrupt: if the user pressed Ctrl-C.
        ValueError: if the checkpoint has made more steps than `steps`.

    A checkpoint that is damaged, or whose metrics are, is renamed (`last.ckpt.damaged-1`) and training starts over.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / CHECKPOINT
    _remove_unfinished(checkpoint)
    state = _resume(checkpoint, steps, loggers)
    start = 0 if state is None else int(state[_COMPLETED])
    if state is not None and start == steps:
        # Lightning has no way to resume a training that is over.
        module.on_load_checkpoint(state)
        module.load_state_dict(state["state_dict"])
        _restore(module, state)
        return
    resumed = None if state is None else str(checkpoint)
    # Lightning reads the file again; this copy would stay in memory for the whole training.
    del state
    with quiet(), _complete(module, steps), _loud(module), honest_interrupts(), signals_deferred() as ending:
        trainer = Trainer(
            accelerator=accelerator,
            devices=1,
            precision=precision,
            max_epochs=1,
            logger=list(loggers),
            callbacks=[_Steps(checkpoint, steps, checkpoint_steps, checkpoint_seconds, progress, ending, start)],
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=0,
            log_every_n_steps=1,
            use_distributed_sampler=False,
            # Under Slurm, Lightning would requeue the job by itself; whoever submitted it does that.
            plugins=[LightningEnvironment(), _InPlace()],
        )
        trainer.fit(
            module,
            train_dataloaders=Batches(steps, make_batch, start),
            ckpt_path=resumed,
            weights_only=True,
        )


def _resume(checkpoint: Path, steps: int, loggers: Sequence[Logger]) -> dict[str, Any] | None:
    """Return the checkpoint's state and bring the loggers back to its step; None: start from the beginning."""
    state = None
    try:
        state = _read(checkpoint)
        _rewind(loggers, 0 if state is None else int(state[_COMPLETED]))
    except (ValueError, KeyError) as error:
        place = _set_aside(checkpoint)
        LOG.warning("%s is damaged (%s): it is now %s, and training starts over", checkpoint, error, place)
        state = None
        _rewind(loggers, 0)
    if state is not None and int(state[_COMPLETED]) > steps:
        raise ValueError(
            f"{checkpoint} has completed {state[_COMPLETED]} steps, more than the {steps} that are asked for; "
            "it belongs to other settings: delete it to start over"
        )
    return state


def _read(checkpoint: Path) -> dict[str, Any] | None:
    """Return the state in a checkpoint, or None if there is none; raises ValueError if a byte of it has changed."""
    if not checkpoint.exists():
        return None
    try:
        # torch does not compare the check sums that it writes.
        with zipfile.ZipFile(checkpoint) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"wrong check sum of {damaged}")
        return torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except MemoryError:
        raise
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):
            raise  # It says nothing about the bytes: the stage is tried again, from this checkpoint.
        raise ValueError(f"not a readable checkpoint: {error}") from error
    except Exception as error:
        raise ValueError(f"not a readable checkpoint: {error}") from error


def _rewind(loggers: Sequence[Logger], start: int) -> None:
    for logger in loggers:
        if hasattr(logger, "rewind"):
            logger.rewind(start)


def _set_aside(checkpoint: Path) -> Path:
    """Rename a damaged checkpoint, for whoever looks before the training is over, and return where it is."""
    number = 1
    while (place := checkpoint.with_name(f"{checkpoint.name}.damaged-{number}")).exists():
        number += 1
    checkpoint.rename(place)
    return place


def _restore(module: Recorded, state: dict[str, Any]) -> None:
    module.completed = int(state[_COMPLETED])
    module.latest = dict(state[_LATEST])


def _remove_unfinished(checkpoint: Path) -> None:
    """Remove what a kill in the middle of a save has left; the stage's lock keeps others out of the folder."""
    for left_over in checkpoint.parent.glob(f"{checkpoint.name}.*.new"):
        left_over.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _complete(module: Recorded, steps: int) -> Iterator[None]:
    """Raise `Interrupted` where a training ends early without an error: Lightning ends with code 0 after SIGTERM."""
    try:
        yield
    except SystemExit as ending:
        raise Interrupted(_interruption(module, steps, f" ({type(ending).__name__})")) from ending
    if module.completed < steps:
        raise Interrupted(_interruption(module, steps, ""))


@contextmanager
def _loud(module: Recorded) -> Iterator[None]:
    """Turn a StopIteration that escapes from a step into an error: Lightning would take it for the end of the data."""
    step = module.training_step

    @wraps(step)
    def loud(*arguments: Any, **keywords: Any) -> Any:
        try:
            return step(*arguments, **keywords)
        except StopIteration as ending:
            raise RuntimeError(f"step {module.completed} ran into the end of an iterator") from ending

    module.training_step = loud
    try:
        yield
    finally:
        del module.training_step


def _interruption(module: Recorded, steps: int, reason: str) -> str:
    return (
        f"training was interrupted after {module.completed} of {steps} steps{reason}; "
        "run the same command again to continue from the last checkpoint"
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning's banners and its warnings about choices that are made here on purpose."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _EXPECTED_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        log.setLevel(level)


def bare_trainer(accelerator: str, precision: str, callback: Callback) -> Trainer:
    """Return a trainer for one device that writes and shows nothing, for `validate` and `predict`."""
    return Trainer(
        accelerator=accelerator,
        devices=1,
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[callback],
        plugins=[LightningEnvironment()],
    )
