"""Weights & Biases: one run a computed stage and one for the experiment (its report), grouped; always finished."""

import netrc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from pipelines.plan import Stage

DEFAULT_SERVER = "https://api.wandb.ai"


def logged_in() -> bool:
    """Return whether there is a key for the W&B server, in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", DEFAULT_SERVER)).hostname or ""
    try:
        return netrc.netrc().authenticators(host) is not None
    except (FileNotFoundError, netrc.NetrcParseError):
        return False


def mode_of(tracker: Mapping[str, Any]) -> str:
    """Return "online", "offline" or "disabled": the environment's word first, then the setting."""
    if tracker["name"] == "none":
        return "disabled"
    mode = os.environ.get("WANDB_MODE") or tracker["mode"]
    if mode == "auto":
        return "online" if logged_in() else "offline"
    return str(mode)


class TrackedRun:
    """What a stage may send to its run; without a tracker nothing is sent."""

    def __init__(self, logger: Any = None) -> None:
        self._logger = logger
        self.loggers: Sequence[Any] = [logger] if logger is not None else []

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set the final figures of the run."""
        if self._logger is not None:
            self._logger.experiment.summary.update(dict(values))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Send a table."""
        if self._logger is not None:
            import wandb

            self._logger.experiment.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def images(self, paths: Sequence[Path]) -> None:
        """Send pictures, named by their files."""
        if self._logger is not None:
            import wandb

            self._logger.experiment.log({path.stem: wandb.Image(str(path)) for path in paths})

    def line(self, name: str, rows: Sequence[Mapping[str, float]]) -> None:
        """Send a curve as rows with a `step` of their own."""
        if self._logger is not None:
            for row in rows:
                self._logger.experiment.log({f"{name}/{key}": value for key, value in row.items()})


@contextmanager
def track(stage: Stage, tracker: Mapping[str, Any], group: str, outputs: Path) -> Iterator[TrackedRun]:
    """Open the run of one stage and finish it whatever happens, so that no run bleeds into the next."""
    mode = mode_of(tracker)
    if mode == "disabled":
        yield TrackedRun()
        return
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    folder = outputs / "wandb"
    folder.mkdir(parents=True, exist_ok=True)
    logger = WandbLogger(
        mode=mode,
        project=tracker["project"],
        entity=tracker["entity"],
        save_dir=str(outputs),
        id=stage.fingerprint[:32],
        resume="allow" if mode == "online" else None,
        name=stage.name,
        group=group[:32],
        job_type=stage.kind,
        config={"stage": stage.kind, "fingerprint": stage.fingerprint}
        | dict(stage.config)
        | {"inputs": dict(stage.inputs)}
        | ({"settings": stage.execution["settings"]} if "settings" in stage.execution else {}),
        settings=wandb.Settings(console="off", silent=True, x_disable_stats=True, disable_git=True, init_timeout=30),
    )
    failed = True
    try:
        yield TrackedRun(logger)
        failed = False
    finally:
        wandb.finish(exit_code=1 if failed else 0)
