"""The verdict: one line of JSON with all that is known of one question to a judge."""

import gzip
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import IO, Any, cast, get_args

SCHEMA = 1
FLIPPED = {"A>>B": "B>>A", "A>B": "B>A", "A=B": "A=B", "B>A": "A>B", "B>>A": "A>>B"}
"""Each label, and what it is when the replies change places."""
STATUSES = ("judged", "unparsed", "failed")
"""What may become of a question, the best first."""
_GZIP = b"\x1f\x8b"


class VerdictError(ValueError):
    """A line that is no verdict; the message says where it stands and what is wrong with it."""


@dataclass(frozen=True)
class Verdict:
    """One answer of a judge, or why there is none.

    `key` says what was asked (SHA-256 of question, replies, models, judge, prompt and order), and `content` the same
    without the models' names and the order, which say only whose reply is shown first: it is never asked twice, a
    second model with the same reply gets the first one's verdict for no call (`attempt` 0). `suite` is the benchmark,
    `question` the identity of the question, `cluster` what it shares with questions that are not independent of it,
    `turn` the turn that is graded. A `kind` of "pair" compares `model_a`, shown first, with `model_b`; `order` is 1
    where the compared model is shown second. A "single" reply is that of `model_a`.

    `judge` is the name that was asked for, `snapshot` what the endpoint calls itself, `prompt` the digest of the
    template and `prompt_name` its name, `grammar` the name of the rule (`salsa.judging.grammar`) that reads
    `completion`, the text as it came. `label` (of pairs) and `score` (of single replies) are None unless `status` is
    "judged"; "unparsed" means a completion without a verdict, "failed" none at all, for the reason in `error`.

    `finish` is why the completion ended ("stop", "length", ...), `tokens_in` and `tokens_out` are those that the
    endpoint counted last, `price` what all attempts cost in the unit of the price list (estimated where there is a
    completion and no count), `seconds` the time of the last attempt, `attempt` the number of attempts and `time` when
    it was answered (ISO 8601, UTC).
    """

    key: str
    suite: str
    question: str
    category: str
    cluster: str
    turn: int
    kind: str
    model_a: str
    model_b: str | None
    order: int
    judge: str
    snapshot: str
    prompt: str
    prompt_name: str
    completion: str
    label: str | None
    score: float | None
    status: str
    error: str
    tokens_in: int | None
    tokens_out: int | None
    price: float | None
    seconds: float
    attempt: int
    time: str
    grammar: str = ""
    finish: str = ""
    content: str = ""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise VerdictError(problem)

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as an object of JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Verdict":
        """Return the verdict of an object of JSON; unknown keys are left out.

        Raises:
            VerdictError: for a key that is missing, or a value that it cannot have.
        """
        known = {field.name: field for field in fields(cls)}
        missing = [name for name in list(known)[: list(known).index("time") + 1] if name not in values]
        if missing:
            raise VerdictError(f"{missing[0]} is missing")
        found = {name: values[name] for name in known if name in values}
        for name, value in found.items():
            _check_type(name, value, known[name].type)
        return cls(**found)


def read(path: Path) -> list[Verdict]:
    """Return the verdicts of a file, plain or gzipped, in the order of their first lines: one for each key.

    Where a key has several lines, as when it failed and was asked again, that of `counting` is taken.

    Raises:
        OSError, VerdictError: as `lines` does.
    """
    return list(counting(lines(path)).values())


def counting(verdicts: Iterable[Verdict]) -> dict[str, Verdict]:
    """Return the verdict that counts for each key: a judged one before an unparsed before a failed, then the last."""
    found: dict[str, Verdict] = {}
    for verdict in verdicts:
        count(verdict, found)
    return found


def count(verdict: Verdict, found: dict[str, Verdict]) -> None:
    """Put a verdict under its key, unless a better one is there: a failure does not undo what was said before."""
    before = found.get(verdict.key)
    if before is None or STATUSES.index(verdict.status) <= STATUSES.index(before.status):
        found[verdict.key] = verdict


def lines(path: Path) -> Iterator[Verdict]:
    """Yield the verdict of each line of a file, plain or gzipped; a last line that a kill tore is left out.

    Raises:
        OSError: if the file cannot be read.
        VerdictError: for any other line that is no verdict, or a damaged gzip file.
    """
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, 1):
                found = _verdict(line, f"{path}:{number}") if line.strip() else None
                if found is not None:
                    yield found
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise VerdictError(f"{path} is a damaged or incomplete gzip file ({error}); fetch it again") from error


def counts(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """Return how many questions were sent, and how many of them were judged, unparsed and failed."""
    found = dict.fromkeys(("sent", *STATUSES), 0)
    for verdict in verdicts:
        found["sent"] += 1
        found[verdict.status] += 1
    return found


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        zipped = file.read(len(_GZIP)) == _GZIP
    return cast(IO[bytes], gzip.open(path)) if zipped else path.open("rb")


def _verdict(line: bytes, place: str) -> Verdict | None:
    try:
        values = json.loads(line)
        if not isinstance(values, dict):
            raise VerdictError("not a JSON object")
        return Verdict.from_json(values)
    except VerdictError as error:
        raise VerdictError(f"{place} is no verdict: {error}") from error
    except ValueError as error:
        if not line.endswith(b"\n"):
            return None  # torn by a kill; whoever asks next removes it
        raise VerdictError(f"{place} is no verdict: not JSON ({error})") from error


def _check_type(name: str, value: Any, kind: Any) -> None:
    options = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if value is None and NoneType in options:
        return
    if isinstance(value, bool) or not any(
        isinstance(value, int | float if option is float else option) for option in options if option is not NoneType
    ):
        raise VerdictError(f"{name} is {value!r}, expected {' or '.join(option.__name__ for option in options)}")


def _problem(verdict: Verdict) -> str | None:
    pair = verdict.kind == "pair"
    judged = verdict.status == "judged"
    rules = (
        (verdict.schema == SCHEMA, f"schema is {verdict.schema}, this version reads {SCHEMA}"),
        (verdict.kind in ("single", "pair"), f"kind is {verdict.kind!r}, expected 'single' or 'pair'"),
        (verdict.status in STATUSES, f"status is {verdict.status!r}, expected one of {', '.join(STATUSES)}"),
        (verdict.label is None or verdict.label in FLIPPED, f"label is {verdict.label!r}, expected {list(FLIPPED)}"),
        (verdict.order in ((0, 1) if pair else (0,)), f"order is {verdict.order}, expected {'0 or 1' if pair else 0}"),
        (verdict.score is None or math.isfinite(verdict.score), f"score is {verdict.score}, expected a finite number"),
        (verdict.turn >= 1, f"turn is {verdict.turn}, expected 1 or more"),
        ((verdict.model_b is not None) == pair, f"model_b is {verdict.model_b!r} with kind {verdict.kind!r}"),
        ((verdict.label is not None) == (pair and judged), f"label is {verdict.label!r} with {verdict.status!r}"),
        ((verdict.score is not None) == (judged and not pair), f"score is {verdict.score!r} with {verdict.status!r}"),
    )
    return next((problem for holds, problem in rules if not holds), None)
