import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.evaluation.judgments import Judgment, scores, shares
from salsa.judging.verdict import FLIPPED, Verdict
from tests.evaluation.judgments import verdict


def game(label: str | None, question: str = "q", order: int = 0, turn: int = 1) -> Verdict:
    """Return a game of "mine", the compared model, with "theirs"; the label is as the judge wrote it."""
    models = ("mine", "theirs") if order == 0 else ("theirs", "mine")
    status = "unparsed" if label is None else "judged"
    return Verdict.from_json(
        verdict(
            question=question, order=order, turn=turn, model_a=models[0], model_b=models[1], label=label, status=status
        )
    )


def graded(score: float | None, question: str = "q", turn: int = 1, model: str = "mine") -> Verdict:
    status = "unparsed" if score is None else "judged"
    changes = {"kind": "single", "model_a": model, "model_b": None, "label": None, "score": score, "status": status}
    return Verdict.from_json(verdict(question=question, turn=turn, **changes))


def test_a_share_is_the_mean_over_games_of_both_orders_and_turns() -> None:
    games = [game("A>B"), game("B>A", order=1), game("A=B", turn=2), game("A>B", order=1, turn=2)]
    # A win, a win shown second, a tie, and a defeat shown second.
    assert shares(games, "mine", "theirs") == {"q": 2.5 / 4}
    assert shares(games, "theirs", "mine") == {"q": 1.5 / 4}


def test_a_strong_verdict_is_one_win_and_a_game_without_verdict_is_left_out() -> None:
    games = [game("A>>B"), game(None, order=1), game(None, "none"), game("B>>A", "lost")]
    assert shares(games, "mine", "theirs") == {"q": 1.0, "lost": 0.0}


def test_games_of_others_and_scores_are_left_out() -> None:
    assert shares([game("A>B"), graded(9)], "mine", "another") == {}
    assert scores([game("A>B"), graded(9, model="theirs")], "mine") == {}


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(sorted(FLIPPED)), st.integers(0, 1))))
def test_what_one_model_won_the_other_lost(played: list[tuple[str, str, int]]) -> None:
    games = [game(label, question, order) for question, label, order in played]
    own, other = shares(games, "mine", "theirs"), shares(games, "theirs", "mine")
    assert own.keys() == other.keys()
    assert all(own[question] + other[question] == pytest.approx(1) for question in own)


def test_a_score_is_the_mean_over_the_turns_that_have_one() -> None:
    graded_ = [graded(8), graded(5, turn=2), graded(7, "half"), graded(None, "half", turn=2), graded(None, "none")]
    assert scores(graded_, "mine") == {"q": 6.5, "half": 7.0}


def test_a_comparison_is_mirrored_for_the_opponent() -> None:
    judgment = Judgment("mine", "s", {"q": 0.75, "r": 0.0}, "theirs", fingerprint="f")
    assert judgment.mirrored() == Judgment("theirs", "s", {"q": 0.25, "r": 1.0}, "mine", fingerprint="f")
    assert judgment.mirrored().mirrored() == judgment


def test_scores_and_outside_comparisons_have_no_mirror() -> None:
    for judgment in (Judgment("mine", "s", {"q": 7.0}), Judgment("mine", "s", {"q": 1.0}, baseline="gpt-4-0314")):
        with pytest.raises(ValueError, match="'mine' on 's' compares it with no other row"):
            judgment.mirrored()
