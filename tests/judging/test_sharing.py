"""Models with the same reply are asked about once, and each has its verdict."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from salsa.judging.client import JudgeError
from salsa.judging.judgment import Outcome, Spending, distinct, judge, waiting
from salsa.judging.log import VerdictLog
from salsa.judging.matches import Asked, pairs, singles
from salsa.judging.prompts import own
from salsa.judging.request import Request
from salsa.judging.schedule import Limits
from salsa.judging.verdict import lines
from tests.judging.cases import answers, questions

ASKED = Asked("m", own())


class Counting:
    """A judge that counts what it is asked, and fails from a number of calls on."""

    def __init__(self, most: int = 1000) -> None:
        self.calls = 0
        self.most = most

    def __call__(self, requests: Sequence[Request]) -> list[str]:
        if self.calls + len(requests) > self.most:
            raise RuntimeError("enough")
        self.calls += len(requests)
        return ["Verdict: 7" if request.replies_b is None else "Verdict: A>B" for request in requests]


def copied(count: int = 3) -> list[Request]:
    """The scores of a model and of its copy."""
    tuned = answers("tuned", count)
    return [
        *singles(questions(count), tuned, ASKED),
        *singles(questions(count), replace(tuned, model="copy"), ASKED),
    ]


def asked(requests: list[Request], function: Counting, path: Path) -> Outcome:
    with VerdictLog(path) as log:
        return judge(requests, function, log, Limits(1), Spending())


def test_a_copy_of_a_model_costs_no_call_and_has_its_own_verdicts(tmp_path: Path) -> None:
    function = Counting()
    outcome = asked(copied(), function, tmp_path / "log.jsonl")
    assert function.calls == outcome.calls == 3
    assert [(each.model_a, each.question, each.score) for each in outcome.verdicts] == [
        (model, question, 7.0) for model in ("tuned", "copy") for question in ("1", "2", "3")
    ]
    assert [each.attempt for each in outcome.verdicts] == [1, 1, 1, 0, 0, 0]
    assert outcome.complete
    assert len(list(lines(tmp_path / "log.jsonl"))) == 6
    assert asked(copied(), function, tmp_path / "log.jsonl").before == 6
    assert function.calls == 3


def test_a_later_run_uses_what_was_said_of_another_model(tmp_path: Path) -> None:
    function, requests = Counting(), copied()
    asked(requests[:3], function, tmp_path / "log.jsonl")
    outcome = asked(requests[3:], function, tmp_path / "log.jsonl")
    assert function.calls == 3
    assert outcome.calls == 0
    assert {(each.model_a, each.score) for each in outcome.verdicts} == {("copy", 7.0)}


def test_a_run_that_breaks_off_leaves_the_copies_of_what_was_said(tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match="enough"):
        asked(copied(), Counting(most=2), tmp_path / "log.jsonl")
    written = [(each.model_a, each.question) for each in lines(tmp_path / "log.jsonl")]
    assert written == [("tuned", "1"), ("copy", "1"), ("tuned", "2"), ("copy", "2")]
    function = Counting()
    assert asked(copied(), function, tmp_path / "log.jsonl").complete
    assert function.calls == 1


def test_the_same_replies_are_the_same_question_in_both_orders(tmp_path: Path) -> None:
    tuned, function = answers("tuned", 1), Counting()
    outcome = asked(pairs(questions(1), tuned, replace(tuned, model="copy"), ASKED), function, tmp_path / "log.jsonl")
    assert function.calls == 1
    said = [(each.model_a, each.order, each.label) for each in outcome.verdicts]
    assert said == [("tuned", 0, "A>B"), ("copy", 1, "A>B")]  # one win each: a tie


def test_who_is_compared_with_whom_changes_nothing_for_the_judge(tmp_path: Path) -> None:
    tuned, base, function = answers("tuned", 2), answers("base", 2), Counting()
    first = asked(pairs(questions(2), tuned, base, ASKED), function, tmp_path / "log.jsonl")
    assert function.calls == 4
    again = asked(pairs(questions(2), base, tuned, ASKED), function, tmp_path / "log.jsonl")
    assert function.calls == 4
    assert (again.calls, again.complete) == (0, True)
    shown = {(each.model_a, each.question): each.completion for each in first.verdicts}
    assert {(each.model_a, each.question): each.completion for each in again.verdicts} == shown
    assert {(each.model_a, each.order) for each in again.verdicts} == {("base", 0), ("tuned", 1)}


def test_what_could_not_be_read_is_asked_again_once_for_all(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with VerdictLog(path) as log:
        judge(copied(1), lambda requests: ["no verdict"] * len(requests), log, Limits(1), Spending())
        assert {each.status for each in log.verdicts.values()} == {"unparsed"}
        assert len(waiting(copied(1), log.verdicts, ask_again=True)) == 2
        assert len(distinct(copied(1), log.verdicts, ask_again=True)) == 1
        function = Counting()
        again = judge(copied(1), function, log, Limits(1), Spending(), ask_again=True)
    assert function.calls == 1
    assert [each.score for each in again.verdicts] == [7.0, 7.0]


def test_a_verdict_is_of_the_suite_category_and_cluster_that_it_is_asked_for(tmp_path: Path) -> None:
    function, tuned = Counting(), answers("tuned", 2)
    asked(singles(questions(2), tuned, ASKED), function, tmp_path / "log.jsonl")
    changed = questions(2, category="maths", cluster="sums")
    outcome = asked(singles(changed, tuned, ASKED), function, tmp_path / "log.jsonl")
    assert [(each.suite, each.category, each.cluster, each.attempt) for each in outcome.verdicts] == [
        ("files", "maths", "sums", 1)
    ] * 2
    elsewhere = asked(singles(replace(changed, suite="other"), tuned, ASKED), function, tmp_path / "log.jsonl")
    # The call counts in the suite that it was made for.
    assert [(each.suite, each.category, each.attempt) for each in elsewhere.verdicts] == [("other", "maths", 0)] * 2
    assert [each.score for each in elsewhere.verdicts] == [7.0, 7.0]
    assert (function.calls, elsewhere.calls, elsewhere.complete) == (2, 0, True)


def test_what_was_said_is_read_by_the_grammar_that_is_asked_for(tmp_path: Path) -> None:
    prompts = own()
    named = replace(
        prompts, templates=tuple(replace(each, grammar="fastchat_score", name="mine") for each in prompts.templates)
    )
    path, tuned = tmp_path / "log.jsonl", answers("tuned", 1)
    with VerdictLog(path) as log:
        unread = singles(questions(1), tuned, ASKED)
        judge(unread, lambda requests: ["Rating: [[4]]"] * len(requests), log, Limits(1), Spending())
    for model in ("tuned", "copy"):
        requests = singles(questions(1), replace(tuned, model=model), Asked("m", named))
        (found,) = asked(requests, Counting(most=0), path).verdicts
        assert (found.status, found.score, found.grammar, found.prompt_name) == (
            "judged",
            4.0,
            "fastchat_score",
            "mine",
        )
