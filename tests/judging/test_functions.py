"""A judge may be a function of one's own."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from salsa.judging.client import JudgeError
from salsa.judging.functions import Function, load
from salsa.judging.judgment import Outcome, Spending, judge
from salsa.judging.log import VerdictLog
from salsa.judging.request import Completion, Request
from tests.judging.cases import QUICK, pair_requests


def longer(requests: Sequence[Request]) -> list[Completion | str | None]:
    """Prefer the longer reply."""
    return [
        f"Verdict: {'A>B' if len(request.replies_a[-1]) > len((request.replies_b or ('',))[-1]) else 'B>A'}"
        for request in requests
    ]


def outcome_of(function: Function, path: Path, count: int = 4) -> Outcome:
    with VerdictLog(path) as log:
        return judge(pair_requests(count), function, log, QUICK, Spending())


def test_it_is_asked_in_batches_and_its_text_is_read(tmp_path: Path) -> None:
    sizes: list[int] = []

    def counting(requests: Sequence[Request]) -> list[Completion | str | None]:
        sizes.append(len(requests))
        return longer(requests)

    outcome = outcome_of(counting, tmp_path / "v.jsonl")
    assert sizes == [3, 3, 2]
    assert [found.label for found in outcome.verdicts] == ["A>B", "B>A"] * 4  # "tuned" is longer than "base"
    assert (outcome.complete, outcome.calls) == (True, 8)
    again = outcome_of(counting, tmp_path / "v.jsonl", count=5)
    assert (again.before, again.calls, sizes[3:]) == (8, 2, [2])


def test_no_answer_is_a_failure_and_asked_again(tmp_path: Path) -> None:
    outcome = outcome_of(lambda requests: [None] * len(requests), tmp_path / "v.jsonl", 1)
    assert outcome.counts == {"sent": 2, "judged": 0, "unparsed": 0, "failed": 2, "left": 0}
    assert not outcome.complete
    assert outcome_of(longer, tmp_path / "v.jsonl", 1).complete


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda requests: ["Verdict: A>B"], "1 completions for 3 requests"),
        (lambda requests: [3] * len(requests), "gave int for a completion"),
        (lambda requests: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_it_does_wrong_is_told(function: Function, words: str, tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match=words):
        outcome_of(function, tmp_path / "v.jsonl")


def test_it_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load("tests.judging.test_functions:longer") is longer
    (tmp_path / "my_own_judge.py").write_text("def judge(requests):\n    return ['Verdict: A=B'] * len(requests)\n")
    monkeypatch.chdir(tmp_path)
    assert outcome_of(load("my_own_judge:judge"), tmp_path / "v.jsonl").counts["judged"] == 8


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("judge", "write it as module:function"),
        ("no_such_module:judge", "No module named"),
        ("json:judge", "no attribute"),
        ("tests.judging.cases:QUICK", "is no function but Limits"),
    ],
)
def test_a_name_that_leads_nowhere_is_told(name: str, words: str) -> None:
    with pytest.raises(JudgeError, match=words):
        load(name)
