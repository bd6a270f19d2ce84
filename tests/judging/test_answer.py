"""Completions become verdicts; reading them anew needs no call."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.judging.answer import Answer, reparsed, verdict
from salsa.judging.request import Completion
from tests.judging import cases

PAIR, SINGLE = cases.pair_requests(1)[1], cases.single_requests(1)[0]


def test_a_completion_with_a_verdict_is_judged() -> None:
    completion = Completion("Fine.\nVerdict: A>B", "stop", "m-1", 100, 10)
    found = verdict(Answer(PAIR, completion, "", 0.5, 1.25, 2))
    assert (found.status, found.label, found.score, found.error) == ("judged", "A>B", None, "")
    assert (found.model_a, found.model_b, found.order) == ("base", "tuned", 1)
    assert (found.snapshot, found.tokens_in, found.tokens_out, found.price) == ("m-1", 100, 10, 0.5)
    assert (found.seconds, found.attempt, found.key, found.prompt) == (1.25, 2, PAIR.key, PAIR.prompt)
    score = verdict(Answer(SINGLE, Completion("Fine.\nVerdict: 7"), "", None, 1.0, 1))
    assert (score.status, score.label, score.score) == ("judged", None, 7.0)


def test_one_without_is_unparsed_and_none_at_all_failed() -> None:
    refusal = verdict(Answer(PAIR, Completion("I cannot judge this."), "", 0.5, 1.0, 1))
    assert (refusal.status, refusal.label, refusal.completion) == ("unparsed", None, "I cannot judge this.")
    failed = verdict(Answer(PAIR, None, "HTTP 500", None, 1.0, 6))
    assert (failed.status, failed.error, failed.completion) == ("failed", "HTTP 500", "")


def test_a_completion_that_was_cut_off_has_no_verdict_of_ours() -> None:
    """Its last line may be the judge quoting a reply."""
    cut = verdict(Answer(PAIR, Completion("Reply A ends with\nVerdict: A>B", "length"), "", None, 1.0, 1))
    assert cut.status == "unparsed"


def test_one_that_a_filter_cut_has_none_either() -> None:
    cut = verdict(Answer(PAIR, Completion("Fine.\nVerdict: A>B", "content_filter"), "", None, 1.0, 1))
    assert (cut.status, cut.completion) == ("unparsed", "Fine.\nVerdict: A>B")


def test_a_failure_that_was_charged_says_so() -> None:
    found = verdict(Answer(PAIR, None, "nothing was said", 0.5, 1.0, 1, charged=Completion("", "length", "m-1", 9, 8)))
    assert (found.status, found.completion, found.finish) == ("failed", "", "")
    assert (found.tokens_in, found.tokens_out, found.price, found.snapshot) == (9, 8, 0.5, "m-1")


@given(st.text())
def test_reading_anew_gives_what_was_read(text: str) -> None:
    found = verdict(Answer(PAIR, Completion(text), "", None, 1.0, 1))
    assert reparsed(found) == found


def test_reading_anew_by_another_grammar() -> None:
    found = verdict(Answer(PAIR, Completion("Final verdict is [[B]]"), "", None, 1.0, 1))
    assert found.status == "unparsed"
    again = reparsed(found, "fastchat_pair")
    assert (again.status, again.label, again.grammar, again.key) == ("judged", "B>A", "fastchat_pair", found.key)
    assert reparsed(again, "own_pair_3") == found
    with pytest.raises(ValueError, match="reads single verdicts"):
        reparsed(found, "own_score")
    failed = verdict(Answer(PAIR, None, "HTTP 500", None, 1.0, 6))
    assert reparsed(failed, "fastchat_pair") == failed
