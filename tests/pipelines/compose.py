"""Composes configurations as the command line does."""

from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from pipelines.configuration import Config
from pipelines.experiment import Experiment, build
from pipelines.jobs import Composer
from pipelines.schema import register

CONF = Path(__file__).resolve().parents[2] / "conf"


def composed(*overrides: str) -> Any:
    register()
    OmegaConf.register_new_resolver("launch_id", lambda: "test", replace=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def config(*overrides: str) -> Config:
    """Return the checked configuration; as the jobs of one command, which `test_jobs` compares with Hydra's own."""
    return _composer().compose(overrides)


@cache
def _composer() -> Composer:
    register()
    OmegaConf.register_new_resolver("launch_id", lambda: "test", replace=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        master = compose("config", return_hydra_config=True)
        return Composer(GlobalHydra.instance().config_loader(), master)


def experiment(*overrides: str) -> Experiment:
    return build(config(*overrides), {})
