"""Many at once, never more than allowed; held back, tried again, given up and stopped where each is due."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from salsa.judging.answer import Answer
from salsa.judging.client import Refused, Temporary, Unusable
from salsa.judging.cost import Budget, Prices, most_tokens_sent
from salsa.judging.request import Completion
from salsa.judging.schedule import Limits, Schedule
from tests.judging.cases import QUICK, pair_requests

REQUESTS = pair_requests(10)
PRICES = Prices(2.0, 8.0)
Behaviour = Callable[[int], Exception | None]


class Scripted:
    """A judge that fails as it is told by the number of the call, and knows how many asked at once and when."""

    def __init__(self, behaviour: Behaviour, takes: float = 0.0) -> None:
        self.times: list[float] = []
        self.at_once = self.most_at_once = 0
        self._behaviour = behaviour
        self._takes = takes

    async def complete(self, messages: tuple[dict[str, str], ...]) -> Completion:
        number = len(self.times)
        self.times.append(asyncio.get_running_loop().time())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self._takes)
        self.at_once -= 1
        error = self._behaviour(number)
        if error is not None:
            raise error
        return Completion("Verdict: A>B", "stop", "m-1", 100, 10)


def run(
    judge: Scripted, limits: Limits = QUICK, calls: int | None = None, count: int = 20
) -> tuple[Schedule, list[Answer]]:
    """Ask for 20 verdicts and return the schedule and the answers; at most so many seconds."""
    answers: list[Answer] = []

    async def main() -> Schedule:
        schedule = Schedule(judge, limits, Budget(Prices(), 100, max_calls=calls), seed=0)
        await asyncio.wait_for(schedule.run(REQUESTS[:count], answers.append), 20)
        return schedule

    return asyncio.run(main()), answers


def test_all_are_asked_once_and_no_more_at_once_than_allowed() -> None:
    judge = Scripted(lambda number: None, takes=0.002)
    schedule, answers = run(judge)
    assert schedule.stopped == ""
    assert sorted(answer.request.key for answer in answers) == sorted(request.key for request in REQUESTS)
    assert (len(judge.times), judge.most_at_once) == (20, QUICK.concurrency)
    assert run(Scripted(lambda number: None), count=0)[1] == []


def test_what_passes_is_tried_again() -> None:
    schedule, answers = run(Scripted(lambda number: Temporary("HTTP 500") if number < 2 else None), count=1)
    assert [(answer.error, answer.attempts, answer.completion is not None) for answer in answers] == [("", 3, True)]
    assert schedule.stopped == ""


def test_what_does_not_pass_ends_after_the_last_attempt() -> None:
    judge = Scripted(lambda number: Temporary("HTTP 500"))
    _, answers = run(judge, count=1)
    assert [answer.error for answer in answers] == ["HTTP 500 (attempt 3, the last one)"]
    assert len(judge.times) == 3


def test_what_is_refused_is_not_tried_again_and_others_are_asked() -> None:
    judge = Scripted(lambda number: Refused("too long", own=True))
    schedule, answers = run(judge)
    assert len(judge.times) == len(answers) == 20
    assert schedule.stopped == ""


def test_questions_that_moderation_refuses_stop_nothing() -> None:
    judge = Scripted(lambda number: Refused("flagged", own=True) if number < 10 else None)
    schedule, answers = run(judge, replace(QUICK, concurrency=1))
    assert (len(answers), schedule.stopped) == (20, "")


def test_a_bad_key_stops_all_at_once() -> None:
    judge = Scripted(lambda number: Unusable("bad key"))
    schedule, answers = run(judge)
    assert schedule.stopped == "bad key"
    assert answers == []
    assert len(judge.times) <= QUICK.concurrency


@pytest.mark.parametrize("error", [Refused("HTTP 400: no such setting"), Temporary("ConnectError")])
def test_a_judge_that_never_answers_is_given_up(error: Exception) -> None:
    schedule, answers = run(Scripted(lambda number: error), replace(QUICK, concurrency=1))
    assert len(answers) == QUICK.give_up
    assert schedule.stopped.startswith("4 requests in a row had no answer; the last one: ")
    assert str(error) in schedule.stopped


def test_one_that_answers_now_and_then_is_not_given_up() -> None:
    judge = Scripted(lambda number: None if number % 4 == 3 else Refused("HTTP 400"))
    schedule, answers = run(judge, replace(QUICK, concurrency=1))
    assert (len(answers), schedule.stopped) == (20, "")


def test_being_told_to_slow_down_holds_all_back_and_is_no_failure() -> None:
    def behaviour(number: int) -> Exception | None:
        return Temporary("HTTP 429", wait=0.1, limited=True) if number < 3 else None

    judge = Scripted(behaviour)
    schedule, answers = run(judge, replace(QUICK, attempts=1))
    assert (len(answers), schedule.stopped) == (20, "")
    assert all(answer.completion is not None for answer in answers)
    assert min(judge.times[3:]) - max(judge.times[:3]) >= 0.1


def test_patience_with_a_limit_ends() -> None:
    judge = Scripted(lambda number: Temporary("HTTP 429", limited=True))
    _, answers = run(judge, replace(QUICK, patience=0.02), count=1)
    assert [answer.completion for answer in answers] == [None]


def test_a_wait_beyond_patience_stops_the_run() -> None:
    schedule, answers = run(Scripted(lambda number: Temporary("HTTP 429", wait=3600.0, limited=True)))
    assert {answer.error for answer in answers} == {"HTTP 429 (attempt 1; then the run stopped)"}
    assert len(answers) == QUICK.concurrency
    assert schedule.stopped == "the endpoint wants to be left alone for 3600 s (HTTP 429)"


@pytest.mark.parametrize("last", [None, Unusable("no money")])
def test_what_was_tried_before_the_run_stopped_has_failed_with_its_calls(last: Exception | None) -> None:
    """None: the limit of calls ends the run."""
    judge = Scripted(lambda number: Temporary("HTTP 500") if number < 2 else last)
    schedule, answers = run(judge, replace(QUICK, concurrency=1), calls=2 if last is None else None)
    error = "HTTP 500 (attempt 2; then" if last is None else "no money (attempt 3; then"
    assert [answer.error for answer in answers] == [f"{error} the run stopped)"]
    assert answers[0].attempts == len(judge.times)
    assert schedule.stopped == (str(last) if last else "the limit of 2 calls is reached")


def test_what_waited_for_the_budget_is_held_back_too() -> None:
    """The second request waits for money until the first is told to slow down, and then as long as that one."""
    most = PRICES.price(most_tokens_sent(REQUESTS[0]), 100)
    assert most is not None
    judge = Scripted(lambda number: Temporary("HTTP 429", wait=0.1, limited=True) if number == 0 else None)
    budget = Budget(PRICES, 100, max_cost=most * 1.5)
    asyncio.run(Schedule(judge, QUICK, budget, seed=0).run(REQUESTS[:2], lambda answer: None))
    assert len(judge.times) == 3
    assert min(judge.times[1:]) - judge.times[0] >= 0.1


def test_attempts_that_said_nothing_are_paid_for() -> None:
    def behaviour(number: int) -> Exception | None:
        error = Temporary("the completion is empty")
        error.charged = Completion("", "stop", "m-1", 100, 50)
        return error if number < 2 else None

    async def main() -> tuple[Budget, list[Answer]]:
        answers: list[Answer] = []
        budget = Budget(PRICES, 100)
        await Schedule(Scripted(behaviour), QUICK, budget).run(REQUESTS[:1], answers.append)
        return budget, answers

    budget, answers = asyncio.run(main())
    assert budget.spent == pytest.approx((300 * 2 + 110 * 8) / 1e6)
    assert [answer.price for answer in answers] == [pytest.approx(budget.spent)]


@pytest.mark.parametrize("calls", [0, 1, 7, 20])
def test_a_budget_of_calls_is_kept_and_said(calls: int) -> None:
    judge = Scripted(lambda number: None, takes=0.001)
    schedule, answers = run(judge, calls=calls)
    assert len(judge.times) == len(answers) == calls
    assert schedule.stopped == ("" if calls == 20 else f"the limit of {calls} calls is reached")


def test_attempts_count_as_calls() -> None:
    judge = Scripted(lambda number: Temporary("HTTP 500") if number % 2 else None)
    _, answers = run(judge, replace(QUICK, concurrency=1), calls=5)
    assert len(judge.times) == 5
    assert len(answers) == 3


def test_a_long_wait_ends_with_the_run() -> None:
    def behaviour(number: int) -> Exception | None:
        return Temporary("HTTP 500") if number == 0 else Unusable("bad key")

    schedule, _ = run(Scripted(behaviour), replace(QUICK, wait=60.0, longest_wait=60.0))
    assert schedule.stopped == "bad key"


def test_an_error_of_who_writes_ends_the_run() -> None:
    def write(answer: Answer) -> None:
        raise OSError("full")

    async def main() -> None:
        await Schedule(Scripted(lambda number: None), QUICK, Budget(Prices(), 100)).run(REQUESTS, write)

    with pytest.raises(OSError, match="full"):
        asyncio.run(main())


def test_limits_that_cannot_be_are_named() -> None:
    with pytest.raises(ValueError, match="concurrency is 0"):
        Limits(concurrency=0)
