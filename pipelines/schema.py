"""Hydra's view of the schema: registered before composition, checked as a whole after it. Imports no torch."""

from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from pipelines.arm import Align, Rewards
from pipelines.benchmarks import Benchmark
from pipelines.choices import JudgeName, Origin, Reference, Role
from pipelines.configuration import Config, ConfigurationError, Suite, accept, check_all, require
from pipelines.judges import EndpointJudge, FunctionJudge, ScoreJudge
from pipelines.recipe import SCHEMAS, GreedySoup
from pipelines.rules import merged
from pipelines.sources import FilesData, UltraData, ZooData
from salsa.data.suites import OWN_SUITES, ULTRA_SUITES, name_problem


def register_resolvers() -> None:
    """Tell OmegaConf how values follow from others: `${divide:a,b}` is the whole part of a / b, and at least 1."""
    OmegaConf.register_new_resolver("divide", lambda a, b: max(1, int(a) // int(b)), replace=True)


def register() -> None:
    """Tell Hydra the types of every key."""
    register_resolvers()
    store = ConfigStore.instance()
    store.store(name="schema", node=_with_named_benchmarks())
    store.store(group="schema", name="align", node=_with_named_rules())
    store.store(group="schema", name="zoo", node=ZooData)
    store.store(group="schema", name="files", node=_with_open(FilesData, "prompts"))
    store.store(group="schema", name="ultra", node=_with_open(UltraData, "prompts"))
    store.store(group="schema", name="judge_scores", node=ScoreJudge)
    store.store(group="schema", name="judge_endpoint", node=_with_open(EndpointJudge, "body"))
    store.store(group="schema", name="judge_function", node=_with_open(FunctionJudge, "function"))
    for recipe, soup in SCHEMAS.items():
        store.store(group="schema", name=f"soup_{recipe}", node=soup)


def _with_open(schema: type, key: str) -> DictConfig:
    """Return a schema with one key that takes a mapping of any names, such as `data.prompts.<any name>=file`."""
    opened = OmegaConf.structured(schema)
    opened[key] = {}
    OmegaConf.set_struct(opened[key], False)
    assert isinstance(opened, DictConfig)
    return opened


def _with_named_benchmarks() -> DictConfig:
    """Return the schema of everything, in which `suite.benchmarks.<any name>.questions=file` is a known key."""
    schema = OmegaConf.structured(Config)
    schema.suite = OmegaConf.structured(Suite)
    OmegaConf.set_struct(schema.suite.benchmarks, False)
    assert isinstance(schema, DictConfig)
    return schema


def _with_named_rules() -> DictConfig:
    """Return the schema of an arm, in which `policy.rewards.rules.<any name>={...}` is a known key."""
    schema = OmegaConf.structured(Align)
    schema.rewards = OmegaConf.structured(Rewards)
    OmegaConf.set_struct(schema.rewards.rules, False)
    assert isinstance(schema, DictConfig)
    return schema


def parse(cfg: DictConfig) -> Config:
    """Return the configuration as dataclasses, with types, ranges and combinations checked.

    Raises `ConfigurationError`, which names the key, the value and the fix.
    """
    return checked(to_config(cfg))


def to_config(cfg: DictConfig) -> Config:
    """Return the configuration as dataclasses, with types checked; `checked` has to follow."""
    register_resolvers()
    try:
        config = OmegaConf.to_object(cfg)
    except OmegaConfBaseException as error:
        missing = ", ".join(sorted(_missing(OmegaConf.to_container(cfg))))
        if "ecursi" in str(error):
            raise ConfigurationError(
                f"{error.full_key} follows from itself: a value is given by ${{...}} in a circle "
                "(align@policy=like_policy does so: it is for the other arms; choose ppo, grpo, rloo, ...)"
            ) from error
        if not missing:
            raise
        raise ConfigurationError(f"no value for {missing}: give each as key=value") from error
    assert isinstance(config, Config)
    return config


def checked(config: Config) -> Config:
    """Return what `to_config` gave with what arms and benchmarks leave out, ranges and combinations checked."""
    _share_rules(config)
    _read_benchmarks(config)
    check_all(config)
    _check_combinations(config)
    return config


def _share_rules(config: Config) -> None:
    """Give the other arms the policy's rules; an interpolation in YAML would write what is set of theirs into it."""
    policys = merged({}, config.policy.rewards.rules)
    for arm in config.arms().values():
        arm.rewards.rules = policys if arm is config.policy else merged(policys, arm.rewards.rules)


def _read_benchmarks(config: Config) -> None:
    """Give every benchmark the keys that it leaves out."""
    for name, given in config.suite.benchmarks.items():
        at = f"suite.benchmarks.{name}"
        require(isinstance(given, dict), at, given, "give a mapping with its questions: {questions: questions.jsonl}")
        try:
            config.suite.benchmarks[name] = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Benchmark), given))
        except MissingMandatoryValue:
            raise ConfigurationError(f"no value for {at}.questions: name the file of its questions") from None
        except OmegaConfBaseException as error:
            raise ConfigurationError(f"{at}.{error.full_key}: {str(error).splitlines()[0]}") from error


