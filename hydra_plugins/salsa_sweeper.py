"""Hydra's way to a sweeper of our own: it has to live in the namespace package `hydra_plugins`."""

import sys
from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class ExperimentSweeper(BasicSweeper):
    """The basic sweeper, which also sees all jobs at once: it plans them before the first and collects them at the end.

    A job that fails does not end the sweep, whatever the launcher makes of it.
    """

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives; end with a sentence where the launcher's package is not installed."""
        from pipelines.launchers import missing_extra

        if missing := missing_extra(config.hydra.launcher._target_):
            sys.exit(f"error {missing}")
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs that the command line's overrides stand for; exits non-zero if one of them has no result."""
        from pipelines.sweep import run

        assert self.hydra_context is not None
        assert self.config is not None
        assert self.launcher is not None
        loader = self.hydra_context.config_loader
        overrides = OverridesParser.create(config_loader=loader).parse_overrides([*self._parse_config(), *arguments])
        batches: Sequence[Sequence[Sequence[str]]] = self.split_arguments(overrides, self.max_batch_size)
        return run(batches, self.config, loader, self.launcher)
