"""Folders that look like published weights and sets to everything that does not load them: cheap, without torch."""

import json
from pathlib import Path

from pipelines.configuration import Config
from tests.data.files import ultra_chat, ultra_pair, write_parquet
from tests.pipelines.compose import config

PAPER = ("scale=paper", "data=ultra", "judge=reward_model", "suite=files")


def weights(folder: Path, model_type: str = "llama", longest: int = 4096) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, "max_position_embeddings": longest}))
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def sets(folder: Path) -> tuple[Path, Path]:
    """Write both sets with a row in each split that is read."""
    chat, feedback = folder / "chat", folder / "feedback"
    for split in ("train_sft", "test_sft"):
        write_parquet(chat / "data" / f"{split}-00000-of-00001.parquet", [ultra_chat(f"Why, {split}?")])
    for split in ("train_prefs", "test_prefs"):
        write_parquet(feedback / "data" / f"{split}-00000-of-00001.parquet", [ultra_pair(f"How, {split}?")])
    return chat, feedback


def at_paper_scale(model: Path | str, data: tuple[Path, Path], *overrides: str) -> Config:
    chat, feedback = data
    places = (f"model.name={model}", f"data.demonstrations_set={chat}", f"data.preferences_set={feedback}")
    return config(*PAPER, *places, *overrides)
