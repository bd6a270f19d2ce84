"""What one log of verdicts may cost holds over all runs, whatever an endpoint counts, answers or refuses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from salsa.judging.cost import Prices, tokens, tokens_sent
from salsa.judging.judgment import Outcome, Spending, judge
from salsa.judging.log import VerdictLog
from tests.judging.cases import QUICK, endpoint, pair_requests, single_requests
from tests.judging.server import Script, serving

REQUESTS = pair_requests(2)
PRICES = Prices(2.0, 8.0)
GOOD = "Both are fine.\nVerdict: A>B"
ONE_BY_ONE = replace(QUICK, concurrency=1)


def run(path: Path, script: Script, spending: Spending, **changes: Any) -> tuple[Outcome, int]:
    """Return what became of four requests, and how many calls came in."""
    with serving(script) as server, VerdictLog(path) as log:
        outcome = judge(REQUESTS, endpoint(server.url, **changes), log, ONE_BY_ONE, spending)
        return outcome, server.calls


def spent(path: Path) -> tuple[int, float]:
    """Return the calls and the money that a log knows of."""
    with VerdictLog(path) as log:
        return log.calls, log.spent


def test_a_limit_of_length_in_the_body_is_the_one_that_is_reserved(tmp_path: Path) -> None:
    """The 2048 of max_tokens would fit into the budget, 100,000 do not."""
    body = {"max_tokens": None, "max_completion_tokens": 100_000}
    outcome, calls = run(
        tmp_path / "v.jsonl", lambda exchange: exchange.say(GOOD), Spending(PRICES, None, 0.5), body=body
    )
    assert calls == 0
    assert "may cost more" in outcome.stopped


def test_what_was_not_counted_is_remembered_as_it_was_estimated(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    outcome, _ = run(path, lambda exchange: exchange.say(GOOD, usage=None), Spending(PRICES))
    estimated = sum((PRICES.price(tokens_sent(request), tokens(GOOD)) or 0.0) for request in REQUESTS)
    assert (outcome.guessed, outcome.cost) == (4, pytest.approx(estimated))
    assert spent(path) == (4, pytest.approx(estimated))


def test_money_is_limited_over_all_runs(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    spending = Spending(PRICES, max_cost=0.004)
    first, calls = run(path, lambda exchange: exchange.say(GOOD, usage=None), spending, max_tokens=300)
    assert 0 < calls < 4
    assert "may cost more" in first.stopped
    second, calls = run(path, lambda exchange: exchange.say(GOOD, usage=None), spending, max_tokens=300)
    assert calls == 0
    assert second.stopped == first.stopped


def test_calls_are_limited_over_all_runs_also_those_without_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    _, calls = run(path, lambda exchange: exchange.fail(500), Spending(max_calls=2))
    assert (calls, spent(path)) == (2, (2, 0.0))
    _, calls = run(path, lambda exchange: exchange.say(GOOD), Spending(max_calls=3))
    assert (calls, spent(path)) == (1, (3, 0.0))


def test_a_number_too_large_to_be_one_is_unparsed_and_not_paid_again(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    asked = [replace(request, grammar="fastchat_score") for request in single_requests(1)]

    def ask() -> tuple[Outcome, int]:
        with serving(lambda exchange: exchange.say(f"[[{'9' * 400}]]")) as server, VerdictLog(path) as log:
            return judge(asked, endpoint(server.url), log, ONE_BY_ONE, Spending(PRICES)), server.calls

    outcome, calls = ask()
    assert (calls, outcome.counts["unparsed"], outcome.stopped) == (1, 1, "")
    assert ask()[1] == 0


@pytest.mark.parametrize("finish", ["length", "content_filter", "stop"])
def test_what_is_charged_for_silence_is_counted(tmp_path: Path, finish: str) -> None:
    path = tmp_path / "v.jsonl"
    outcome, calls = run(path, lambda exchange: exchange.say("", finish, (100, 50)), Spending(PRICES))
    assert outcome.cost == pytest.approx(calls * (100 * 2 + 50 * 8) / 1e6)
    assert spent(path) == (calls, pytest.approx(outcome.cost))
    assert {(found.status, found.tokens_in, found.tokens_out) for found in outcome.verdicts} == {("failed", 100, 50)}
