"""What judging will cost, before anything is asked, as far as a plan can tell. Imports no torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines import judges
from pipelines.plan import Plan, Stage
from salsa.store.artifact import Store

QUESTION_TOKENS = 100
"""Of a question whose text is not at hand."""
PROMPT_TOKENS = 400
"""Of a judge's prompt around what is judged."""


@dataclass(frozen=True)
class Tokens:
    """What a judge is asked: calls, tokens that it reads if replies are as long as they may be, and what it writes.

    `out` takes verdicts of a usual length, `most_out` the longest that are allowed (None: nothing limits them).
    """

    calls: int = 0
    read: int = 0
    out: int = 0
    most_out: int | None = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        limited = self.most_out is not None and other.most_out is not None
        most_out = (self.most_out or 0) + (other.most_out or 0) if limited else None
        return Tokens(self.calls + other.calls, self.read + other.read, self.out + other.out, most_out)


@dataclass(frozen=True)
class Expense:
    """What a judge will be asked; `prices` are those of a million tokens (None: no price list).

    `counted` tells whether all questions were at hand to be counted, `before` whether there are verdicts of earlier
    stages, of which some may serve for these.
    """

    judge: str
    tokens: Tokens
    prices: tuple[float | None, float | None]
    counted: bool
    before: bool = False

    def price(self, out: int | None) -> float | None:
        """Return what it costs if the judge writes so many tokens (None: nobody knows how many)."""
        price_in, price_out = self.prices
        if price_in is None or price_out is None or out is None:
            return None
        return (self.tokens.read * price_in + out * price_out) / 1e6

    def __str__(self) -> str:
        known = self.tokens
        text = f"judge {self.judge}: {'at most' if self.counted else 'about'} {known.calls:,} calls, "
        bound = "no limit" if known.most_out is None else f"{self._most} {_short(known.most_out)}"
        text += f"about {_short(known.read)} tokens in and {_short(known.out)} out ({bound}); {self._cost()}"
        return text + ("; less what the judge was asked before" if self.before else "")

    @property
    def _most(self) -> str:
        return "at most" if self.counted else "up to about"

    def _cost(self) -> str:
        usual, most = self.price(self.tokens.out), self.price(self.tokens.most_out)
        if usual is None:
            return "no price list (judge.price_in)"
        bound = "without a limit (judge.body takes out max_tokens)" if most is None else f"{self._most} {most:,.2f}"
        return f"about {usual:,.2f}, {bound}"


def expenses(plan: Plan, store: Store) -> list[Expense]:
    """Return what each endpoint will be asked for the verdicts that are not stored."""
    found: dict[str, list[Stage]] = {}
    for stage in plan:
        asks = stage.kind == "verdicts" and "endpoint" in stage.execution
        if asks and store.find(stage.kind, stage.fingerprint) is None:
            found.setdefault(stage.execution["judge"], []).append(stage)
    return [_expense(judge, stages, store) for judge, stages in found.items()]


def _expense(judge: str, stages: Sequence[Stage], store: Store) -> Expense:
    price_in, price_out = stages[0].execution["prices"]
    counted = all(stage.execution["expected"].get("turns") is not None for stage in stages)
    before = (store.root / judges.log_path(judge)).is_file()
    return Expense(judge, sum(map(_tokens, stages), Tokens()), (price_in, price_out), counted, before)


def _tokens(stage: Stage) -> Tokens:
    """Return what one comparison asks; a later turn is read with the ones before it."""
    # Imported here: planning takes longer with it, and most plans have no judge that is paid.
    from salsa.judging.cost import BYTES_A_TOKEN, EXPECTED_OUT

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
    longest = judges.endpoint(stage.execution["endpoint"]).longest
    return Tokens(
        calls,
        math.ceil(replies * depth * shown) + PROMPT_TOKENS * calls,
        calls * (EXPECTED_OUT if longest is None else min(EXPECTED_OUT, longest)),
        None if longest is None else calls * longest,
    )


def _short(count: int) -> str:
    for unit, size in (("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return str(count)
