"""How a command ends when it is told to: as Ctrl-C ends it, so that nothing half-written is left."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def answering() -> Iterator[None]:
    """Let SIGTERM, and a terminal that is closed, end the work by `SystemExit`, unless something else answers them.

    The exit code is 128 and the signal's number, as shells have it.
    """
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    for number in numbers:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, *_: Any) -> None:
    raise SystemExit(128 + number)
