"""What must be at hand before anything starts: weights, data, a GPU. Answers within a second; imports no torch."""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

from pipelines.configuration import Accelerator, Config, ConfigurationError, Origin
from pipelines.identity import file_problem
from pipelines.judges import EndpointJudge, FunctionJudge, at_hand, function_problem, key_problem
from pipelines.sources import UltraData
from pipelines.tracking import logged_in, mode_of
from salsa.hub import is_local

CPU_BYTES = 2 * 10**9
"""Published weights above this size are not trained on a CPU unless that is asked for."""
DEVICES = Path("/dev")


class MissingError(RuntimeError):
    """Something the experiment needs is not there; the message says what it is and what to do."""


def check(config: Config) -> None:
    """Raise `MissingError`, with everything that is missing at once, or return."""
    found = problems(config)
    if found:
        raise MissingError("\n".join(found))


def problems(config: Config) -> list[str]:
    """Return what is missing, and what to do about each."""
    checks: list[Callable[[Config], list[str]]] = [_tracker]
    if config.compute.accelerator is Accelerator.gpu:
        checks.append(_gpu)
    if config.scale.source is Origin.hub:
        checks.append(_weights)
    if config.reward.name is not None:
        checks.append(_reward_model)
    if any(arm.rewards.rules for arm in config.arms().values()):
        checks.append(_rules)
    if isinstance(config.judge, EndpointJudge | FunctionJudge):
        checks.append(_judge)
    if any(name in config.suite.published for name in config.suite.names):
        checks.append(_benchmarks)
    if isinstance(config.data, UltraData):
        checks += [_demonstrations, _preferences]
    # Side by side, because each may wait half a second for a hub that does not answer.
    with ThreadPoolExecutor(len(checks)) as pool:
        return [problem for found in pool.map(lambda check: check(config), checks) for problem in found]


def _tracker(config: Config) -> list[str]:
    try:
        mode = mode_of({"name": config.logger.name.value, "mode": config.logger.mode.value})
    except ConfigurationError as error:
        return [str(error)]
    if mode == "online" and not logged_in():
        return [
            "logger.mode=online: not logged in to W&B; run `wandb login`, or use logger.mode=offline or logger=none"
        ]
    return []


def gpu_problem() -> str:
    """Return why no GPU can be used, "" if one can: by the devices there are and the way torch was built."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides every GPU"
    there = any(any(DEVICES.glob(pattern)) for pattern in ("nvidia[0-9]*", "kfd", "dxg"))
    if not there and shutil.which("nvidia-smi") is None:
        return "this machine has none"
    if metadata.version("torch").endswith("+cpu"):
        return "the installed torch is a build for CPUs only: install one with CUDA (https://pytorch.org/get-started)"
    return ""


def _gpu(config: Config) -> list[str]:
    problem = gpu_problem()
    return [f"compute.accelerator=gpu: {problem}; or use compute.accelerator=cpu"] if problem else []


def _weights(config: Config) -> list[str]:
    from salsa.models.source import UnavailableModelError, check, check_configuration, weight_bytes

    model = config.model
    found = []
    large = not is_local(model.name)
    try:
        folder = check(model.name, model.revision)
        if folder is not None:
            check_configuration(folder, model.family.value, config.base.context)
            large = weight_bytes(folder) > CPU_BYTES
    except UnavailableModelError as error:
        found.append(f"model.name: {error}")
    if large and config.compute.accelerator is Accelerator.auto and (problem := gpu_problem()):
        found.append(
            f"scale={config.scale.name}: {model.name} needs a GPU, and {problem}; use scale=tiny, "
            "or compute.accelerator=cpu if you mean it"
        )
    return found


def _reward_model(config: Config) -> list[str]:
    """Check a published reward model; what its tokenizer needs is known when the policy's is there."""
    from salsa.models.source import UnavailableModelError, check, read_configuration

    assert config.reward.name is not None
    try:
        folder = check(config.reward.name, config.reward.revision)
        found = {} if folder is None else read_configuration(folder)
    except UnavailableModelError as error:
        return [f"reward.name: {error}"]
    if not found:
        return []
    kinds = found.get("architectures") or ["an unnamed model"]
    # Transformers leaves out the names of labels where there are two.
    labels = len(found.get("id2label") or (0, 1))
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        return [f"reward.name: {folder} holds {', '.join(kinds)}, not a sequence classifier with one label"]
    if labels != 1:
        return [f"reward.name: {folder} holds a classifier of {labels} classes; a reward model has one label"]
    return []


def _rules(config: Config) -> list[str]:
    """Import the rules of the reward: better now than after the models they are to train have been trained."""
    from pipelines.rules import active, problem

    rules = [
        rule
        for at, arm in config.arms().items()
        for rule in active(at, arm.rewards.rules, config.policy.rewards.rules).values()
    ]
    alike = {repr((rule.target, rule.arguments)): rule for rule in reversed(rules)}
    return [says for rule in alike.values() if (says := problem(rule))]


def _judge(config: Config) -> list[str]:
    """Check the key of an endpoint, or import a function, and look for prompts: better now than after the training."""
    from pipelines import protocol

    judge = config.judge
    problem = key_problem(judge) if isinstance(judge, EndpointJudge) else function_problem(judge)
    found = [problem] if problem else []
    for name in config.suite.names:
        if name not in config.suite.published:
            turns = (1, 2) if name == "two_turn" else (1,)
            found += protocol.prompt_problems(protocol.of(config, name, None), [(turn, False) for turn in turns])
    return list(dict.fromkeys(found))


def _benchmarks(config: Config) -> list[str]:
    """Check that the files of the benchmarks can be had, and that those at hand go together."""
    found: list[str] = []
    for name in config.suite.names:
        benchmark = config.suite.published.get(name)
        if benchmark is None:
            continue
        at = f"suite.benchmarks.{name}"
        files = {f"{at}.questions": benchmark.questions, f"{at}.references": benchmark.references}
        if isinstance(config.judge, EndpointJudge | FunctionJudge):
            files |= {f"{at}.baselines.{category}": path for category, path in benchmark.baselines.items()}
        missing = [problem for key, path in files.items() if path and (problem := file_problem(key, path))]
        found += missing or _protocol(config, name)
    return found


def _protocol(config: Config, name: str) -> list[str]:
    """Check what is asked of the questions of a benchmark; the hub's are read by the stage that fetches them."""
    from pipelines import protocol
    from salsa.data.rows import DataError

    benchmark = config.suite.published[name]
    asked = protocol.of(config, name, benchmark)
    questions = at_hand(benchmark.questions)
    if questions is None:
        return protocol.prompt_problems(asked, []) if asked.kinds else []
    try:
        return protocol.problems(asked, questions, at_hand)
    except DataError as error:
        return [f"{asked.at}.questions: {error}"]


def _demonstrations(config: Config) -> list[str]:
    return _set(config, "demonstrations")


def _preferences(config: Config) -> list[str]:
    return _set(config, "preferences")


def _set(config: Config, role: str) -> list[str]:
    """Check one of the two sets; its suite of prompts is another split of it."""
    from salsa.data.rows import DataError
    from salsa.data.sets import check_sets, ultra_splits

    name, revision = getattr(config.data, f"{role}_set"), getattr(config.data, f"{role}_revision")
    try:
        check_sets(ultra_splits(role, name, revision))
    except DataError as error:
        return [f"data.{role}_set: {error}"]
    return []
