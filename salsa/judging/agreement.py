"""How well a judge agrees with people: pairs with a gold label, judged in both orders."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salsa.data.rows import DataError, FileTable
from salsa.judging.questions import Answers, Question, QuestionSet
from salsa.judging.verdict import Verdict

FIRST, SECOND = "output_1", "output_2"
"""What the two replies of a pair are called in verdicts."""
_Z = 1.959963984540054  # the normal quantile of intervals of 95 %


@dataclass(frozen=True)
class LabelledPairs:
    """Pairs of replies and, by the identity of the question, the one (1 or 2) that people prefer."""

    questions: QuestionSet
    first: Answers
    second: Answers
    labels: Mapping[str, int]


@dataclass(frozen=True)
class Share:
    """`hits` of `n`, with Wilson's interval of 95 %; None where `n` is 0."""

    hits: int
    n: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Agreement:
    """How often a judge says what people say. A tie is never right: people always prefer one reply.

    `first_order` and `second_order` are accuracies over the verdicts of each order (output_1 shown first, then
    second), `both_orders` over all of them, with an interval as wide as if the two verdicts of a pair were one. Over
    the pairs with two verdicts, `both_right` counts those right in both orders, and `consistent` those where the same
    reply wins, or neither, in both orders. `shown_first` is how often the reply that is shown first wins, among
    verdicts that are no ties: without position bias about half; its interval takes them as independent.
    """

    pairs: int
    sent: int
    judged: int
    unparsed: int
    failed: int
    ties: int
    first_order: Share
    second_order: Share
    both_orders: Share
    both_right: Share
    consistent: Share
    shown_first: Share


def read(path: Path) -> LabelledPairs:
    """Return the pairs of a file in LLMBar's form: `instruction` (or `input`), `output_1`, `output_2`, `label`.

    Raises:
        DataError: if the file cannot be read, or a row is not of that form.
    """
    suite = path.name.split(".")[0]
    questions: list[Question] = []
    outputs: tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]] = ({}, {})
    labels: dict[str, int] = {}
    for number, row in enumerate(FileTable(path).rows(frozenset()), 1):
        if row.values is None:
            raise DataError(f"{row.place}: {row.problem}")
        instruction, first, second, label = _row(row.place, row.values)
        identity = str(row.values.get("id", number))
        if identity in labels:
            raise DataError(f"{row.place} repeats pair {identity}; keep one of the two rows")
        questions.append(Question(identity, (instruction,), cluster=f"{suite}/{identity}"))
        outputs[0][identity], outputs[1][identity] = (first,), (second,)
        labels[identity] = label
    if not labels:
        raise DataError(f"{path} holds no pairs")
    answers = [Answers(name, str(path), replies) for name, replies in zip((FIRST, SECOND), outputs, strict=True)]
    return LabelledPairs(QuestionSet(suite, tuple(questions)), answers[0], answers[1], labels)


def measure(labels: Mapping[str, int], verdicts: Iterable[Verdict]) -> Agreement:
    """Return how well the verdicts on pairs with these labels agree with them; others are left out."""
    of = [found for found in verdicts if found.question in labels]
    judged = [found for found in of if found.label is not None]
    choices: dict[str, dict[int, int]] = {}
    for found in judged:
        choices.setdefault(found.question, {})[found.order] = _choice(found)
    right = {key: {order: made == labels[key] for order, made in orders.items()} for key, orders in choices.items()}
    twice = [key for key, orders in choices.items() if len(orders) == 2]
    decided = [found for found in judged if found.label != "A=B"]
    return Agreement(
        pairs=len(labels),
        sent=len(of),
        judged=len(judged),
        unparsed=sum(found.status == "unparsed" for found in of),
        failed=sum(found.status == "failed" for found in of),
        ties=len(judged) - len(decided),
        first_order=share([orders[0] for orders in right.values() if 0 in orders]),
        second_order=share([orders[1] for orders in right.values() if 1 in orders]),
        both_orders=share([hit for orders in right.values() for hit in orders.values()], groups=len(right)),
        both_right=share([right[key][0] and right[key][1] for key in twice]),
        consistent=share([choices[key][0] == choices[key][1] for key in twice]),
        shown_first=share([(found.label or "").startswith("A") for found in decided]),
    )


def share(hits: Sequence[bool], groups: int | None = None) -> Share:
    """Return the share of hits with Wilson's interval.

    Independent hits count each by itself; `groups` is how many independent ones they are worth, if fewer.
    """
    if not hits:
        return Share(0, 0, None, None, None)
    rate, n = sum(hits) / len(hits), groups or len(hits)
    centre = (rate + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * math.sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return Share(sum(hits), len(hits), rate, max(0.0, centre - half), min(1.0, centre + half))


def _choice(found: Verdict) -> int:
    """Return the reply that wins: 1 or 2, or 0 for a tie."""
    if found.label == "A=B":
        return 0
    a_wins = (found.label or "").startswith("A")
    return 1 if a_wins == (found.order == 0) else 2


def _row(place: str, values: Mapping[str, Any]) -> tuple[str, str, str, int]:
    instruction = values.get("instruction", values.get("input"))
    texts = (instruction, values.get("output_1"), values.get("output_2"))
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"{place}: a pair has instruction (or input), output_1 and output_2, all of them texts")
    if values.get("label") not in (1, 2):
        raise DataError(f"{place}: label is {values.get('label')!r}, expected 1 or 2: the better output")
    return str(texts[0]), str(texts[1]), str(texts[2]), int(values["label"])
