"""The source that reads what ingestion wrote: real text, with given preferences and without a programmatic judge."""

import json
from pathlib import Path

import numpy as np

from salsa.data.conversation import Conversation, Pair, Prompt
from salsa.data.forms import question_key
from salsa.data.records import RecordFile, to_conversation, to_pair, to_prompt
from salsa.data.rows import DataError

PAIR_SPLITS = ("train", "judge", "heldout")
_CHUNK = 4096  # documents read at once


class FolderSource:
    """Canonical records of one folder as a `salsa.data.source.Source`."""

    chat = "plain"
    words: tuple[str, ...] | None = None

    def __init__(self, folder: Path) -> None:
        report = folder / "report.json"
        if not report.is_file():
            raise DataError(f"{folder} holds no ingested data: {report} is missing; run ingestion into this folder")
        self.folder = folder
        self.report = json.loads(report.read_text(encoding="utf-8"))
        self.suites: tuple[str, ...] = tuple(self.report["suites"])

    def corpus(self, rng: np.random.Generator, tokens: int) -> list[str]:
        """Return documents in random order, each at most once, until they hold `tokens` words or there are no more."""
        file = self._file("corpus")
        order = rng.permutation(len(file))
        documents: list[str] = []
        words = 0
        for start in range(0, len(order), _CHUNK):
            for record in file.read(order[start : start + _CHUNK]):
                if words >= tokens:
                    return documents
                documents.append(record["text"])
                words += len(record["text"].split())
        return documents

    def heldout_text(self, count: int) -> list[str]:
        """Return up to `count` documents that no stage trains on, always the same ones."""
        file = self._file("heldout_text")
        return [record["text"] for record in file.read(range(min(count, len(file))))]

    def demonstrations(self, rng: np.random.Generator, count: int) -> list[Conversation]:
        """Return `count` different demonstrations in random order, or all if there are fewer."""
        file = self._file("demonstrations")
        return [to_conversation(record) for record in file.read(rng.permutation(len(file))[:count])]

    def prompts(self, rng: np.random.Generator, count: int) -> list[Prompt]:
        """Return `count` training prompts; where there are fewer, all of them several times, in new orders."""
        file = self._file("prompts")
        orders = [rng.permutation(len(file)) for _ in range(-(-count // len(file)))]
        chosen = np.concatenate(orders)[:count] if orders else np.zeros(0, np.int64)
        return [to_prompt(record) for record in file.read(chosen)]

    def pairs(self, split: str) -> list[Pair] | None:
        """Return the preferences of "train", "judge" or "heldout"; None if the data hold demonstrations only."""
        if split not in PAIR_SPLITS:
            raise ValueError(f"there is no split {split!r} of pairs; there are {', '.join(PAIR_SPLITS)}")
        if not any(self.report["counts"][f"pairs_{name}"] for name in PAIR_SPLITS):
            return None
        file = self._file(f"pairs_{split}")
        return [to_pair(record) for record in file.read(range(len(file)))]

    def suite(self, name: str, count: int) -> list[Prompt]:
        """Return the first `count` prompts of a suite; fewer if it is smaller."""
        if name not in self.suites:
            raise ValueError(f"there is no suite {name!r} in {self.folder}; there are {', '.join(self.suites)}")
        file = RecordFile(self.folder / "suites" / f"{name}.jsonl")
        return [to_prompt(record) for record in file.read(range(min(count, len(file))))]

    def heldout_demonstrations(self, count: int) -> list[tuple[Conversation, str]]:
        """Return the first `count` finished conversations of the validation suite, of pairs the chosen ones."""
        file = self._file("heldout_demonstrations")
        conversations = [to_conversation(record) for record in file.read(range(min(count, len(file))))]
        return [(conversation, question_key(conversation)) for conversation in conversations]

    def recall_probes(self) -> list[tuple[str, str]]:
        """Return nothing: real text brings no list of its facts."""
        return []

    def gold(self, prompt: Prompt, replies: tuple[str, ...], ended: tuple[bool, ...]) -> float | None:
        """Return None: real text has no programmatic judge."""
        return None

    def _file(self, name: str) -> RecordFile:
        return RecordFile(self.folder / f"{name}.jsonl")

    def display(self, text: str) -> str:
        """Return the text: it is written for people already."""
        return text
