"""A row of a judgment file as verdicts: what it is known by, what was stored in it, which replies it shows."""

import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from salsa.evaluation.published.lines import RowError
from salsa.judging.verdict import Verdict

Stored = TypeVar("Stored")
API_ERROR = "$ERROR$"
"""What FastChat and Arena-Hard write where the judge's endpoint failed."""

_NUMBER = re.compile(r"\s*-?[0-9]{1,300}(?:\.[0-9]*)?\s*")
_SHOWN = re.compile(
    r"(?:\[|<\|)The Start of Assistant (?P<side>[AB])'s (?P<what>Answer|Conversation with User)(?:\]|\|>)\n"
    r"(?P<text>.*?)"
    r"\n(?:\[|<\|)The End of Assistant (?P=side)'s (?P=what)(?:\]|\|>)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Judged:
    """One verdict, what the file says that it is (`stored`: a score or a label), and the replies that the judge saw.

    `has_stored` tells a stored None ("no verdict") from a file that stores nothing. `replies` maps a model to the
    text shown of it; it is empty where the prompt is not there or is ambiguous. `read` is False for what was taken
    as stored although there is a text, because that was asked for or because the text's grammar is not known.
    """

    verdict: Verdict
    stored: float | str | None
    has_stored: bool
    replies: Mapping[str, str] = field(default_factory=dict)
    read: bool = True

    @property
    def compared(self) -> bool:
        """Whether there are both a text that was read and something stored."""
        return self.read and bool(self.verdict.completion) and self.has_stored

    @property
    def differs(self) -> bool:
        """Whether the judge's text says something else than what is stored."""
        found = self.verdict.score if self.verdict.kind == "single" else self.verdict.label
        return self.compared and found != self.stored


@dataclass(frozen=True)
class Row:
    """A row of a file: its place, what it is known by (judged twice, two rows have the same), and its verdicts."""

    place: str
    identity: tuple[str, ...]
    model: str
    judged: tuple[Judged, ...]

    @property
    def whole(self) -> bool:
        """Whether every verdict of the row was judged."""
        return all(each.verdict.status == "judged" for each in self.judged)

    @property
    def rank(self) -> tuple[int, int]:
        """How much the row says: its verdicts that were judged, then its completions without a verdict."""
        found = [each.verdict.status for each in self.judged]
        return found.count("judged"), found.count("unparsed")

    @property
    def text(self) -> tuple[str, ...]:
        """What the judge wrote."""
        return tuple(each.verdict.completion for each in self.judged)

    def asks_otherwise(self, other: "Row") -> bool:
        """Whether the judge was asked something else (of other replies, say) for a row of the same identity."""
        both = zip(self.judged, other.judged, strict=False)
        return self.model == other.model and any(
            a.verdict.key != b.verdict.key for a, b in both if a.verdict.completion and b.verdict.completion
        )


def text_of(value: Mapping[str, Any], name: str) -> str:
    """Return a field that must be a text that is not empty. Raises RowError."""
    found = value.get(name)
    if not isinstance(found, str) or not found:
        raise RowError(f"{name} is {_shown(found)}, expected a name")
    return found


def question_of(value: Mapping[str, Any], *names: str) -> str:
    """Return the identity of the question under the first of these names that is there. Raises RowError."""
    for name in names:
        found = _whole(value.get(name))
        if (isinstance(found, str) and found) or (isinstance(found, int) and not isinstance(found, bool)):
            return str(found)
        if found is not None:
            raise RowError(f"{name} is {_shown(found)}, expected a number or a name")
    raise RowError(f"{' or '.join(names)} is missing")


def turn_of(value: Mapping[str, Any]) -> int:
    """Return the turn, 1 where none is named. Raises RowError for anything but a whole number from 1."""
    found = _whole(_number(value.get("turn", 1)))
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise RowError(f"turn is {_shown(found)}, expected 1 or 2")
    return found


def judge_of(value: Mapping[str, Any]) -> tuple[str, str]:
    """Return the judge's name and that of its prompt ("" where there is none). Raises RowError."""
    found = value.get("judge", "")
    parts = [found] if isinstance(found, str) else found
    if not isinstance(parts, list) or not 1 <= len(parts) <= 2 or not all(isinstance(part, str) for part in parts):
        raise RowError(f"judge is {_shown(found)}, expected a name, or a name and a prompt")
    return parts[0], parts[1] if len(parts) == 2 else ""


def number_of(value: Mapping[str, Any], name: str) -> float | None:
    """Return a number, also one written as a text, or None for null. Raises RowError for anything else."""
    found = _number(value.get(name))
    if found is None:
        return None
    # A whole number that no float holds is no more of a number than an infinite one.
    if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) <= sys.float_info.max:
        raise RowError(f"{name} is {_shown(value[name])}, expected a number")
    return float(found)


