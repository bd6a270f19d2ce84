"""The scored replies of one model to one suite: the record that every statistic and table is computed from."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, overload


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
_FIELDS = frozenset(_NAMES)
_TYPES: dict[str, set[type]] = {
    **{name: {str} for name in (*_TEXTS, "replies")},
    **{name: {int, float} for name in _NUMBERS},
    "judge": {int, float, type(None)},
    "ended": {bool},
}
"""Types of the values of each field; of `replies`, of each of them."""
_DECODER = json.JSONDecoder()


def write(path: Path, scored: Iterable[ScoredReply]) -> None:
    """Write scored replies as JSON lines, because a person can read them and any program can stream them.

    Raises ValueError naming the prompt if a number is not finite: JSON has no such numbers.
    """
    with path.open("w", encoding="utf-8", newline="\n") as lines:
        for reply in scored:
            _check_finite(reply, f"prompt {reply.prompt_id!r}")
            lines.write(json.dumps(asdict(reply), ensure_ascii=False, allow_nan=False) + "\n")


class Replies(Sequence[ScoredReply]):
    """Scored replies by column: a study reads a hundred thousand of them and asks for a few of their fields.

    A reply is made when it is asked for. Equal to a sequence of equal replies.
    """

    def __init__(self, columns: Mapping[str, Sequence[Any]]) -> None:
        self._columns = columns

    def column(self, name: str) -> Sequence[Any]:
        """Return the values of one field, in the order of the replies."""
        return self._columns[name]

    def __len__(self) -> int:
        return len(self._columns[_NAMES[0]])

    def __iter__(self) -> Iterator[ScoredReply]:
        return (ScoredReply(*values) for values in zip(*self._columns.values(), strict=True))

    @overload
    def __getitem__(self, index: int) -> ScoredReply: ...
    @overload
    def __getitem__(self, index: slice) -> list[ScoredReply]: ...
    def __getitem__(self, index: int | slice) -> ScoredReply | list[ScoredReply]:
        if isinstance(index, slice):
            return list(self)[index]
        return ScoredReply(*(values[index] for values in self._columns.values()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def column(replies: Sequence[ScoredReply], name: str) -> Sequence[Any]:
    """Return the values of one field, in the order of the replies."""
    return replies.column(name) if isinstance(replies, Replies) else [getattr(reply, name) for reply in replies]


def read(path: Path) -> Replies:
    """Read what `write` wrote. Raises ValueError naming the file, the line and the field of a malformed record."""
    with path.open(encoding="utf-8", newline="\n") as file:
        lines = file.read().split("\n")
    if not lines[-1]:
        lines.pop()
    # Whole columns are checked several times as fast as one record after the other, which finds what is wrong.
    columns = _columns(lines)
    if columns is None or not _are_sound(columns):
        replies = [_from_line(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]
        columns = {name: [getattr(reply, name) for reply in replies] for name in _NAMES}
    return Replies(columns)


def _columns(lines: Sequence[str]) -> dict[str, list[Any]] | None:
    """Return the values of each field over all records; None where a line is no record."""
    records = []
    for line in lines:
        try:
            record, end = _DECODER.raw_decode(line)
        except json.JSONDecodeError:
            return None
        if end != len(line) or type(record) is not dict or record.keys() != _FIELDS:
            return None
        if type(record["replies"]) is not list:
            return None
        record["replies"] = tuple(record["replies"])
        records.append(record)
    return {name: [record[name] for record in records] for name in _NAMES}


def _are_sound(columns: Mapping[str, Sequence[Any]]) -> bool:
    """Return whether all values of all fields are what `_from_record` takes."""
    found = {name: set(map(type, values)) for name, values in columns.items()}
    found["replies"] = {type(text) for texts in columns["replies"] for text in texts}
    if not all(found[name] <= allowed for name, allowed in _TYPES.items()):
        return False
    return all(math.isfinite(value) for name in _NUMBERS for value in columns[name] if value is not None)


def _from_line(line: str, place: str) -> ScoredReply:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: not JSON ({error}); the file is cut or was edited") from error
    return _from_record(record, place)


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
