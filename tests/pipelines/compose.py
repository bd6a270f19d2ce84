"""Composes configurations as the command line does."""

from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pipelines.configuration import Config
from pipelines.experiment import Experiment, build
from pipelines.schema import parse, register

CONF = Path(__file__).resolve().parents[2] / "conf"


def composed(*overrides: str) -> Any:
    register()
    OmegaConf.register_new_resolver("launch_id", lambda: "test", replace=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def config(*overrides: str) -> Config:
    return parse(composed(*overrides))


def experiment(*overrides: str) -> Experiment:
    return build(config(*overrides), {})
