"""Files of answers and of questions: the replies behind judgments, and the categories and topics of questions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salsa.evaluation.published.lines import FormatError, lines

ReplyKey = tuple[str, str, int]
"""Model, question and turn."""

_MOST = 10**12  # no reply has that many tokens: such a count is none


@dataclass(frozen=True)
class Question:
    """What a file says of a question: its category, and the topic that it shares with others ("" if none)."""

    category: str
    topic: str


@dataclass(frozen=True)
class Answer:
    """A reply, and the tokens that the file counted in it (None where it counted none)."""

    text: str
    tokens: int | None = None


def answers(paths: Iterable[Path]) -> dict[ReplyKey, Answer]:
    """Return the answers in FastChat's or Arena-Hard's files, plain or gzipped; of two to a question, the last.

    Raises OSError for a file that cannot be read, FormatError naming the place of what is no answer.
    """
    found: dict[ReplyKey, Answer] = {}
    for path in paths:
        for line in lines(path):
            if line.problem:
                raise FormatError(f"{line.place}: {line.problem}")
            value = line.value
            model, question = value.get("model_id", value.get("model")), value.get("uid", value.get("question_id"))
            turns = _turns(value)
            if not isinstance(model, str) or question is None or not turns:
                raise FormatError(f"{line.place} is no answer: expected model, question and choices or messages")
            for number, answer in enumerate(turns, 1):
                found[(model, str(question), number)] = answer
    return found


def questions(path: Path) -> dict[str, Question]:
    """Return what a file says of each question. Raises OSError or FormatError as `answers` does."""
    found = {}
    for line in lines(path):
        identity = line.value.get("question_id", line.value.get("uid"))
        if line.problem or identity is None:
            raise FormatError(f"{line.place}: {line.problem or 'question_id or uid is missing: it is no question'}")
        found[str(identity)] = Question(_name(line.value, "category"), _name(line.value, "cluster"))
    return found


def _name(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key, "")
    return found if isinstance(found, str) else str(found)


def _turns(value: Mapping[str, Any]) -> list[Answer]:
    messages, choices = value.get("messages"), value.get("choices")
    if isinstance(messages, list):
        told = [each.get("content") for each in messages if isinstance(each, dict) and each.get("role") == "assistant"]
    elif isinstance(choices, list) and choices and isinstance(choices[0], dict):
        told = choices[0].get("turns") or []
    else:
        return []
    answers = [_answer(each) for each in told] if isinstance(told, list) else []
    counted = value.get("metadata", value.get("conv_metadata"))
    if len(answers) == 1 and answers[0].tokens is None and isinstance(counted, dict):
        answers = [Answer(answers[0].text, _count(counted))]
    return answers


def _answer(told: Any) -> Answer:
    if isinstance(told, dict):
        text = told.get("answer", told.get("content"))
        return Answer(text if isinstance(text, str) else "", _count(told))
    return Answer(told if isinstance(told, str) else "")


def _count(value: Mapping[str, Any]) -> int | None:
    found = value.get("token_len")
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < _MOST else None
