"""Work for one stage by itself: its planned configuration, and inputs that a test makes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.plan import Stage
from pipelines.tracking import TrackedRun
from pipelines.work import Work
from salsa.data.chat import set_chat_template, word_tokenizer
from salsa.data.zoo.language import WORDS
from salsa.models.families import build, save
from salsa.models.heads import reward_from_causal
from salsa.store.artifact import Artifact
from tests.models.tiny import ARCHITECTURES
from tests.pipelines.compose import experiment
from tests.pipelines.executions import execution


def planned(name: str, *overrides: str) -> Stage:
    """Return a stage of the default experiment by its name."""
    return next(stage for stage in experiment(*overrides).plan if stage.name == name)


def work(stage: Stage, inputs: Mapping[str, Path], folder: Path) -> Work:
    artifacts = {role: Artifact("fake", "0" * 64, path) for role, path in inputs.items()}
    out = folder / "out"
    out.mkdir(parents=True, exist_ok=True)
    return Work(
        stage,
        artifacts,
        out,
        folder / "unfinished",
        execution(folder, micro_batch_tokens=2048, checkpoint_seconds=1e9),
        TrackedRun(),
        lambda *_: None,
    )


def zoo_tokenizer() -> Any:
    tokenizer = word_tokenizer(WORDS)
    set_chat_template(tokenizer, "zoo")
    return tokenizer


def language_model(folder: Path, seed: int) -> Path:
    tokenizer = zoo_tokenizer()
    save(build(ARCHITECTURES["llama2"], tokenizer, seed), tokenizer, folder)
    return folder


def reward_model(folder: Path, seed: int) -> Path:
    tokenizer = zoo_tokenizer()
    save(reward_from_causal(build(ARCHITECTURES["llama2"], tokenizer, seed), seed), tokenizer, folder)
    (folder / "reward.json").write_text('{"mean": 0.0, "std": 1.0}')
    return folder
