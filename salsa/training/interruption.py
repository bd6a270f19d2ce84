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
    """Whether SIGTERM has come while it was deferred."""

    def __init__(self) -> None:
        self.received = False

    def __call__(self, *_: Any) -> None:
        """Take note of the signal, as its handler."""
        self.received = True


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
def sigterm_deferred() -> Iterator[Deferred]:
    """Keep the process's own answer to SIGTERM back, so that a training can save its step before it ends.

    A SIGTERM that came too late to end the training is delivered again at the end, unless that is an exception.
    """
    deferred = Deferred()
    handler = signal.getsignal(signal.SIGTERM)
    if not _in_main_thread() or handler is None:
        yield deferred
        return
    signal.signal(signal.SIGTERM, deferred)
    try:
        yield deferred
    finally:
        signal.signal(signal.SIGTERM, handler)
    if deferred.received:
        signal.raise_signal(signal.SIGTERM)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
