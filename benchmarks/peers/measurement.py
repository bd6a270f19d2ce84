"""What a training step costs in this process: CPU time and memory."""

import itertools
import resource
import time

from benchmarks.peers.floor import Operations


def peak_mebibytes() -> float:
    """Return the largest resident size so far, in MiB (as Linux counts it: `ru_maxrss` is in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Steps:
    """Notes the CPU time at the end of each of `count` steps; counts the operations of the step behind them.

    `begin` and `end` are to be called where a step begins and ends.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._stamps: list[float] = []
        self.peak_mebibytes = 0.0

    def begin(self, step: int, operations: Operations) -> None:
        """Begin counting where the measured steps (from 0) are over."""
        if step == self._count:
            self.peak_mebibytes = peak_mebibytes()
            operations.start()

    def end(self, done: int, steps: int, text: str) -> None:
        """Note the time; a `progress` of `salsa.training.loop.fit`."""
        self._stamps.append(time.process_time())

    @property
    def seconds(self) -> list[float]:
        """CPU seconds of each step but the first, which warms up."""
        measured = self._stamps[: self._count]
        return [late - early for early, late in itertools.pairwise(measured)]
