"""Stage `questions`: reads a benchmark's questions once, and looks for them in the training data."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipelines import protocol
from pipelines.identity import read_planned
from pipelines.work import Progress, Work
from salsa.data.address import fetch
from salsa.data.conversation import Message
from salsa.data.forms import question_key
from salsa.data.records import to_conversation
from salsa.data.rows import DataError
from salsa.judging.questions import Question, listed, read_questions, write_questions

QUESTIONS = "questions.jsonl"

_RECORDS = ("demonstrations", "prompts", "pairs_train", "pairs_judge")
_SHOWN = 5  # questions in the training data that are named
_TOLD_EVERY = 5000  # records between two signs of life


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave `questions.jsonl`: plain rows of id, turns, category, cluster and the references that the file itself has.

    Raises DataError where the questions do not bear what the benchmark's protocol asks of them.
    """
    config, place = work.config, work.stage.execution
    work.progress(0, 1, "reading the questions")
    key = f"suite.benchmarks.{config['suite']}.questions"
    questions = read_planned(key, config["questions"], place["questions"], lambda path: _read(work, path))
    _check_references(questions)
    write_questions(work.folder / QUESTIONS, questions)
    data = work.inputs.get("data")
    known = None if data is None else _contaminated(questions, data.path, work.progress)
    metrics = {
        "questions": len(questions),
        "turns": sum(len(question.turns) for question in questions),
        "with_reference": sum(bool(question.reference) for question in questions),
        "contaminated": None if known is None else len(known),
    }
    return _says(questions, known), metrics


def _read(work: Work, path: Path) -> Sequence[Question]:
    """Return the first so many questions; files that go with them are fetched now and not after the training."""
    if told := work.stage.execution.get("protocol"):
        problems = protocol.problems(protocol.Protocol(**told), path, fetch)
        if problems:
            raise DataError("; ".join(problems))
    return read_questions(path, work.config["suite"]).questions[: work.config["prompts"]]


def _check_references(questions: Sequence[Question]) -> None:
    short = [question.id for question in questions if 0 < len(question.reference) < len(question.turns)]
    if short:
        raise DataError(f"{listed(short)} with fewer references than turns; give one for each turn, or none")


def _contaminated(questions: Sequence[Question], folder: Path, progress: Progress) -> list[str]:
    """Return the questions whose first turn a model of ours may have seen in training, as ingestion tells questions.

    Data are ingested without knowing the benchmarks that are asked later.
    """
    keys = {question.id: question_key((Message("user", question.turns[0]),)) for question in questions}
    wanted = set(keys.values())
    seen = {key for key in _trained(folder, progress) if key in wanted}
    return [name for name, key in keys.items() if key in seen]


def _trained(folder: Path, progress: Progress) -> Iterator[str]:
    """Yield the key of every question in the training data of a folder of ingested records."""
    counts = json.loads((folder / "report.json").read_text(encoding="utf-8"))["counts"]
    done, total = 0, sum(counts[name] for name in _RECORDS)
    for name in _RECORDS:
        with (folder / f"{name}.jsonl").open(encoding="utf-8") as file:
            for line in file:
                record = json.loads(line)
                # Prompts and pairs were clustered by this key.
                yield record["cluster"] if "cluster" in record else question_key(to_conversation(record))
                done += 1
                if done % _TOLD_EVERY == 0:
                    progress(done, total, "looking for the questions in the training data")


def _says(questions: Sequence[Question], known: Sequence[str] | None) -> str:
    references = sum(bool(question.reference) for question in questions)
    turns = sorted({len(question.turns) for question in questions})
    says = f"{len(questions)} questions of {' or '.join(map(str, turns))} turn{'' if turns == [1] else 's'}"
    says += f", {references} with references" if references else ""
    if known is None:
        return says
    first = f" ({', '.join(known[:_SHOWN])}{', ...' if len(known) > _SHOWN else ''})" if known else ""
    return f"{says}; {len(known)} {'is' if len(known) == 1 else 'are'} in the training data{first}"
