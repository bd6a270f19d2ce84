"""The scored replies of one model to one suite: the record that every statistic and table is computed from."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ScoredReply:
    """One model's answer to one prompt of a suite, with what the judge and the reward model say of it.

    `question` is the prompt as a person reads it and `replies` holds one text a turn. `judge` (None where there is
    no judge) and `reward` are means over turns, `length` is tokens a reply including the end token, averaged over
    turns, and `ended` tells whether every turn ended by itself. Prompts of one `cluster` are not independent.
    """

    prompt_id: str
    cluster: str
    category: str
    suite: str
    question: str
    replies: tuple[str, ...]
    judge: float | None
    reward: float
    length: float
    ended: bool


_NAMES = tuple(field.name for field in fields(ScoredReply))
_TEXTS = ("prompt_id", "cluster", "category", "suite", "question")
_NUMBERS = ("judge", "reward", "length")


def write(path: Path, scored: Iterable[ScoredReply]) -> None:
    """Write scored replies as JSON lines, because a person can read them and any program can stream them.

    Raises ValueError naming the prompt if a number is not finite: JSON has no such numbers.
    """
    with path.open("w", encoding="utf-8", newline="\n") as lines:
        for reply in scored:
            _check_finite(reply, f"prompt {reply.prompt_id!r}")
            lines.write(json.dumps(asdict(reply), ensure_ascii=False, allow_nan=False) + "\n")


def read(path: Path) -> list[ScoredReply]:
    """Read what `write` wrote. Raises ValueError naming the file, the line and the field of a malformed record."""
    scored = []
    with path.open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            place = f"{path}, line {number}"
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{place}: not JSON ({error}); the file is cut or was edited") from error
            scored.append(_from_record(record, place))
    return scored


def _from_record(record: Any, place: str) -> ScoredReply:
    if not isinstance(record, dict) or set(record) != set(_NAMES):
        found = sorted(record) if isinstance(record, dict) else type(record).__name__
        raise ValueError(f"{place}: fields must be {sorted(_NAMES)}, found {found}")
    for name in _TEXTS:
        if not isinstance(record[name], str):
            raise ValueError(f"{place}: {name} must be text, found {record[name]!r}")
    for name in _NUMBERS:
        value = record[name]
        absent = value is None and name == "judge"
        if not absent and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{place}: {name} must be a number, found {value!r}")
    if not isinstance(record["ended"], bool):
        raise ValueError(f"{place}: ended must be true or false, found {record['ended']!r}")
    replies = record["replies"]
    if not isinstance(replies, list) or not all(isinstance(text, str) for text in replies):
        raise ValueError(f"{place}: replies must be a list of texts, found {replies!r}")
    reply = ScoredReply(**{**record, "replies": tuple(replies)})
    _check_finite(reply, place)
    return reply


def _check_finite(reply: ScoredReply, place: str) -> None:
    for name in _NUMBERS:
        value = getattr(reply, name)
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{place}: {name} is {value}, which is not a finite number")
