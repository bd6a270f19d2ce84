"""Many questions to a judge at once: how many, how fast, how often again, and when to stop."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from salsa.judging.answer import Answer
from salsa.judging.client import JudgeError, Refused, Temporary, Unusable
from salsa.judging.cost import Budget
from salsa.judging.request import Completion, Request


class Judge(Protocol):
    """What answers one request at a time."""

    async def complete(self, messages: tuple[dict[str, str], ...]) -> Completion:
        """Return the completion, or raise Temporary, Refused or Unusable."""
        ...


@dataclass(frozen=True)
class Limits:
    """How a judge is asked; times in seconds.

    `concurrency` requests are under way at most. One is tried `attempts` times; between them the wait doubles from
    `wait` to `longest_wait`, and is drawn at random between half of it and all of it. Being told to slow down is no
    failed attempt: it holds all requests back, and each bears with it for `patience` in all. After `give_up` requests
    in a row without an answer the judge counts as gone, and the run stops.
    """

    concurrency: int = 8
    attempts: int = 6
    wait: float = 1.0
    longest_wait: float = 60.0
    patience: float = 600.0
    give_up: int = 10

    def __post_init__(self) -> None:
        for name in ("concurrency", "attempts", "give_up"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")


class Schedule:
    """One run over requests; `stopped` says why it ended before the last of them, and is empty if it did not.

    `gone` tells whether that was the judge's doing, and not the end of the budget. `troubled` is told of each attempt
    that failed and is made again.
    """

    def __init__(
        self,
        judge: Judge,
        limits: Limits,
        budget: Budget,
        troubled: Callable[[str], None] = lambda text: None,
        seed: int | None = None,
    ) -> None:
        self.stopped = ""
        self.gone = False
        self._judge = judge
        self._limits = limits
        self._budget = budget
        self._troubled = troubled
        self._random = random.Random(seed)
        self._open_at = 0.0  # nothing is sent before this moment of the loop's clock
        self._unanswered = 0
        self._stopping = asyncio.Event()

    async def run(self, requests: Sequence[Request], answered: Callable[[Answer], None]) -> None:
        """Ask all requests and hand on each answer as it comes; an error of `answered` stops all and is raised.

        A request that was not tried because the run stopped has no answer, one that was tried has failed. What was sent
        before is waited for.
        """
        waiting = iter(requests)
        count = min(self._limits.concurrency, len(requests))
        workers = [asyncio.create_task(self._work(waiting, answered)) for _ in range(count)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, waiting: Iterator[Request], answered: Callable[[Answer], None]) -> None:
        for request in waiting:
            answer = await self._ask(request)
            if answer is None:
                return
            answered(answer)
            self._watch(answer)

    def _watch(self, answer: Answer) -> None:
        if answer.completion is not None:
            self._unanswered = 0
        elif not answer.own:
            self._unanswered += 1
            if self._unanswered >= self._limits.give_up:
                self._stop(f"{self._unanswered} requests in a row had no answer; the last one: {answer.error}")

    async def _ask(self, request: Request) -> Answer | None:
        """Return what became of a request, or None if the run stopped before it was tried."""
        tries = _Tries(request, self._limits.patience)
        while (reserved := await self._turn(request)) is not None:
            found = await self._attempt(tries, reserved)
            if isinstance(found, Completion):
                return tries.answer(found)
            if isinstance(found, Refused):
                return tries.answer(None, str(found), found.own)
            if isinstance(found, Unusable):
                self._stop(str(found))
                return tries.stopped() if tries.calls > 1 else None  # what is said of all requests fails none of them
            assert isinstance(found, Temporary)
            if found.wait is not None and found.wait > self._limits.patience:
                self._stop(f"the endpoint wants to be left alone for {found.wait:.0f} s ({found})")
                break
            if not await self._bear(tries, found):
                return tries.answer(None, f"{found} (attempt {tries.calls}, the last one)")
            self._troubled(str(found))
        return tries.stopped()

    async def _bear(self, tries: "_Tries", error: Temporary) -> bool:
        """Wait for the next attempt; return whether there is one."""
        wait = self._wait(tries.slowed if error.limited else tries.failures, error.wait)
        if error.limited and wait <= tries.patience:
            tries.slowed, tries.patience = tries.slowed + 1, tries.patience - wait
            self._open_at = max(self._open_at, asyncio.get_running_loop().time() + wait)
            return True
        tries.failures += 1
        if tries.failures >= self._limits.attempts:
            return False
        await self._sleep(wait)
        return True

    async def _turn(self, request: Request) -> float | None:
        """Wait until a request may be sent, and return what was reserved for it; None if the run stops."""
        loop = asyncio.get_running_loop()
        while True:
            while not self._stopping.is_set() and (left := self._open_at - loop.time()) > 0:
                await self._sleep(left)
            if self._stopping.is_set():
                return None
            reserved = await self._budget.reserve(request)
            if reserved is None:
                self._stop(self._budget.reason(), gone=False)
                return None
            if not self._stopping.is_set() and self._open_at <= loop.time():
                return reserved
            await self._budget.give_back(reserved)  # all were held back or stopped while it waited for the budget

    async def _attempt(self, tries: "_Tries", reserved: float) -> Completion | JudgeError:
        found: Completion | JudgeError | None = None
        charged: Completion | None = None
        tries.calls += 1
        begun = time.monotonic()
        try:
            found = charged = await self._judge.complete(tries.request.messages)
        except JudgeError as error:
            found, charged = error, error.charged
            tries.error = str(error)
        finally:
            tries.pay(charged, await self._budget.settle(reserved, tries.request, charged))
        tries.seconds = time.monotonic() - begun
        return found

    def _wait(self, before: int, told: float | None) -> float:
        """Return the seconds until the next attempt, after `before` earlier waits for the same reason."""
        if told is not None:
            return told * (1 + self._random.random() / 10)  # not all at the same moment
        longest = min(self._limits.longest_wait, self._limits.wait * 2.0 ** min(before, 60))
        return longest * (0.5 + self._random.random() / 2)

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not beyond the end of the run."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _stop(self, reason: str, gone: bool = True) -> None:
        if not self.stopped:
            self.stopped, self.gone = reason, gone
        self._stopping.set()


@dataclass
class _Tries:
    """What one request has met with so far; `patience` is the time in seconds that it may still be held back."""

    request: Request
    patience: float
    calls: int = 0
    failures: int = 0
    slowed: int = 0
    seconds: float = 0.0
    price: float | None = None
    charged: Completion | None = None
    error: str = ""

    def pay(self, charged: Completion | None, price: float | None) -> None:
        """Count what an attempt cost."""
        self.charged = charged or self.charged
        if price is not None:
            self.price = (self.price or 0.0) + price

    def answer(self, completion: Completion | None, error: str = "", own: bool = False) -> Answer:
        """Return what became of the request, with what all its attempts cost."""
        return Answer(self.request, completion, error, self.price, self.seconds, self.calls, own, self.charged)

    def stopped(self) -> Answer | None:
        """Return the failure that the end of the run makes of it, so that its calls are counted; None without any."""
        if not self.calls:
            return None
        return self.answer(None, f"{self.error} (attempt {self.calls}; then the run stopped)")
