"""Threads that share a sequence of tasks, for work that spends its time outside Python: files and arrays."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

Task = TypeVar("Task")

MOST_THREADS = 4
"""Threads where nobody says how many; more of them only wait for memory and disk."""


def usual_threads() -> int:
    """Return the number of processors that this process may run on, at most `MOST_THREADS`."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, MOST_THREADS)


def share(
    tasks: Iterable[Task], hire: Callable[[], Callable[[Task], int]], threads: int, done: Callable[[int], None]
) -> None:
    """Do all tasks in threads, each with a worker of its own from `hire`, which returns how much a task was.

    Tasks are taken in order, and made one at a time. `done` is called in this thread with each amount. After an error
    no further task is taken; of several errors that of the earliest task is raised, so that it is the same one whatever
    the number of threads. No thread is left at the end.
    """
    crew = _Crew(tasks)
    members = [threading.Thread(target=crew.work, args=(hire,), daemon=True) for _ in range(max(threads, 1))]
    started = []
    try:
        for member in members:
            member.start()
            started.append(member)
        for _ in members:
            while (amount := crew.amounts.get()) is not None:
                done(amount)
    finally:
        crew.stop()
        for member in started:
            member.join()
    crew.complain()


class _Crew(Generic[Task]):
    """What the threads have in common."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.amounts: SimpleQueue[int | None] = SimpleQueue()
        self._tasks: Iterator[Task] = iter(tasks)
        self._taken = 0
        self._stopping = False
        self._lock = threading.Lock()
        self._errors: list[tuple[int, BaseException]] = []

    def work(self, hire: Callable[[], Callable[[Task], int]]) -> None:
        """Take tasks until there are none, or one has failed; put None at the end."""
        number = 0
        try:
            do = hire()
            while True:
                with self._lock:
                    number = self._taken
                    self._taken += 1
                    if self._stopping:
                        return
                    try:
                        task = next(self._tasks)
                    except StopIteration:
                        return
                self.amounts.put(do(task))
        except BaseException as error:
            self._errors.append((number, error))
            self.stop()
        finally:
            self.amounts.put(None)

    def stop(self) -> None:
        """Let no further task be taken."""
        self._stopping = True

    def complain(self) -> None:
        """Raise the error of the earliest task that failed, if one did."""
        if self._errors:
            raise min(self._errors, key=lambda entry: entry[0])[1]
