"""What a stage is given to do its work, and how it is executed. Imports no torch."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.configuration import Config
from pipelines.plan import Stage
from pipelines.sources import open_source
from salsa import seeds
from salsa.store.artifact import Artifact

if TYPE_CHECKING:
    from pipelines.tracking import TrackedRun
    from salsa.data.source import Source

_RUN = uuid.uuid4().hex

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what it says) while a stage works."""


def tracker_of(config: Config) -> dict[str, Any]:
    """Return the settings of the experiment tracker as plain values."""
    logger = config.logger
    return {
        "name": logger.name.value,
        "mode": logger.mode.value,
        "project": logger.project,
        "entity": logger.entity,
    }


@dataclass(frozen=True)
class Execution:
    """How stages are executed; nothing here changes a result's identity."""

    outputs: str
    threads: int
    accelerator: str
    micro_batch_tokens: int
    checkpoint_steps: int | None
    checkpoint_seconds: float
    retries: int
    retry_failed: bool
    verify: bool
    tracker: Mapping[str, Any]
    group: str
    run: str
    """Names the command: a stage that failed in it is not tried again, one that failed in another command is."""

    @classmethod
    def from_config(cls, config: Config, group: str) -> "Execution":
        """Return the execution settings of a configuration."""
        compute = config.compute
        return cls(
            outputs=str(Path(config.outputs.dir).resolve()),
            threads=compute.threads,
            accelerator=compute.accelerator.value,
            micro_batch_tokens=compute.micro_batch_tokens,
            checkpoint_steps=compute.checkpoint_steps,
            checkpoint_seconds=compute.checkpoint_seconds,
            retries=compute.retries,
            retry_failed=compute.retry_failed,
            verify=compute.verify,
            tracker=tracker_of(config),
            group=group,
            run=_RUN,
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values, for another process."""
        return asdict(self)


@dataclass(frozen=True)
class Work:
    """One stage to run: its configuration, its inputs, where to write, and whom to tell how it goes."""

    stage: Stage
    inputs: Mapping[str, Artifact]
    folder: Path
    """The artifact's files are written here; published when the stage returns."""
    unfinished: Path
    """Checkpoints live here; what is in it survives a kill."""
    execution: Execution
    tracked: "TrackedRun"
    progress: Progress

    @property
    def config(self) -> Mapping[str, Any]:
        """The keys that the stage reads."""
        return self.stage.config

    @cached_property
    def source(self) -> "Source":
        """The source of data that the stage's configuration names."""
        return open_source(self.config["data"], self.inputs)

    @property
    def loggers(self) -> Sequence[Any]:
        """Lightning loggers of the tracker."""
        return self.tracked.loggers

    def seed(self, role: str, index: int = 0) -> int:
        """Return the integer seed of a role in this stage's replicate (0 where a stage belongs to no replicate)."""
        return seeds.integer(self.config["seed"], self.config.get("replicate", 0), role, index)

    def rng(self, role: str, index: int = 0) -> Any:
        """Return the NumPy generator of a role in this stage's replicate."""
        return seeds.generator(self.config["seed"], self.config.get("replicate", 0), role, index)
