"""Judging: requests to a judge, verdicts into a log, and an account of both."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from salsa.ending import run_async
from salsa.judging import functions, verdict
from salsa.judging.answer import Answer, as_asked, shared
from salsa.judging.answer import verdict as as_verdict
from salsa.judging.client import Client
from salsa.judging.cost import Budget, Prices
from salsa.judging.endpoint import Endpoint
from salsa.judging.functions import Function
from salsa.judging.log import VerdictLog
from salsa.judging.request import Request
from salsa.judging.schedule import Limits, Schedule
from salsa.judging.verdict import Verdict


@dataclass(frozen=True)
class Spending:
    """What tokens cost, and the most calls and money that one log of verdicts may cost over all runs."""

    prices: Prices = field(default_factory=Prices)
    max_calls: int | None = None
    max_cost: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of requests: `verdicts` in their order, without those that have none yet.

    `before` of them were in the log, which also holds `others`; those that ask the same of other models share a call.
    `calls` were made now and cost `cost`; of that the price of `guessed` answers is estimated, because the endpoint did
    not count their tokens. `stopped` says why the run ended early, if it did, and `gone` whether that was the judge's
    doing: it would answer no other request either.
    """

    requests: int
    verdicts: tuple[Verdict, ...]
    before: int
    others: int
    calls: int
    cost: float | None
    guessed: int
    stopped: str
    seconds: float
    gone: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """How many were sent, judged, unparsed and failed, over this and earlier runs, and how many are left."""
        counts = verdict.counts(self.verdicts)
        return counts | {"left": self.requests - counts["sent"]}

    @property
    def complete(self) -> bool:
        """Whether every request has a completion, parsed or not."""
        counts = self.counts
        return counts["left"] == counts["failed"] == 0


Watch = Callable[[Verdict], None]


def waiting(requests: Iterable[Request], known: Mapping[str, Verdict], ask_again: bool = False) -> list[Request]:
    """Return the requests that have no completion yet, each once; with `ask_again` also those not parsed."""
    open_ = ("failed", "unparsed") if ask_again else ("failed",)
    once = {request.key: request for request in requests}
    return [
        request for key, request in once.items() if key not in known or as_asked(known[key], request).status in open_
    ]


def distinct(requests: Iterable[Request], known: Mapping[str, Verdict], ask_again: bool = False) -> list[Request]:
    """Return the requests that need a call: of those that ask the same of other models one, of known ones none."""
    said = _by_content(known, ask_again)
    once: dict[str, Request] = {}
    for request in requests:
        if request.content not in said:
            once.setdefault(request.content, request)
    return list(once.values())


def judge(
    requests: Sequence[Request],
    judge: Endpoint | Function,
    log: VerdictLog,
    limits: Limits,
    spending: Spending,
    watch: Watch = lambda found: None,
    troubled: Callable[[str], None] = lambda text: None,
    ask_again: bool = False,
) -> Outcome:
    """Ask for the verdicts that the log does not have, write each as it comes, and return what became of all.

    `watch` is told of each verdict, `troubled` of each attempt that failed and is made again. What is in the log and
    could not be parsed is asked once more with `ask_again`.

    Raises:
        LogError: if a verdict cannot be written.
        EndpointError, JudgeError: if the judge cannot be asked at all.
        What a handler of SIGTERM raises, if that arrives.
    """
    by_key = {request.key: request for request in requests}
    left = waiting(requests, log.verdicts, ask_again)
    asked = distinct(left, log.verdicts, ask_again)
    begun, calls, spent = time.monotonic(), log.calls, log.spent
    keeper = _Keeper(left, log, watch)
    keeper.share(_by_content(log.verdicts, ask_again))
    guessed, stopped, gone = 0, "", False
    if isinstance(judge, Endpoint):
        limit = Budget(spending.prices, judge.longest, spending.max_calls, spending.max_cost, calls=calls, spent=spent)
        schedule = run_async(_ask(judge, asked, limits, limit, keeper.answered, troubled))
        stopped, gone = schedule.stopped, schedule.gone
        calls, spent, guessed = limit.calls - calls, limit.spent - spent, limit.guessed
    else:
        functions.ask(judge, asked, limits.concurrency, keeper.answered)
        calls, spent = len(asked), 0.0
    return Outcome(
        requests=len(by_key),
        verdicts=tuple(as_asked(log.verdicts[key], each) for key, each in by_key.items() if key in log.verdicts),
        before=len(by_key) - len(left),
        others=len(log.verdicts.keys() - by_key.keys()),
        calls=calls,
        cost=spent if spending.prices.known else None,
        guessed=guessed,
        stopped=stopped,
        seconds=time.monotonic() - begun,
        gone=gone,
    )


class _Keeper:
    """Writes verdicts into the log, each also for the requests that ask the same of other models."""

    def __init__(self, requests: Sequence[Request], log: VerdictLog, watch: Watch) -> None:
        self._log, self._watch = log, watch
        self._alike: dict[str, list[Request]] = {}
        for request in requests:
            self._alike.setdefault(request.content, []).append(request)

    def share(self, said: Mapping[str, Verdict]) -> None:
        """Keep what was said before of the same contents."""
        for content in self._alike.keys() & said.keys():
            for request in self._alike.pop(content):
                self._keep(shared(said[content], request))

    def answered(self, answer: Answer) -> None:
        """Keep an answer that came just now."""
        found = as_verdict(answer)
        self._keep(found)
        for request in self._alike.pop(answer.request.content):
            if request is not answer.request:
                self._keep(shared(found, request))

    def _keep(self, found: Verdict) -> None:
        self._log.append(found)
        self._watch(found)


def _by_content(known: Mapping[str, Verdict], ask_again: bool) -> dict[str, Verdict]:
    """Return what was said of each content, without what is to be asked again."""
    open_ = ("failed", "unparsed") if ask_again else ("failed",)
    return {found.content: found for found in known.values() if found.content and found.status not in open_}


async def _ask(
    endpoint: Endpoint,
    requests: Sequence[Request],
    limits: Limits,
    budget: Budget,
    answered: Callable[[Answer], None],
    troubled: Callable[[str], None],
) -> Schedule:
    async with Client(endpoint, limits.concurrency) as client:
        schedule = Schedule(client, limits, budget, troubled)
        await schedule.run(requests, answered)
    return schedule
