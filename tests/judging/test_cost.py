"""Costs are estimated before, counted, and kept within the budget by calls that are under way together."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.judging.cost import Budget, Prices, estimate, most_tokens_sent, tokens, tokens_sent
from salsa.judging.request import Completion
from tests.judging.cases import pair_requests

PRICES = Prices(2.0, 8.0)


def test_prices_are_per_million_tokens() -> None:
    assert PRICES.price(1_000_000, 500_000) == pytest.approx(6.0)
    assert PRICES.price(None, 10) is None
    assert Prices(2.0, None).price(10, 10) is None


def test_estimates_take_four_bytes_for_a_token() -> None:
    assert [tokens(text) for text in ("", "abc", "abcd", "abcde", "日本")] == [0, 1, 1, 2, 2]
    requests = pair_requests(3)
    found = estimate(requests, 2048, PRICES)
    assert (found.requests, found.tokens_in) == (6, sum(map(tokens_sent, requests)))
    assert found.price == pytest.approx((2 * found.tokens_in + 8 * found.tokens_out) / 1e6)
    assert found.highest == pytest.approx((2 * found.tokens_in + 8 * 6 * 2048) / 1e6)
    assert estimate(requests, 2048, Prices()).price is None
    assert estimate(requests, None, PRICES).price == found.price
    assert estimate(requests, None, PRICES).highest is None
    assert estimate(requests, 10, PRICES).price == estimate(requests, 10, PRICES).highest


def test_a_limit_of_money_needs_prices() -> None:
    with pytest.raises(ValueError, match="--price-in"):
        Budget(Prices(), 100, max_cost=1.0)
    with pytest.raises(ValueError, match="max_tokens"):
        Budget(PRICES, None, max_cost=1.0)


@given(st.integers(1, 20), st.integers(1, 8), st.floats(0.0001, 0.02), st.integers(1, 100))
def test_money_is_never_passed_however_many_ask_together(count: int, workers: int, most: float, written: int) -> None:
    """Where an endpoint counts no more tokens than were reserved: one for two bytes, and max_tokens."""
    request = pair_requests(1)[0]
    sent = sum(len(message["content"].encode()) for message in request.messages) // 2
    completion = Completion("x", "stop", "", sent, written)

    async def worker(budget: Budget, left: list[int]) -> None:
        while left:
            left.pop()
            reserved = await budget.reserve(request)
            if reserved is None:
                return
            await asyncio.sleep(0)
            await budget.settle(reserved, request, completion)

    async def run() -> Budget:
        budget = Budget(PRICES, 100, max_cost=most)
        left = list(range(count))
        await asyncio.wait_for(asyncio.gather(*(worker(budget, left) for _ in range(workers))), 5)
        return budget

    budget = asyncio.run(run())
    each, highest = PRICES.price(sent, written), PRICES.price(most_tokens_sent(request), 100)
    assert each is not None
    assert highest is not None
    assert budget.spent <= most * (1 + 1e-9)
    assert budget.calls == count or budget.spent + highest > most
    assert budget.spent == pytest.approx(budget.calls * each)


def test_what_earlier_runs_spent_counts() -> None:
    async def run() -> list[float | None]:
        request = pair_requests(1)[0]
        calls = Budget(PRICES, 100, max_calls=3, calls=2)
        money = Budget(PRICES, 100, max_cost=1.0, spent=0.9999)
        return [await calls.reserve(request), await calls.reserve(request), await money.reserve(request)]

    first, second, third = asyncio.run(run())
    assert first is not None
    assert (second, third) == (None, None)


def test_an_endpoint_that_counts_no_tokens_is_estimated_and_said() -> None:
    async def run() -> tuple[float | None, Budget]:
        request = pair_requests(1)[0]
        budget = Budget(PRICES, 100)
        reserved = await budget.reserve(request)
        assert reserved is not None
        return await budget.settle(reserved, request, Completion("x" * 40)), budget

    price, budget = asyncio.run(run())
    assert budget.guessed == 1
    assert price == budget.spent == pytest.approx(PRICES.price(tokens_sent(pair_requests(1)[0]), 10))
