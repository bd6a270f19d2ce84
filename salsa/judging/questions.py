"""Questions, answers and references from files: FastChat's, Arena-Hard's and plain rows."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from salsa.data.rows import DataError, FileTable

REFERENCE_CATEGORIES = ("math", "reasoning", "coding")
"""The categories that MT-Bench judges with a reference answer."""
API_ERROR = "$ERROR$"
"""What FastChat writes in place of an answer that could not be had; it is no answer."""
_QUESTION_KEYS = ("question_id", "uid", "id", "prompt_id")
_PLAIN_KEYS = ("id", "prompt_id")
_ASKED = frozenset({*_QUESTION_KEYS, "turns", "prompt", "question", "category", "cluster", "reference"})
_ANSWERED = frozenset({*_QUESTION_KEYS, "question", "choices", "messages", "replies", "reply", "model_id", "model"})
_SHOWN = 5


@dataclass(frozen=True)
class Question:
    """What a user asks, in one or more turns.

    Questions of one `cluster` are not independent. `reference` holds a right answer to each turn, if there is one.
    """

    id: str
    turns: tuple[str, ...]
    category: str = ""
    cluster: str = ""
    reference: tuple[str, ...] = ()


@dataclass(frozen=True)
class QuestionSet:
    """The questions of one benchmark, in the order of their file."""

    suite: str
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Answers:
    """The replies of one model by the identity of the question; one for each turn."""

    model: str
    source: str
    replies: Mapping[str, tuple[str, ...]]


def read_questions(path: Path, suite: str | None = None) -> QuestionSet:
    """Return the questions of a file of FastChat, of Arena-Hard, or of plain rows.

    Plain rows have `id` (or `prompt_id`), and `question`, `prompt` or `turns`; `category`, `cluster` and `reference` if
    they like.
    The name of the suite is told by the form of the rows unless it is given.

    Raises:
        DataError: if the file cannot be read, or a row has no question or one that was there before.
    """
    found: dict[str, Question] = {}
    guess = "files"
    for place, row in _rows(path, _ASKED):
        question = _question(place, row)
        if question.id in found:
            raise DataError(f"{place} repeats question {question.id}; keep one of the two rows")
        found[question.id] = question
        guess = _suite(row)
    if not found:
        raise DataError(f"{path} holds no questions")
    return QuestionSet(suite or guess, tuple(found.values()))


def write_questions(path: Path, questions: Iterable[Question]) -> None:
    """Write questions as the plain rows that `read_questions` reads back as the same questions."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for question in questions:
            row = asdict(question) | {"turns": list(question.turns), "reference": list(question.reference)}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_answers(path: Path, questions: Sequence[Question], name: str | None = None) -> Answers:
    """Return a model's replies to these questions; those to other questions are left out.

    Rows are FastChat's (`choices`, of which the first counts), Arena-Hard's (`messages`), or plain: `reply` or
    `replies`, and `id` or `question`, which may be the text of the question. The model's name is that of the rows
    (`model_id`, `model`), or else the file's.

    Raises:
        DataError: if the file cannot be read, a row has no replies, or a question has two different ones.
    """
    by_text = {question.turns[0]: question.id for question in questions}
    known = {question.id for question in questions}
    found: dict[str, tuple[str, ...]] = {}
    places: dict[str, str] = {}
    named = None
    for place, row in _rows(path, _ANSWERED):
        named = named or row.get("model_id") or row.get("model")
        identity = _identity(row, by_text)
        if identity is None:
            raise DataError(
                f"{place} does not say which question it answers; add `id` (or `question_id`, `uid`, `prompt_id`)"
            )
        replies = _replies(place, row)
        if found.get(identity, replies) != replies:
            raise DataError(f"{place} answers question {identity} once more than {places[identity]}; keep one of them")
        if identity in known and API_ERROR not in replies:
            found[identity], places[identity] = replies, place
    return Answers(name or str(named or path.name.split(".")[0]), str(path), found)


