"""What judging will cost, before anything is asked, as far as a plan can tell. Imports no torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.plan import Plan, Stage
from salsa.store.artifact import Store

BYTES_A_TOKEN = 4
USUAL_OUT = 300
"""Tokens of a verdict with its explanation; this and the former as in `salsa.judging.cost`."""
QUESTION_TOKENS = 100
"""Of a question whose text is not at hand."""
PROMPT_TOKENS = 400
"""Of a judge's prompt around what is judged."""


@dataclass(frozen=True)
class Tokens:
    """What a judge is asked: calls, tokens that it reads if replies are as long as they may be, and what it writes.

    `out` takes verdicts of a usual length, `most_out` the longest that are allowed.
    """

    calls: int = 0
    read: int = 0
    out: int = 0
    most_out: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(
            self.calls + other.calls, self.read + other.read, self.out + other.out, self.most_out + other.most_out
        )


@dataclass(frozen=True)
class Expense:
    """What a judge will be asked; `prices` are those of a million tokens (None: no price list).

    `counted` tells whether all questions were at hand to be counted.
    """

    judge: str
    tokens: Tokens
    prices: tuple[float | None, float | None]
    counted: bool

    def price(self, out: int) -> float | None:
        """Return what it costs if the judge writes so many tokens."""
        price_in, price_out = self.prices
        if price_in is None or price_out is None:
            return None
        return (self.tokens.read * price_in + out * price_out) / 1e6

    def __str__(self) -> str:
        known = self.tokens
        text = f"judge {self.judge}: {'at most' if self.counted else 'about'} {known.calls:,} calls, "
        text += f"about {_short(known.read)} tokens in and {_short(known.out)} out (at most {_short(known.most_out)})"
        usual, most = self.price(known.out), self.price(known.most_out)
        if usual is None or most is None:
            return f"{text}; no price list (judge.price_in)"
        return f"{text}; about {usual:,.2f}, at most {most:,.2f}"


def expenses(plan: Plan, store: Store) -> list[Expense]:
    """Return what each endpoint will be asked for the verdicts that are not stored."""
    found: dict[str, list[Stage]] = {}
    for stage in plan:
        asks = stage.kind == "verdicts" and "endpoint" in stage.execution
        if asks and store.find(stage.kind, stage.fingerprint) is None:
            found.setdefault(stage.execution["judge"], []).append(stage)
    return [_expense(judge, stages) for judge, stages in found.items()]


def _expense(judge: str, stages: Sequence[Stage]) -> Expense:
    price_in, price_out = stages[0].execution["prices"]
    counted = all(stage.execution["expected"].get("turns") is not None for stage in stages)
    return Expense(judge, sum(map(_tokens, stages), Tokens()), (price_in, price_out), counted)


def _tokens(stage: Stage) -> Tokens:
    """Return what one comparison asks; a later turn is read with the ones before it."""
    expected: Mapping[str, Any] = stage.execution["expected"]
    turns = expected["turns"] or expected["questions"]
    replies = 1 if stage.config["kind"] == "single" else 2
    calls = replies * turns  # as many orders as replies
    text = expected.get("bytes")
    questions = QUESTION_TOKENS * turns if text is None else math.ceil(text / BYTES_A_TOKEN)
    other = expected.get("baseline")
    own = replies if other is None else replies - 1
    shown = questions + own * turns * expected["reply"] + math.ceil((other or 0) / BYTES_A_TOKEN)
    depth = (1 + turns / max(expected["questions"], 1)) / 2
    longest = stage.execution["endpoint"]["max_tokens"]
    return Tokens(
        calls,
        math.ceil(replies * depth * shown) + PROMPT_TOKENS * calls,
        calls * min(USUAL_OUT, longest),
        calls * longest,
    )


def _short(count: int) -> str:
    for unit, size in (("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return str(count)
