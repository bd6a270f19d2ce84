"""Pairs are asked in both orders, every turn with what came before it; a key names all that was asked."""

from dataclasses import replace

import pytest

from salsa.judging.matches import Asked, pairs, singles
from salsa.judging.prompts import PromptError, PromptSet, own
from tests.judging.cases import answers, pair_requests, questions, single_requests


def test_every_turn_is_compared_in_both_orders() -> None:
    requests = pair_requests(2, turns=2)
    assert [(each.question, each.turn, each.order) for each in requests] == [
        (question, turn, order) for question in ("1", "2") for turn in (1, 2) for order in (0, 1)
    ]
    first, swapped = requests[2], requests[3]
    assert (first.model_a, first.model_b) == ("tuned", "base") == (swapped.model_b, swapped.model_a)
    assert first.replies_a == ("tuned says 1.1", "tuned says 1.2") == swapped.replies_b
    content = first.messages[0]["content"]
    assert content.index("tuned says 1.1") < content.index("tuned says 1.2") < content.index("base says 1.1")
    assert "1.2" not in requests[0].messages[0]["content"]


def test_single_replies_are_scored_once_a_turn() -> None:
    requests = single_requests(2, turns=2)
    assert [(each.question, each.turn, each.order, each.model_b) for each in requests] == [
        ("1", 1, 0, None),
        ("1", 2, 0, None),
        ("2", 1, 0, None),
        ("2", 2, 0, None),
    ]
    assert {each.grammar for each in requests} == {"own_score"}


def test_references_are_shown_where_there_are_any() -> None:
    asked = questions(1, reference=("the right answer",))
    (request,) = singles(asked, answers("tuned", 1), Asked("m", own()))
    assert "the right answer" in request.messages[0]["content"]
    assert request.prompt_name == "own-single-turn-reference"


def test_questions_that_one_model_has_not_answered_are_left_out() -> None:
    assert {each.question for each in pairs(questions(3), answers("a", 3), answers("b", 2), Asked("m", own()))} == {
        "1",
        "2",
    }
    assert len(pairs(questions(1, 2), answers("a", 1, 2), answers("b", 1, 1), Asked("m", own()))) == 2


def test_a_key_changes_with_all_that_was_asked_and_nothing_else() -> None:
    def key(asked: Asked, name: str = "tuned", count: int = 1, reference: tuple[str, ...] = ()) -> str:
        return pairs(questions(1, reference=reference), answers(name, 1), answers("base", 1), asked)[0].key

    plain = Asked("m", own())
    keys = [
        key(plain),
        key(Asked("n", own())),
        key(Asked("m", own(5))),
        key(Asked("m", own(), {"temperature": 1.0})),
        key(plain, name="other"),
        key(plain, reference=("right",)),
        pair_requests(1)[1].key,
        single_requests(1)[0].key,
        pair_requests(2)[2].key,
        pair_requests(1, turns=2)[2].key,
    ]
    assert len(set(keys)) == len(keys)
    assert key(plain) == key(Asked("m", replace(own(), source="elsewhere")))
    assert pair_requests(1)[0].key == pair_requests(5)[0].key


def test_models_with_the_same_reply_are_asked_about_apart() -> None:
    same = replace(answers("tuned", 1), model="copy")
    both = [
        *singles(questions(1), answers("tuned", 1), Asked("m", own())),
        *singles(questions(1), same, Asked("m", own())),
    ]
    assert len({each.key for each in both}) == 2


def test_a_missing_prompt_is_told() -> None:
    with pytest.raises(PromptError, match="has no prompt"):
        singles(questions(1), answers("tuned", 1), Asked("m", PromptSet("nothing", ())))
