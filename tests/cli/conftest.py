import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from salsa.cli import main
from salsa.store.artifact import Store
from tests.store.artifacts import numbered, place

MODEL = {"config.json": "{}", "model.safetensors": "w" * 1000, "tokenizer.json": "{}"}
Say = Callable[..., tuple[int, str, str]]
Ask = Callable[..., tuple[int, Any]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a store with a base, two models of it, and a report on one of them whose experiment is there."""
    store = Store(tmp_path / "outputs")
    now = time.time()
    family = {"architecture": {"family": "gemma"}}
    place(store, 0x100, {}, "base", MODEL, name="base", config=family, started=now - 40 * 86400)
    place(store, 0x200, {"base": 0x100}, "sft", MODEL | {"metrics.jsonl": "{}"}, name="sft_1", started=now - 3 * 86400)
    place(store, 0x201, {"base": 0x100}, "sft", MODEL | {"metrics.jsonl": "{}"}, name="sft_2", started=now - 3600)
    place(store, 0x300, {"model": 0x200}, "tax", name="tax SFT1", started=now - 60, config={"documents": 7})
    place(store, 0x400, {"0:tax": 0x300, "gone": 0x500}, "report", name="report", started=now - 10)
    (store.root / "experiments" / numbered(0x400)[:16]).mkdir(parents=True)
    return store


@pytest.fixture
def say(store: Store, capsys: pytest.CaptureFixture[str]) -> Say:
    """Return what runs `salsa store ...` on that store: its exit code, and what it wrote to the two streams."""

    def run(*words: str) -> tuple[int, str, str]:
        try:
            code = main(["store", *words, "--outputs", str(store.root)])
        except SystemExit as ending:
            code = int(str(ending.code))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def ask(say: Say) -> Ask:
    """Return what runs `salsa store ... --json`: its exit code and the value, which is all that it may print."""

    def run(*words: str) -> tuple[int, Any]:
        code, out, err = say(*words, "--json")
        assert err == ""
        return code, json.loads(out)

    return run
