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

    `troubled` is told of each attempt that failed and is made again.
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

        A request that was not settled because the run stopped has no answer. What was sent before is waited for.
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
        """Return what became of a request, or None if the run stopped first."""
        failures, slowed, patience = 0, 0, self._limits.patience
        for attempt in range(1, 1_000_000):
            reserved = await self._turn(request)
            if reserved is None:
                return None
            answer = await self._attempt(request, reserved, attempt)
            if isinstance(answer, Answer):
                return answer
            if isinstance(answer, Unusable):
                self._stop(str(answer))
                return None
            if isinstance(answer, Refused):
                return Answer(request, None, str(answer), None, 0.0, attempt, own=answer.own)
            assert isinstance(answer, Temporary)
            if answer.wait is not None and answer.wait > self._limits.patience:
                self._stop(f"the endpoint wants to be left alone for {answer.wait:.0f} s ({answer})")
                return None
            wait = self._wait(slowed if answer.limited else failures, answer.wait)
            if answer.limited and wait <= patience:
                slowed, patience = slowed + 1, patience - wait
                self._open_at = max(self._open_at, asyncio.get_running_loop().time() + wait)
            else:
                failures += 1
                if failures >= self._limits.attempts:
                    return Answer(request, None, f"{answer} (attempt {attempt}, the last one)", None, 0.0, attempt)
                await self._sleep(wait)
            self._troubled(str(answer))
        raise AssertionError("patience and attempts are finite")

    async def _turn(self, request: Request) -> float | None:
        """Wait until a request may be sent, and return what was reserved for it; None if the run stops."""
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set() and (left := self._open_at - loop.time()) > 0:
            await self._sleep(left)
        if self._stopping.is_set():
            return None
        reserved = await self._budget.reserve(request)
        if reserved is None:
            self._stop(self._budget.reason())
        elif self._stopping.is_set():  # while it waited for the budget
            await self._budget.give_back(reserved)
            return None
        return reserved

    async def _attempt(self, request: Request, reserved: float, attempt: int) -> Answer | JudgeError:
        completion, price, problem = None, None, None
        begun = time.monotonic()
        try:
            completion = await self._judge.complete(request.messages)
        except JudgeError as error:
            problem = error
        finally:
            price = await self._budget.settle(reserved, request, completion)
        if problem is not None:
            return problem
        return Answer(request, completion, "", price, time.monotonic() - begun, attempt)

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

    def _stop(self, reason: str) -> None:
        self.stopped = self.stopped or reason
        self._stopping.set()
