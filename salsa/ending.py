"""How a command ends when it is told to: as Ctrl-C ends it, so that nothing half-written is left."""

import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

Result = TypeVar("Result")


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


def run_async(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end; what answers SIGTERM by an exception cancels it first.

    What a signal's handler raises within asyncio's own code is taken there for the failure of a connection, and lost;
    for Ctrl-C alone asyncio sees to it. Raises what the handler raises.
    """
    import asyncio  # the command line must stay quick

    answer = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(answer):
        return asyncio.run(work)
    raised: list[BaseException] = []

    async def main() -> Result:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def caught(number: int, frame: FrameType | None) -> None:
            try:
                answer(number, frame)
            except BaseException as error:  # whatever ends the work, and nothing that does not
                if not raised and task is not None:
                    loop.call_soon_threadsafe(task.cancel)  # which also wakes the loop
                raised.append(error)

        signal.signal(signal.SIGTERM, caught)
        return await work

    try:
        return asyncio.run(main())
    finally:
        signal.signal(signal.SIGTERM, answer)
        if raised:
            raise raised[0]


def _end(number: int, *_: Any) -> None:
    raise SystemExit(128 + number)
