"""What judging costs: estimated before, counted while it runs, kept within a budget."""

import asyncio
import math
from collections.abc import Iterable
from dataclasses import dataclass

from salsa.judging.request import Completion, Request

BYTES_A_TOKEN = 4
"""Estimates take a token for four bytes of UTF-8: close for English, high for code."""
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

    `price` takes a usual length of the verdicts, `highest` the longest that max_tokens allows; None without prices.
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


def estimate(requests: Iterable[Request], max_tokens: int, prices: Prices) -> Estimate:
    """Return what requests will about cost."""
    sent = [tokens_sent(request) for request in requests]
    out = len(sent) * min(EXPECTED_OUT, max_tokens)
    return Estimate(
        requests=len(sent),
        tokens_in=sum(sent),
        tokens_out=out,
        price=prices.price(sum(sent), out),
        highest=prices.price(sum(sent), len(sent) * max_tokens),
    )


class Budget:
    """Calls and money that may be spent; stops before either limit is passed.

    Each call first reserves the most that it may cost, so that calls under way cannot pass the limit together. An
    attempt without a completion costs a call and no money: what an endpoint charges for it is not known. `calls`
    and `spent` start with what earlier runs into the same file have spent.
    """

    def __init__(
        self,
        prices: Prices,
        max_tokens: int,
        max_calls: int | None = None,
        max_cost: float | None = None,
        calls: int = 0,
        spent: float = 0.0,
    ) -> None:
        if max_cost is not None and not prices.known:
            raise ValueError("a limit of money needs the prices of tokens: --price-in and --price-out")
        self.prices = prices
        self.calls = calls
        self.spent = spent
        self.guessed = 0
        self._max_tokens = max_tokens
        self._max_calls = max_calls
        self._max_cost = max_cost
        self._reserved = 0.0
        self._changed = asyncio.Condition()

    async def reserve(self, request: Request) -> float | None:
        """Reserve one call and return the money that it may cost; None if the budget does not allow it.

        Waits while calls under way may leave enough.
        """
        most = self.prices.price(tokens_sent(request), self._max_tokens) or 0.0
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
        """Give back what was reserved, count what the completion cost, and return that; None if it is not known."""
        price = None
        if completion is not None:
            price = self.prices.price(completion.tokens_in, completion.tokens_out)
            if price is None and self.prices.known:
                guess = self.prices.price(tokens_sent(request), tokens(completion.text))
                self.spent += guess or 0.0
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
