"""What ends a Lightning trainer from outside - Ctrl-C, SIGTERM - as exceptions that nobody takes for success.

Imports no torch, so that whoever runs trainings can tell an interruption from a failure.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupted(RuntimeError):
    """A training that ended before its last step; the next run continues from its last checkpoint."""


class Deferred:
    """Which signal has come while signals were deferred; None: none has."""

    def __init__(self) -> None:
        self.received: int | None = None

    def __call__(self, number: int, *_: Any) -> None:
        """Take note of the signal, as its handler; a second Ctrl-C is meant and ends the step that runs.

        Raises:
            KeyboardInterrupt: at the second SIGINT.
        """
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number


@contextmanager
def honest_interrupts() -> Iterator[None]:
    """Let Ctrl-C be a KeyboardInterrupt also around a trainer, and let it work afterwards.

    Lightning turns it into a SystemExit with code 1, which looks like a decision of the program, and may leave Ctrl-C
    switched off.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as ending:
        if isinstance(ending.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from ending
        raise
    finally:
        if _in_main_thread() and handler is not None:
            signal.signal(signal.SIGINT, handler)


@contextmanager
def signals_deferred() -> Iterator[Deferred]:
    """Keep the process's own answer to SIGTERM and Ctrl-C back, so that a training can save its step before it ends.

    What has come is delivered again at the end, unless that is an exception. A signal that is ignored stays so.
    """
    deferred = Deferred()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    kept = {number: handler for number, handler in handlers.items() if handler not in (None, signal.SIG_IGN)}
    if not _in_main_thread():
        kept = {}
    for number in kept:
        signal.signal(number, deferred)
    try:
        yield deferred
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    if deferred.received is not None:
        signal.raise_signal(deferred.received)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
