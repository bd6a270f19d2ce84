"""Matches and the rules that make battles of them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.evaluation.battles import Table, arena, fastchat, half_votes, matches
from salsa.evaluation.published.arena_hard import judgment
from salsa.evaluation.published.mt_bench import pair as read_pair
from tests.evaluation.judgments import arena as arena_row
from tests.evaluation.judgments import pair


def match_of(row, baseline="base", release=None):
    read = judgment(row, "f:1", baseline, release) if "games" in row else read_pair(row, "f:1")
    [match] = matches(each.verdict for each in read.judged)
    return match


def outcomes(battles):
    return [(battle.outcome, battle.weight) for battle in battles]


@pytest.mark.parametrize(
    ("games", "published", "ours"),
    [
        ("11", [(1, 1)], [(1, 0.5), (1, 0.5)]),
        ("22", [(0, 1)], [(0, 0.5), (0, 0.5)]),
        ("==", [(0.5, 1)], [(0.5, 0.5), (0.5, 0.5)]),
        ("12", [(0.5, 1)], [(1, 0.5), (0, 0.5)]),
        ("1=", [(0.5, 1)], [(1, 0.5), (0.5, 0.5)]),
        ("=2", [(0.5, 1)], [(0.5, 0.5), (0, 0.5)]),
        ("1!", [], [(1, 0.5)]),
        ("!!", [], []),
    ],
)
def test_fastchats_rule_and_half_votes(games, published, ours):
    match = match_of(pair(games=games))
    assert (match.first, match.second) == ("one", "two")
    assert outcomes(fastchat(match)) == published
    assert outcomes(half_votes(match)) == ours


@pytest.mark.parametrize(
    ("labels", "release", "expected"),
    [
        (("A>B", "A>B"), "first", [(1, 1), (0, 1)]),
        (("A>>B", "B>>A"), "first", [(0, 3), (0, 3)]),
        (("B>>A", "A=B"), "current", [(0.5, 1), (1, 3)]),
        (("A>B", None), "first", [(0, 1)]),
        (("A>B", None), "current", []),
    ],
)
def test_arena_hards_rule(labels, release, expected):
    # `first` of a match is the model; in game 1 it is shown second.
    match = match_of(arena_row(labels=labels))
    assert (match.first, match.second) == ("m", "base")
    assert sorted(outcomes(arena(match, release, 3))) == sorted(expected)


def test_a_second_game_of_the_same_order_is_another_match():
    first, second = read_pair(pair(games="12"), "f:1").judged
    again = replace(first.verdict, label="A=B")
    found = matches([first.verdict, second.verdict, again])
    assert [match.outcomes for match in found] == [(1.0, 0.0), (0.5, None)]
    other = matches([first.verdict, replace(second.verdict, prompt="other")])
    assert [match.complete for match in other] == [False, False]


def test_a_model_against_itself_has_two_games_and_no_battle():
    match = match_of(arena_row(labels=("A>B", "A>B"), model="base"))
    assert match.complete
    assert len(Table(half_votes(match))) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["11", "22", "12", "==", "1!", "=2"])), max_size=20))
def test_wins_and_losses_are_the_same_battles(rows):
    unique = dict(rows)
    found = matches(
        each.verdict
        for question, games in unique.items()
        for each in read_pair(pair(question, games, ("one", "two") if question % 2 else ("two", "one")), "f:1").judged
    )
    for rule in (fastchat, half_votes):
        battles = [battle for match in found for battle in rule(match)]
        wins = Table(battles, ["one", "two"]).wins().sum(axis=0)
        assert wins.shape == (0,) or wins.sum() == pytest.approx(sum(battle.weight for battle in battles))
        assert np.all(np.diagonal(wins) == 0)
