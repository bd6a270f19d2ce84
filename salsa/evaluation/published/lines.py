"""Lines of JSON, plain or gzipped, each with its place in its file; what format an object looks like."""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

FORMATS = ("mt-bench-single", "mt-bench-pair", "arena-hard", "verdicts")
_GZIP = b"\x1f\x8b"


class FormatError(ValueError):
    """A file that cannot be read as what it is said to be; the message names the file and what to do."""


class RowError(ValueError):
    """A row that lacks something; the message says what."""


@dataclass(frozen=True)
class Line:
    """A line of a file: its place ("file:7"), its object, or what is wrong with it."""

    place: str
    value: Mapping[str, Any]
    problem: str = ""


def lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a file that are not blank; a line that is no JSON object comes with its problem.

    Raises:
        OSError: if the file cannot be read.
        FormatError: for a damaged gzip file.
    """
    try:
        with _opened(path) as file:
            for number, text in enumerate(file, 1):
                if text.strip():
                    yield _line(text, f"{path}:{number}")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FormatError(f"{path} is a damaged or incomplete gzip file ({error}); fetch it again") from error


def looks_like(value: Mapping[str, Any]) -> str:
    """Return the format that an object has by its keys, a description of what else it is, or "" if that is unknown."""
    keys = set(value)
    shapes = (
        ({"key", "kind", "status", "completion"}, "verdicts"),
        ({"model_1", "model_2"}, "mt-bench-pair"),
        ({"games"}, "arena-hard"),
        ({"model_a", "model_b", "winner"}, "arena-hard"),
        ({"model", "score"}, "mt-bench-single"),
        ({"model", "judgment"}, "mt-bench-single"),
        ({"choices"}, "a file of answers"),
        ({"messages"}, "a file of answers"),
        ({"turns"}, "a file of questions"),
        ({"prompt"}, "a file of questions"),
    )
    return next((name for needed, name in shapes if needed <= keys), "")


def check_format(path: Path, value: Mapping[str, Any], expected: str) -> None:
    """Raise FormatError, saying what the file looks like, if an object is not of the expected format."""
    found = looks_like(value)
    if found == expected:
        return
    if found in FORMATS:
        raise FormatError(f"{path} looks like {found}, not {expected}; give --format {found}")
    what = found or f"none of {', '.join(FORMATS)} (its keys are {', '.join(sorted(map(str, value))[:8])})"
    raise FormatError(f"{path} looks like {what}, not like {expected}")


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        zipped = file.read(len(_GZIP)) == _GZIP
    return cast(IO[bytes], gzip.open(path)) if zipped else path.open("rb")


def _line(text: bytes, place: str) -> Line:
    # NaN and Infinity are no JSON, but Python writes them where there is no number.
    try:
        value = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        return Line(place, {}, f"not JSON ({error})")
    return Line(place, value) if isinstance(value, dict) else Line(place, {}, "not a JSON object")