def stored_of(read: Callable[[], Stored], stands: bool) -> Stored | None:
    """Return what a row stores; where the judge's text `stands` without it, what cannot be read is none.

    Raises RowError where the row has nothing else to go by.
    """
    try:
        return read()
    except RowError:
        if stands:
            return None
        raise


def optional_text(value: Mapping[str, Any], name: str) -> str:
    """Return a text, or "" where there is none. Raises RowError for anything else."""
    found = value.get(name)
    if found is not None and not isinstance(found, str):
        raise RowError(f"{name} is {_shown(found)}, expected a text")
    return found or ""


def shown_replies(prompt: Any, first: str, second: str) -> dict[str, str]:
    """Return the replies that a pairwise prompt shows, by model; nothing unless each is marked exactly once.

    Of a conversation of two turns it is the reply to the second, which is the one that is judged.
    """
    if not isinstance(prompt, str) or first == second:
        return {}
    starts = prompt.count("The Start of Assistant A's"), prompt.count("The Start of Assistant B's")
    found = {match["side"]: _judged_reply(match) for match in _SHOWN.finditer(prompt)}
    own, other = found.get("A"), found.get("B")
    if starts != (1, 1) or own is None or other is None:
        return {}
    return {first: own, second: other}


def _judged_reply(shown: re.Match[str]) -> str | None:
    if shown["what"] == "Answer":
        return shown["text"]
    turns = shown["text"].split(f"### Assistant {shown['side']}:\n")
    return turns[2].strip() if len(turns) == 3 else None


@dataclass(frozen=True)
class Asked:
    """What a judge was asked, as far as a published file says it."""

    suite: str
    question: str
    category: str
    turn: int
    models: tuple[str, ...]
    order: int
    judge: str
    prompt_name: str
    prompt: str = ""

    @property
    def key(self) -> str:
        """The digest that the verdict is known by."""
        names = [self.suite, self.question, self.turn, *self.models, self.order, self.judge, self.prompt_name]
        return hashlib.sha256(json.dumps([*names, self.prompt]).encode()).hexdigest()


def verdict(asked: Asked, completion: str, found: float | str | None, grammar: str, time: str = "") -> Verdict:
    """Return the verdict that a completion gives; `found` is what was read in it, or what was stored without it."""
    failed = found is None and completion.strip() in ("", API_ERROR)
    pair = len(asked.models) == 2
    return Verdict(
        key=asked.key,
        suite=asked.suite,
        question=asked.question,
        category=asked.category,
        cluster=asked.question,
        turn=asked.turn,
        kind="pair" if pair else "single",
        model_a=asked.models[0],
        model_b=asked.models[1] if pair else None,
        order=asked.order,
        judge=asked.judge,
        snapshot="",
        prompt="",
        prompt_name=asked.prompt_name,
        completion=completion,
        label=found if isinstance(found, str) else None,
        score=found if isinstance(found, float) else None,
        status="judged" if found is not None else "failed" if failed else "unparsed",
        error="the endpoint failed" if completion.strip() == API_ERROR else "no completion" if failed else "",
        tokens_in=None,
        tokens_out=None,
        price=None,
        seconds=0.0,
        attempt=1,
        time=time,
        grammar=grammar,
    )


def _number(value: Any) -> Any:
    """Return the number that a text holds, and anything else as it is."""
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


def _whole(value: Any) -> Any:
    """Return a whole number that was written with a decimal point as such, and anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shown(value: Any) -> str:
    text = "missing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
