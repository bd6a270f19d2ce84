"""Agreement of judges whose habits are known."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.data.rows import DataError
from salsa.judging.agreement import Agreement, measure, read, share
from salsa.judging.verdict import FLIPPED, Verdict
from tests.judging.cases import verdict
from tests.judging.test_grammar import DATA, published

LABELS = {str(n): 1 + n % 2 for n in range(20)}


def judged(label: Callable[[str, int], str | None]) -> list[Verdict]:
    """Return the verdicts of a judge that says `label` of a question in an order; None: unparsed."""
    return [
        verdict(
            2 * int(question) + order,
            question=question,
            order=order,
            label=label(question, order),
            status="judged" if label(question, order) else "unparsed",
        )
        for question in LABELS
        for order in (0, 1)
    ]


def right(question: str, order: int) -> str:
    return "A>B" if (LABELS[question] == 1) == (order == 0) else "B>A"


def values(found: Agreement) -> list[float | None]:
    shares = (found.first_order, found.second_order, found.both_orders, found.both_right, found.consistent)
    return [each.value for each in (*shares, found.shown_first)]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (right, [1, 1, 1, 1, 1, 0.5]),
        (lambda question, order: FLIPPED[right(question, order)], [0, 0, 0, 0, 1, 0.5]),
        (lambda question, order: "A>B", [0.5, 0.5, 0.5, 0, 0, 1]),
        (lambda question, order: "B>>A", [0.5, 0.5, 0.5, 0, 0, 0]),
        (lambda question, order: "A=B", [0, 0, 0, 0, 1, None]),
        (lambda question, order: right(question, order) if order == 0 else None, [1, None, 1, None, None, 0.5]),
        (lambda question, order: None, [None] * 6),
    ],
)
def test_judges_of_known_habits(label: Callable[[str, int], str | None], expected: list[float | None]) -> None:
    found = measure(LABELS, judged(label))
    assert values(found) == expected
    assert (found.pairs, found.sent, found.judged + found.unparsed) == (20, 40, 40)


def test_other_verdicts_are_left_out() -> None:
    assert measure({"nothing": 1}, judged(right)).sent == 0


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_intervals_hold_the_share_and_solve_wilsons_equation(hits: list[bool]) -> None:
    found, n = share(hits), len(hits)
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value <= found.high + 1e-12 <= 1 + 1e-9
    for end in (found.low, found.high):
        if 1e-9 < end < 1 - 1e-9:
            assert abs(found.value - end) == pytest.approx(
                1.959964 * math.sqrt(end * (1 - end) / n), rel=1e-5, abs=1e-9
            )
    wider = share(hits, groups=(n + 1) // 2)
    assert wider.low is not None
    assert wider.low <= found.low + 1e-12


@pytest.mark.parametrize("name", ["instruction", "input"])
def test_pairs_are_read(tmp_path: Path, name: str) -> None:
    rows = [{name: "2+2?", "output_1": "5", "output_2": "4", "label": 2}, {"id": "x", name: "?", "output_1": "a"}]
    path = tmp_path / "Natural.dataset.json"
    path.write_text(json.dumps(rows[:1]))
    found = read(path)
    assert found.questions.suite == "Natural"
    assert (found.first.replies, found.second.replies, found.labels) == ({"1": ("5",)}, {"1": ("4",)}, {"1": 2})
    path.write_text(json.dumps(rows))
    with pytest.raises(DataError, match="row 2: a pair has instruction"):
        read(path)


@pytest.mark.parametrize(("row", "words"), [({"label": 0}, "label is 0"), ({"output_1": 3}, "output_1 and output_2")])
def test_what_is_no_pair_is_named(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"input": "?", "output_1": "a", "output_2": "b", "label": 1} | row))
    with pytest.raises(DataError, match=words):
        read(path)


@published
def test_the_published_pairs_are_read() -> None:
    found = read(DATA / "llmbar" / "Natural.dataset.json")
    assert len(found.labels) == len(found.questions.questions) == 100
    assert len(read(DATA / "llmbar" / "Neighbor.dataset.json").labels) == 134
