"""What judging costs: estimated before, counted while it runs, kept within a budget."""

import asyncio
import math
from collections.abc import Iterable
from dataclasses import dataclass

from salsa.judging.request import Completion, Request

BYTES_A_TOKEN = 4
"""Estimates take a token for four bytes of UTF-8: close for English, low for code and other languages."""
FEWEST_BYTES_A_TOKEN = 2
"""Reservations take a token for two bytes: little text has more tokens than that."""
EXPECTED_OUT = 300
"""Tokens of a usual verdict with its explanation; estimates take them, or the limit if that is lower."""
_OVERHEAD = 8  # tokens around each message


@dataclass(frozen=True)
class Prices:
    """Prices per million tokens, in any unit of money; None where they are not known."""

    tokens_in: float | None = None
    tokens_out: float | None = None

    @property
    def known(self) -> bool:
        """Whether both prices are known."""
        return self.tokens_in is not None and self.tokens_out is not None

    def price(self, tokens_in: int | None, tokens_out: int | None) -> float | None:
        """Return what these tokens cost; None if a price or a count is not known."""
        if self.tokens_in is None or self.tokens_out is None or tokens_in is None or tokens_out is None:
            return None
        return (tokens_in * self.tokens_in + tokens_out * self.tokens_out) / 1e6


@dataclass(frozen=True)
class Estimate:
    """What requests will cost, as estimated from the length of their text.

    `price` takes a usual length of the verdicts, `highest` the longest that is allowed; None without prices, and
    `highest` also where nothing limits the length.
    """

    requests: int
    tokens_in: int
    tokens_out: int
    price: float | None
    highest: float | None


def tokens(text: str) -> int:
    """Return about how many tokens a text has."""
    return math.ceil(len(text.encode("utf-8", errors="surrogatepass")) / BYTES_A_TOKEN)


def tokens_sent(request: Request) -> int:
    """Return about how many tokens a request has."""
    return sum(tokens(message["content"]) + _OVERHEAD for message in request.messages)


def most_tokens_sent(request: Request) -> int:
    """Return how many tokens a request has at most, as far as its length can tell."""
    sizes = (len(message["content"].encode("utf-8", errors="surrogatepass")) for message in request.messages)
    return sum(math.ceil(size / FEWEST_BYTES_A_TOKEN) + _OVERHEAD for size in sizes)


def estimate(requests: Iterable[Request], longest: int | None, prices: Prices) -> Estimate:
    """Return what requests will about cost; a completion has `longest` tokens at most (None: no limit)."""
    sent = [tokens_sent(request) for request in requests]
    out = len(sent) * (EXPECTED_OUT if longest is None else min(EXPECTED_OUT, longest))
    return Estimate(
        requests=len(sent),
        tokens_in=sum(sent),
        tokens_out=out,
        price=prices.price(sum(sent), out),
        highest=prices.price(sum(sent), None if longest is None else len(sent) * longest),
    )


class Budget:
    """Calls and money that may be spent; stops before either limit is passed.

    Each call first reserves the most that it may cost, so that calls under way cannot pass the limit together: a token
    for every two bytes that are sent, and the longest answer. Text of more tokens than that may pass the limit. An
    attempt without a completion costs a call, and money only if the endpoint counted its tokens. `calls` and `spent`
    start with what earlier runs into the same file have spent; `guessed` counts the completions whose price is
    estimated, because the endpoint counted no tokens.
    """

    def __init__(
        self,
        prices: Prices,
        longest: int | None,
        max_calls: int | None = None,
        max_cost: float | None = None,
        calls: int = 0,
        spent: float = 0.0,
    ) -> None:
        if max_cost is not None and not prices.known:
            raise ValueError("a limit of money needs the prices of tokens: --price-in and --price-out")
        if max_cost is not None and longest is None:
            raise ValueError("a limit of money needs one of the length of completions: max_tokens")
        self.prices = prices
        self.calls = calls
        self.spent = spent
        self.guessed = 0
        self._longest = longest
        self._max_calls = max_calls
        self._max_cost = max_cost
        self._reserved = 0.0
        self._changed = asyncio.Condition()

    async def reserve(self, request: Request) -> float | None:
        """Reserve one call and return the money that it may cost; None if the budget does not allow it.

        Waits while calls under way may leave enough.
        """
        most = self.prices.price(most_tokens_sent(request), self._longest) or 0.0
        async with self._changed:
            while True:
                if self._max_calls is not None and self.calls >= self._max_calls:
                    return None
                if self._max_cost is None or self.spent + self._reserved + most <= self._max_cost:
                    self.calls += 1
                    self._reserved += most
                    return most
                if self._reserved <= 0.0:
                    return None
                await self._changed.wait()

    async def settle(self, reserved: float, request: Request, completion: Completion | None) -> float | None:
        """Give back what was reserved, count what the completion cost, and return that; None without prices.

        What the endpoint counted no tokens for is estimated from the length of the text.
        """
        price = None
        if completion is not None:
            price = self.prices.price(completion.tokens_in, completion.tokens_out)
            if price is None and self.prices.known:
                price = self.prices.price(tokens_sent(request), tokens(completion.text))
                self.guessed += 1
            self.spent += price or 0.0
        await self._release(reserved)
        return price

    async def give_back(self, reserved: float) -> None:
        """Take back a reservation that no call was made for."""
        self.calls -= 1
        await self._release(reserved)

    async def _release(self, reserved: float) -> None:
        async with self._changed:
            self._reserved -= reserved
            if self._reserved < 1e-12:  # sums of floats need not come back to 0
                self._reserved = 0.0
            self._changed.notify_all()

    def reason(self) -> str:
        """Return which limit was reached, in words."""
        if self._max_calls is not None and self.calls >= self._max_calls:
            return f"the limit of {self._max_calls} calls is reached"
        return f"{self.spent:.4f} of {self._max_cost:.4f} is spent, and the next call may cost more than what is left"
