"""Writes small data files for tests, and finds the real ones where there are any."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

REPOSITORY = Path(__file__).resolve().parents[2]


def write_lines(path: Path, rows: list[Any], compress: bool = False) -> Path:
    """Write rows as JSON lines; a row of type bytes is written as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)
    path.write_bytes(gzip.compress(data) if compress else data)
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def messages(*texts: str) -> list[dict[str, str]]:
    """Turns of user and assistant by turns, the user first."""
    return [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]


def hh_row(question: str, chosen: str = "Yes, of course.", rejected: str = "No.") -> dict[str, str]:
    start = f"\n\nHuman: {question}\n\nAssistant:"
    return {"chosen": f"{start} {chosen}", "rejected": f"{start} {rejected}"}


def ultra_pair(question: str) -> dict[str, Any]:
    """A row with the columns of HuggingFaceH4/ultrafeedback_binarized."""
    return {
        "prompt": question,
        "prompt_id": f"id of {question}",
        "chosen": messages(question, "A good answer."),
        "rejected": messages(question, "A bad answer."),
        "messages": messages(question, "A good answer."),
        "score_chosen": 8.0,
        "score_rejected": 4.0,
    }


def ultra_chat(question: str) -> dict[str, Any]:
    """A row with the columns of HuggingFaceH4/ultrachat_200k."""
    return {
        "prompt": question,
        "prompt_id": f"id of {question}",
        "messages": messages(question, "An answer.", "And then?", "Another answer."),
    }


def real_data(name: str) -> Path:
    """Return a real data file; skips the test where it is absent. SALSA_DATA names the folder."""
    folder = Path(os.environ.get("SALSA_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / name).is_file():
        pytest.skip(f"{folder / name} is not here; set SALSA_DATA to a folder that has {name}")
    return folder / name
