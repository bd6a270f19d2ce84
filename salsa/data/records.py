"""The canonical JSON lines in which ingested conversations, pairs, prompts and documents are kept."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from salsa.data.conversation import Conversation, Message, Pair, Prompt


def from_conversation(conversation: Conversation) -> dict[str, Any]:
    """Return a conversation as a JSON object."""
    return {"messages": [asdict(message) for message in conversation]}


def to_conversation(record: Mapping[str, Any]) -> Conversation:
    """Return the conversation of a record."""
    return tuple(Message(message["role"], message["content"]) for message in record["messages"])


def from_pair(pair: Pair) -> dict[str, Any]:
    """Return a pair as a JSON object."""
    return from_conversation(pair.conversation) | {
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "cluster": pair.cluster,
    }


def to_pair(record: Mapping[str, Any]) -> Pair:
    """Return the pair of a record."""
    return Pair(to_conversation(record), record["chosen"], record["rejected"], record["cluster"])


def from_prompt(prompt: Prompt) -> dict[str, Any]:
    """Return a prompt as a JSON object."""
    return asdict(prompt)


def to_prompt(record: Mapping[str, Any]) -> Prompt:
    """Return the prompt of a record."""
    context = tuple(Message(message["role"], message["content"]) for message in record["context"])
    return Prompt(
        id=record["id"],
        questions=tuple(record["questions"]),
        context=context,
        cluster=record["cluster"],
        category=record["category"],
        query=record["query"],
    )


class RecordWriter:
    """Writes records as lines of JSON, and counts them."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.count = 0
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record."""
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self.count += 1

    def __enter__(self) -> "RecordWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class RecordFile:
    """Reads chosen lines of a file of records without holding the others, so that large sets need little memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._starts: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._offsets()) - 1

    def read(self, indices: Sequence[int] | np.ndarray | range) -> list[dict[str, Any]]:
        """Return the records at these places, in the order asked for."""
        starts = self._offsets()
        records = []
        with self.path.open("rb") as file:
            for index in indices:
                file.seek(starts[index])
                records.append(json.loads(file.read(starts[index + 1] - starts[index])))
        return records

    def _offsets(self) -> np.ndarray:
        """Return where each line starts, in bytes, and where the file ends."""
        if self._starts is None:
            with self.path.open("rb") as file:
                lengths = np.fromiter((len(line) for line in file), np.int64)
            self._starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return self._starts
