"""What kind of failure an error is: worth another try, or the same again whatever is tried. Imports no torch."""

import errno
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PASSING = frozenset(
    {
        errno.EIO,
        errno.EAGAIN,
        errno.EBUSY,
        errno.EINTR,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.EMFILE,
        errno.ENFILE,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
    }
)
"""Errors of input and output that may be gone a moment later; a full disk or a missing right will not be."""
MEMORY_TEXTS = ("can't allocate memory", "not enough memory", "out of memory")
SAME_FAILURES = 2
"""Failures alike after which a stage is not tried again without being asked for it."""


class Unfinished(RuntimeError):
    """Work that could not be brought to its end for now: what was done is kept, and the next command goes on."""


def out_of_memory(error: BaseException) -> bool:
    """Return whether memory, of this machine or of its GPU, was too little."""
    return any(
        isinstance(each, MemoryError)
        or (isinstance(each, OSError) and each.errno == errno.ENOMEM)
        or type(each).__name__ == "OutOfMemoryError"
        or (isinstance(each, RuntimeError) and any(text in str(each).lower() for text in MEMORY_TEXTS))
        for each in _chain(error)
    )


def passing(error: BaseException) -> bool:
    """Return whether the error is one of input or output that may be gone at the next try."""
    return any(isinstance(each, OSError) and each.errno in PASSING for each in _chain(error))


def unfinished(error: BaseException) -> bool:
    """Return whether the work can go on where it stopped, in another command."""
    return any(isinstance(each, Unfinished) for each in _chain(error))


def repeated(earlier: Mapping[str, Any] | None, error: str, step: int | None, code: str) -> int:
    """Return how many times in a row a stage has failed like this: same error, same step, same code of the project."""
    if earlier is None:
        return 1
    alike = (earlier.get("error"), earlier.get("step"), earlier.get("code_digest")) == (error, step, code)
    return int(earlier.get("times", 1)) + 1 if alike else 1


def hopeless(earlier: Mapping[str, Any] | None, code: str) -> bool:
    """Return whether a stage has failed so often alike that trying it again with the same code is a waste."""
    if earlier is None or earlier.get("code_digest") != code or earlier.get("passing"):
        return False
    return int(earlier.get("times", 1)) >= SAME_FAILURES


def told(failures: Sequence[Mapping[str, Any]]) -> str:
    """Return which stages failed and why; a reason that several have is told once, with what the first one adds."""
    alike: dict[str, list[Mapping[str, Any]]] = {}
    for failure in failures:
        alike.setdefault(_first_line(failure).split("; ")[0], []).append(failure)
    parts = []
    for first, *others in alike.values():
        names = ", ".join(str(failure["stage"]) for failure in others)
        parts.append(f"{first['stage']}{f' (and, alike, {names})' if others else ''}: {_first_line(first)}")
    return "; ".join(parts)


def _first_line(failure: Mapping[str, Any]) -> str:
    return str(failure["error"]).split("\n")[0]


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