def with_references(questions: QuestionSet, path: Path, categories: Sequence[str]) -> QuestionSet:
    """Return the questions with the references of a file of answers, where the category is one of these or none.

    Raises:
        DataError: if such a question has no reference, or one with fewer turns.
    """
    references = read_answers(path, questions.questions).replies
    needing = [question for question in questions.questions if question.category in (*categories, "")]
    short = [question.id for question in needing if len(references.get(question.id, ())) < len(question.turns)]
    if short:
        raise DataError(
            f"{path} has no reference for all turns of {listed(short)}; add them, or name fewer categories that need "
            "one (--reference-categories, reference_categories)"
        )
    chosen = {question.id for question in needing}
    return replace(
        questions,
        questions=tuple(
            replace(question, reference=references[question.id] if question.id in chosen else ())
            for question in questions.questions
        ),
    )


def unanswered(questions: QuestionSet, answers: Answers) -> list[str]:
    """Return the questions that the model has not answered in every turn."""
    return [
        question.id
        for question in questions.questions
        if len(answers.replies.get(question.id, ())) < len(question.turns)
    ]


def listed(names: Sequence[str]) -> str:
    """Return the number of questions and the first few of them, for messages."""
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{len(names)} question{'s' if len(names) != 1 else ''} ({', '.join(names[:_SHOWN])}{more})"


def _rows(path: Path, wanted: frozenset[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in FileTable(path).rows(wanted):
        if row.values is None:
            raise DataError(f"{row.place}: {row.problem}")
        yield row.place, row.values


def _suite(row: Mapping[str, Any]) -> str:
    if "uid" in row and "subcategory" in row:
        return "arena_hard_v2"
    if "uid" in row or ("question_id" in row and "cluster" in row):
        return "arena_hard"
    return "mt_bench" if "question_id" in row else "files"


def _question(place: str, row: Mapping[str, Any]) -> Question:
    identity = next((row[key] for key in _QUESTION_KEYS if row.get(key) is not None), None)
    if identity is None:
        raise DataError(f"{place} has no `id` (or `question_id`, `uid`, `prompt_id`)")
    turns = row.get("turns") or row.get("prompt") or row.get("question")
    turns = [turns] if isinstance(turns, str) else turns
    texts = tuple(_text(place, turn) for turn in turns) if isinstance(turns, list) else ()
    if not texts or not all(texts):
        raise DataError(f"{place} has no question: write it as `question`, `prompt` or `turns`")
    if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
        raise DataError(f"{place} has a question that is not valid Unicode (half of a surrogate pair); write it anew")
    # FastChat's own `reference` fields are notes of the authors; its protocol takes references from a file of answers.
    reference = row.get("reference") if any(row.get(key) is not None for key in _PLAIN_KEYS) else None
    reference = [reference] if isinstance(reference, str) else reference or []
    return Question(
        id=str(identity),
        turns=texts,
        category=str(row.get("category") or ""),
        cluster=str(row.get("cluster") or identity),
        reference=tuple(_text(place, turn) for turn in reference),
    )


def _identity(row: Mapping[str, Any], by_text: Mapping[str, str]) -> str | None:
    for key in _QUESTION_KEYS:
        if row.get(key) is not None:
            return str(row[key])
    text = row.get("question")
    return None if text is None else by_text.get(str(text), str(text))


def _replies(place: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    turns: Any = None
    if isinstance(choices := row.get("choices"), list) and choices:
        turns = _part(place, "choices", choices[0]).get("turns")
    elif isinstance(messages := row.get("messages"), list):
        parts = [_part(place, "messages", message) for message in messages]
        turns = [message.get("content") for message in parts if message.get("role") == "assistant"]
    elif "replies" in row:
        turns = row["replies"]
    elif "reply" in row:
        turns = [row["reply"]]
    if not isinstance(turns, list) or not turns:
        raise DataError(f"{place} has no replies: they stand in `choices`, `messages`, `replies` or `reply`")
    return tuple(_text(place, turn) for turn in turns)


def _part(place: str, name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise DataError(f"{place}: expected an object in `{name}`, found {type(value).__name__}")
    return value


def _text(place: str, value: Any) -> str:
    if isinstance(value, Mapping):  # Arena-Hard writes a reply with what it counted of it
        value = value.get("answer", value.get("content"))
    if not isinstance(value, str):
        raise DataError(f"{place}: expected text, found {type(value).__name__}")
    return value
