"""Reads local files or hub sets once into canonical records, with splits that share no question."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from salsa.data import forms
from salsa.data.conversation import Conversation, Message, Prompt
from salsa.data.records import RecordWriter, from_conversation, from_pair, from_prompt
from salsa.data.rows import DataError, FileTable, Table
from salsa.data.suites import OWN_SUITES, name_problem
from salsa.data.tally import Form, Progress, Reader

DEMONSTRATIONS = Form("demonstrations", forms.demonstration, forms.DEMONSTRATION_COLUMNS, forms.DEMONSTRATION_FORMS)
PREFERENCES = Form("preferences", forms.preference, forms.PREFERENCE_COLUMNS, forms.PREFERENCE_FORMS)
PROMPTS = Form("prompts", forms.prompt, forms.PROMPT_COLUMNS, forms.PROMPT_FORMS)
DOCUMENTS = Form("a corpus", forms.document, forms.DOCUMENT_COLUMNS, forms.DOCUMENT_FORMS)

PAIR_SPLITS = ("train", "judge", "heldout")


@dataclass(frozen=True)
class IngestSettings:
    """Shares of the questions for each split (what remains is held out), and the accepted share of malformed rows."""

    split_train: float = 0.45
    split_judge: float = 0.40
    split_validation: float = 0.05
    max_malformed: float = 0.05

    def __post_init__(self) -> None:
        for key in ("split_train", "split_judge", "split_validation"):
            if not 0 < getattr(self, key) < 1:
                raise ValueError(f"{key}={getattr(self, key)} must be above 0 and below 1")
        if not 0 <= self.max_malformed <= 1:
            raise ValueError(f"max_malformed={self.max_malformed} must be between 0 and 1")
        total = self.split_train + self.split_judge + self.split_validation
        if not total < 1:
            raise ValueError(f"split_train, split_judge and split_validation sum to {total}; nothing would be held out")

    def split(self, key: str) -> str:
        """Return the split of a question: a function of its hash, whatever file it is in and at which place."""
        place = int(key[:13], 16) / 16**13
        for name, share in (
            ("train", self.split_train),
            ("judge", self.split_judge),
            ("validation", self.split_validation),
        ):
            if place < share:
                return name
            place -= share
        return "heldout"


@dataclass(frozen=True)
class FileSet:
    """Local files by what they hold; prompt files by the name of the suite that they become."""

    demonstrations: tuple[Path, ...] = ()
    preferences: tuple[Path, ...] = ()
    prompts: Mapping[str, Path] = field(default_factory=dict)
    corpus: tuple[Path, ...] = ()

    def named(self) -> Iterator[tuple[str, Path]]:
        """Yield every file with its key, such as "data.preferences[0]" or "data.prompts.mt_bench"."""
        for role in ("demonstrations", "preferences", "corpus"):
            for index, path in enumerate(getattr(self, role)):
                yield f"data.{role}[{index}]", path
        for name, path in self.prompts.items():
            yield f"data.prompts.{name}", path

    def check(self) -> None:
        """Raise DataError, naming key and file, if a file is missing or empty; quick, for use before any work."""
        for key, path in self.named():
            with _named(key):
                FileTable(path).check()


@dataclass(frozen=True)
class TableSet:
    """Tables by what they hold: the common ground of local files and hub sets."""

    demonstrations: tuple[Table, ...] = ()
    preferences: tuple[Table, ...] = ()
    prompts: Mapping[str, Table] = field(default_factory=dict)
    corpus: tuple[Table, ...] = ()


def ingest(files: FileSet, out: Path, settings: IngestSettings, progress: Progress | None = None) -> dict[str, Any]:
    """Read local files into canonical records in the folder `out`; return what `report.json` holds.

    Raises DataError for files that are missing, empty, of the wrong columns or too malformed.
    """
    files.check()
    tables = TableSet(
        demonstrations=tuple(map(FileTable, files.demonstrations)),
        preferences=tuple(map(FileTable, files.preferences)),
        prompts={name: FileTable(path) for name, path in files.prompts.items()},
        corpus=tuple(map(FileTable, files.corpus)),
    )
    return ingest_tables(tables, out, settings, progress)


def ingest_tables(
    tables: TableSet, out: Path, settings: IngestSettings, progress: Progress | None = None
) -> dict[str, Any]:
    """Read tables into canonical records in the folder `out`; return what `report.json` holds.

    Where there are pairs, they are split by question, and demonstrations whose question is held out are left out;
    where there are only demonstrations, they are split. Given suites come first: what they ask is never trained on.
    Large sets are streamed: only keys and held-out prompts are kept in memory.
    """
    if not tables.demonstrations and not tables.preferences:
        raise DataError("there are neither demonstrations nor preferences: name at least one file of either")
    for name in tables.prompts:
        problem = name_problem(name)
        if problem:
            raise DataError(f"data.prompts.{name}: a suite cannot be called {name!r}: {problem}; choose another name")
    count = sum(map(len, (tables.demonstrations, tables.preferences, tables.prompts, tables.corpus)))
    reader = Reader(settings.max_malformed, count, progress)
    with ExitStack() as stack:
        ingestion = _Ingestion(tables, settings, reader, lambda name: stack.enter_context(RecordWriter(out / name)))
        for name, table in tables.prompts.items():
            with _named(f"data.prompts.{name}", table):
                ingestion.suite(name, table)
        for role, take in (
            ("preferences", ingestion.preferences),
            ("demonstrations", ingestion.demonstrations),
            ("corpus", ingestion.corpus),
        ):
            for index, table in enumerate(getattr(tables, role)):
                with _named(f"data.{role}[{index}]", table):
                    take(table)
        report = ingestion.finish()
    (out / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return report


@contextmanager
def _named(key: str, table: Table | None = None) -> Iterator[None]:
    """Put the key that names a file in front of what is wrong with it; a hub set is known by its own name."""
    try:
        yield
    except DataError as error:
        if table is not None and not isinstance(table, FileTable):
            raise
        raise DataError(f"{key}: {error}") from error


class _Ingestion:
    """Decides for every record which files it goes to."""

    def __init__(
        self, tables: TableSet, settings: IngestSettings, reader: Reader, open_writer: Callable[[str], RecordWriter]
    ) -> None:
        self.settings = settings
        self.reader = reader
        self.only_preferences = not tables.demonstrations
        self.only_demonstrations = not tables.preferences
        self.own_corpus = not tables.corpus
        self.open_writer = open_writer
        names = ["corpus", "heldout_text", "demonstrations", "heldout_demonstrations", "prompts"]
        names += [f"pairs_{split}" for split in PAIR_SPLITS]
        self.writers = {name: open_writer(f"{name}.jsonl") for name in names}
        self.suite_counts: dict[str, int] = {}
        self.suite_keys: dict[str, str] = {}  # question -> the given suite that asks it
        self.reserved: dict[str, dict[str, Prompt]] = {name: {} for name in OWN_SUITES}  # by hash of the prompt
        self.reserved_keys: set[str] = set()
        self.heldout: dict[str, str] = {}  # held-out documents by their hash
        self.validation: dict[str, Conversation] = {}  # finished conversations of the validation suite, by its prompts
        self.seen: dict[str, set[str]] = {"corpus": set(), "prompts": set(), "demonstrations": set()}
        self.left_out: dict[str, int] = {}

    def suite(self, name: str, table: Table) -> None:
        """Write the prompts of a file in their order; a prompt that repeats is used once."""
        writer = self.open_writer(f"suites/{name}.jsonl")
        asked: set[str] = set()
        names: set[str] = set()
        for prompt in self.reader.read(table, PROMPTS):
            key = forms.prompt_key(prompt)
            if key in asked or prompt.id in names:
                self._leave_out(f"repeated prompts or ids of suite {name}")
                continue
            asked.add(key)
            names.add(prompt.id)
            self.suite_keys[forms.question_key(prompt.conversation())] = name
            writer.write(from_prompt(prompt))
        self.suite_counts[name] = writer.count

    def preferences(self, table: Table) -> None:
        """Write pairs to their split, and what they bring besides: prompts, documents, demonstrations."""
        for pair in self.reader.read(table, PREFERENCES):
            if pair.cluster in self.suite_keys:
                self._leave_out(f"pairs whose question is in suite {self.suite_keys[pair.cluster]}")
                continue
            split = self.settings.split(pair.cluster)
            if split in PAIR_SPLITS:
                self.writers[f"pairs_{split}"].write(from_pair(pair))
            chosen, rejected = ((*pair.conversation, Message("assistant", r)) for r in (pair.chosen, pair.rejected))
            if split in OWN_SUITES:
                self._reserve(split, chosen)
                continue
            self._document(forms.transcript(chosen))
            self._document(forms.transcript(rejected))
            if split == "train":
                self._prompt(pair.conversation)
                # Only these: the judge must not have seen what the policies were fine-tuned on.
                if self.only_preferences:
                    self._demonstration(chosen)

    def demonstrations(self, table: Table) -> None:
        """Write conversations to learn from, with their prompts and documents."""
        for conversation in self.reader.read(table, DEMONSTRATIONS):
            key = forms.question_key(conversation)
            if key in self.suite_keys:
                self._leave_out(f"demonstrations whose question is in suite {self.suite_keys[key]}")
            elif key in self.reserved_keys:
                self._leave_out("demonstrations whose question is held out")
            elif self.only_demonstrations and (split := self.settings.split(key)) in OWN_SUITES:
                self._reserve(split, conversation)
            else:
                self._prompt(conversation[:-1])
                self._document(forms.transcript(conversation))
                self._demonstration(conversation)

    def corpus(self, table: Table) -> None:
        """Write the documents of a corpus that was given, without those that are held out."""
        for text in self.reader.read(table, DOCUMENTS):
            if forms.text_key(text) in self.heldout:
                self._leave_out("documents that are held out")
            else:
                self._write_document(text)

    def finish(self) -> dict[str, Any]:
        """Write what is held out, in the order of its hashes; check that nothing is empty; return the report."""
        for key in sorted(self.heldout):
            self.writers["heldout_text"].write({"text": self.heldout[key]})
        for key in sorted(self.validation):
            self.writers["heldout_demonstrations"].write(from_conversation(self.validation[key]))
        for name, prompts in self.reserved.items():
            writer = self.open_writer(f"suites/{name}.jsonl")
            for key in sorted(prompts):
                writer.write(from_prompt(prompts[key]))
            self.suite_counts[name] = writer.count
        counts = {name: writer.count for name, writer in self.writers.items()}
        self._check(counts)
        return {
            "schema": 1,
            "settings": asdict(self.settings),
            "tables": [tally.as_record() for tally in self.reader.tallies],
            "counts": counts,
            "suites": {name: self.suite_counts[name] for name in (*OWN_SUITES, *self.suite_counts)},
            "left_out": self.left_out,
        }

    def _check(self, counts: Mapping[str, int]) -> None:
        needed = {name: count for name, count in counts.items() if not name.startswith("pairs_")}
        if not self.only_demonstrations:
            needed |= {name: count for name, count in counts.items() if name.startswith("pairs_")}
        empty = [name for name, count in needed.items() if not count]
        empty += [f"suite {name}" for name in OWN_SUITES if not self.suite_counts[name]]
        if empty:
            used = sum(tally.used for tally in self.reader.tallies)
            raise DataError(
                f"nothing is left for {', '.join(empty)} of {used} rows (left out: {self.left_out or 'none'}); "
                "give more data, or change data.split_train, data.split_judge and data.split_validation"
            )

    def _reserve(self, split: str, conversation: Conversation) -> None:
        """Keep the prompt of a finished conversation for a suite; the whole of it is never trained on.

        Of the held-out split it is text, of the validation split a demonstration: what is chosen by the loss on one
        must not have seen the questions that models are judged on.
        """
        prompt = conversation[:-1]
        key, question = forms.conversation_key(prompt), forms.question_key(prompt)
        self.reserved_keys.add(question)
        self.reserved[split].setdefault(key, _as_prompt(prompt, key, question))
        if split == "validation":
            self.validation.setdefault(key, conversation)
        elif split == "heldout":
            text = forms.transcript(conversation)
            self.heldout.setdefault(forms.text_key(text), text)

    def _prompt(self, conversation: Conversation) -> None:
        key = forms.conversation_key(conversation)
        if self._is_new("prompts", key):
            prompt = _as_prompt(conversation, key, forms.question_key(conversation))
            self.writers["prompts"].write(from_prompt(prompt))

    def _demonstration(self, conversation: Conversation) -> None:
        if self._is_new("demonstrations", forms.conversation_key(conversation)):
            self.writers["demonstrations"].write(from_conversation(conversation))

    def _document(self, text: str) -> None:
        if self.own_corpus:
            self._write_document(text)

    def _write_document(self, text: str) -> None:
        if self._is_new("corpus", forms.text_key(text)):
            self.writers["corpus"].write({"text": text})

    def _is_new(self, kind: str, key: str) -> bool:
        if key in self.seen[kind]:
            self._leave_out(f"repeats in {kind}")
            return False
        self.seen[kind].add(key)
        return True

    def _leave_out(self, reason: str) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + 1


def _as_prompt(conversation: Conversation, key: str, question: str) -> Prompt:
    return Prompt(id=key, questions=(conversation[-1].content,), context=conversation[:-1], cluster=question)