def _missing(node: Any, at: str = "") -> list[str]:
    """Return the keys that have no value; OmegaConf's own search stops at the first interpolation to one of them."""
    if isinstance(node, dict):
        return [key for name, value in node.items() for key in _missing(value, f"{at}.{name}" if at else str(name))]
    return [at] if node == "???" else []


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
    if config.scale.source is Origin.hub and zoo:
        raise ConfigurationError(
            "data=zoo: published weights need real text; use data=ultra (hub sets) or data=files (your own) with scale="
            + config.scale.name
        )
    _check_lengths(config)
    _check_lora(config)
    if config.scale.source is Origin.build:
        _check_build(config)
    check_suites(config)
    _check_benchmarks(config)


def _check_lengths(config: Config) -> None:
    """Check that prompts, replies and rows of text fit into what the model reads."""
    context = config.base.context
    if config.generation.max_new_tokens >= context:
        raise ConfigurationError(
            f"generation.max_new_tokens={config.generation.max_new_tokens}: must be below base.context="
            f"{context}, which holds prompt and reply"
        )
    if config.sft.replay:
        require(
            config.sft.replay_tokens <= context,
            "sft.replay_tokens",
            config.sft.replay_tokens,
            f"must be at most base.context={context}",
        )


def _check_lora(config: Config) -> None:
    """Check that no reference is an average of adapters: the average of factors is not that of the models."""
    if config.lora.rank == 0:
        return
    require(
        "base" not in config.landscape.models,
        "landscape.models",
        config.landscape.models,
        f"with lora.rank={config.lora.rank} models are adapters, and the base is none; name other models",
    )
    require(
        not getattr(config.soup, "any_sum", False),
        "soup.any_sum",
        True,
        f"with lora.rank={config.lora.rank} a soup is one adapter over the whole base, so its weights sum to 1; use "
        "soup=task_arithmetic to scale what the adapters change",
    )
    rates = {Reference.ema: "ema_rate", Reference.sync: "sync_rate"}
    for at, arm in config.arms().items():
        key = rates.get(arm.reference)
        if key is None:
            continue
        require(
            getattr(arm, key) == 1,
            f"{at}.{key}",
            getattr(arm, key),
            f"reference={arm.reference.value} averages models, which the average of the adapters' factors (lora.rank="
            f"{config.lora.rank}) is not; use 1 (the policy itself, every so often), another reference, or lora.rank=0",
        )


def _check_build(config: Config) -> None:
    """Check what only a base that is pre-trained here needs."""
    accept("model.tiny", lambda: config.model.tiny.architecture(config.model.family, config.base.context))
    require(config.base.steps >= 1, "base.steps", config.base.steps, "must be at least 1 where a base is built")
    require(
        config.base.optimiser is not None, "base.optimiser", "null", "a base that is built needs one; see scale=tiny"
    )


def check_suites(config: Config) -> None:
    """Check that every suite exists before anything is trained: the name of one is only read when models answer it."""
    data = config.data
    if isinstance(data, ZooData):
        known = ("single", "two_turn", "hard", "unseen", "validation")
        fix = "choose among these"
    else:
        made = (*OWN_SUITES, *(ULTRA_SUITES if isinstance(data, UltraData) else ()))
        for name in data.prompts:
            problem = f"the data bring {', '.join(made)}" if name in made else name_problem(name)
            if problem:
                raise ConfigurationError(
                    f"data.prompts.{name}: a suite cannot be called {name!r}: {problem}; choose another name"
                )
        known = (*made, *data.prompts)
        fix = (
            "choose among these (suite=files takes heldout), or give its file: data.prompts.{name}=questions.jsonl "
            "(kept out of the training data) or suite.benchmarks.{name}.questions=questions.jsonl"
        )
    asked = dict.fromkeys(config.suite.names, "suite.names")
    if config.landscape.models:
        asked.setdefault(config.landscape.suite, "landscape.suite")
    for name, key in asked.items():
        chosen = isinstance(config.soup, GreedySoup) and name == "validation"
        require(not chosen, key, name, "soup=greedy chooses by this suite's questions; report on another one")
        if name in known:
            clash = f"suite.benchmarks.{name}"
            require(
                name not in config.suite.published, clash, name, "the data have a suite of this name; choose another"
            )
        elif name not in config.suite.published or key != "suite.names":
            there_are = f"the data have {', '.join(known)}"
            raise ConfigurationError(f"{key}: no suite {name!r}; {there_are}; {fix.format(name=name)}")


def _check_benchmarks(config: Config) -> None:
    """Check what is asked of published benchmarks and of judges that read."""
    reads = not isinstance(config.judge, ScoreJudge)
    require(
        not (reads and config.landscape.models),
        "landscape.models",
        config.landscape.models,
        f"judge={config.judge.name.value} compares replies and scores none; draw landscapes with a judge that does: "
        f"judge={JudgeName.gold.value if isinstance(config.data, ZooData) else JudgeName.reward_model.value}",
    )
    require(
        not reads or config.controls != {} or list(config.judge.rows) != [Role.control],
        "judge.rows",
        [Role.control.value],
        "there are no controls, so that nothing would be judged; name other rows, or add a control (controls.NAME)",
    )
    for name in config.suite.names:
        benchmark = config.suite.published.get(name)
        if benchmark is None:
            continue
        require(
            not isinstance(config.data, ZooData),
            "suite.names",
            name,
            "the embedded world's models read only its own words; use data=files or data=ultra",
        )
        longest, context = benchmark.max_new_tokens, config.base.context
        require(
            longest is None or longest < context,
            f"suite.benchmarks.{name}.max_new_tokens",
            longest,
            f"must be below base.context={context}, which holds prompt and reply",
        )
