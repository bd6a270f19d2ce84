"""Hydra's view of the schema: registered before composition, checked as a whole after it. Imports no torch."""

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from pipelines.configuration import Config, ConfigurationError, JudgeName, check_all
from pipelines.sources import FilesData, UltraData, ZooData


def register() -> None:
    """Tell Hydra the types of every key."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    store.store(group="schema", name="zoo", node=ZooData)
    store.store(group="schema", name="files", node=FilesData)
    store.store(group="schema", name="ultra", node=UltraData)


def parse(cfg: DictConfig) -> Config:
    """Return the configuration as dataclasses, with types, ranges and combinations checked.

    Raises `ConfigurationError`, which names the key, the value and the fix.
    """
    missing = OmegaConf.missing_keys(cfg)
    if missing:
        raise ConfigurationError(f"no value for {', '.join(sorted(missing))}: give each as key=value")
    try:
        config = OmegaConf.to_object(cfg)
    except MissingMandatoryValue as error:
        raise ConfigurationError(str(error)) from error
    assert isinstance(config, Config)
    check_all(config)
    _check_combinations(config)
    return config


def _check_combinations(config: Config) -> None:
    zoo = isinstance(config.data, ZooData)
    if config.judge.name is JudgeName.gold and not zoo:
        raise ConfigurationError(
            "judge=gold: only the embedded world (data=zoo) has a programmatic judge; use judge=reward_model"
        )
    if config.judge.name is JudgeName.reward_model and zoo:
        raise ConfigurationError(
            "judge=reward_model: the embedded world samples its pairs and has a programmatic judge; use judge=gold"
        )
    if config.scale.source.value == "hub" and zoo:
        raise ConfigurationError(
            "data=zoo: published weights need real text; use data=ultra (hub sets) or data=files (your own) with scale="
            + config.scale.name
        )
    if config.generation.max_new_tokens >= config.base.context:
        raise ConfigurationError(
            f"generation.max_new_tokens={config.generation.max_new_tokens}: must be below base.context="
            f"{config.base.context}, which holds prompt and reply"
        )
    known = ("single", "two_turn", "hard", "unseen", "validation")
    if zoo:
        for name in config.suite.names:
            if name not in known:
                raise ConfigurationError(f"suite.names: no suite {name!r} in the embedded world; it has {', '.join(known)}")
