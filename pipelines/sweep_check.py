"""Checks every job of a multirun before the first one starts. Imports no torch.

Before it starts them, Hydra composes the jobs, which finds wrong types and unknown keys; a value that is out of range
would only be found by its own job, after hours of the jobs before it.
"""

import sys
from collections.abc import Sequence
from itertools import chain
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from pipelines.configuration import ConfigurationError
from pipelines.schema import parse


class CheckJobs(Callback):
    """Hydra callback that ends a multirun, before any of its jobs, where one of them cannot run."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Exit with the overrides of each job that cannot run and the reason."""
        sweeper = config.hydra.sweeper
        if not sweeper["_target_"].endswith(f".{BasicSweeper.__name__}"):
            return  # Another sweeper chooses its jobs while it goes; each is checked when it starts.
        loader = GlobalHydra.instance().config_loader()
        arguments = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
        jobs = _jobs(loader, [*arguments, *config.hydra.overrides.task])
        wrong = [f"error {' '.join(job)}: {reason}" for job in jobs if (reason := _problem(loader, config, job))]
        if wrong:
            sys.exit("\n".join([*wrong, f"{len(wrong)} of {len(jobs)} jobs cannot run; none was started"]))


def _jobs(loader: ConfigLoader, arguments: list[str]) -> list[list[str]]:
    """Return the overrides of each job, as Hydra's sweeper will make them of these arguments."""
    try:
        overrides = OverridesParser.create(config_loader=loader).parse_overrides(arguments)
        return list(chain.from_iterable(BasicSweeper.split_arguments(overrides, None)))
    except HydraException:
        return []  # Hydra's sweeper fails in the same way, and says so.


def _problem(loader: ConfigLoader, config: DictConfig, job: Sequence[str]) -> str:
    """Return why a job cannot run, "" if it can."""
    try:
        cfg = loader.load_sweep_config(config, list(job))
    except (HydraException, OmegaConfBaseException):
        return ""  # Hydra composes the jobs too before it starts them, and says what is wrong.
    with read_write(cfg), open_dict(cfg):
        del cfg["hydra"]
    try:
        parse(cfg)
    except ConfigurationError as error:
        return str(error)
    return ""
