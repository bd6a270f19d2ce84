"""How SIGTERM ends a process: at once, or in a training after the step that runs is saved. Imports no torch."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TERMINATED = 128 + signal.SIGTERM
"""Exit code of a process that was asked to end, as shells report it."""
UNREAD = 128 + signal.SIGPIPE
"""Exit code of a process whose output nobody reads any more (`... | head`)."""
INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C."""


class Terminated(BaseException):
    """This process was asked to end. Like KeyboardInterrupt no failure, so that `except Exception` lets it pass."""


@contextmanager
def terminable() -> Iterator[None]:
    """Raise `Terminated` where SIGTERM arrives, unless something else (such as a launcher) already answers it."""
    default = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not default or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(*_: Any) -> None:
    raise Terminated
