"""Ratings: the closed form against one baseline, the likelihood's maximum, and what has no finite rating."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import minimize

from salsa.evaluation.bradley_terry import closed_form, expected_win_rate, log_strengths, rating, ratings, standing

COUNTS = st.floats(0.5, 9)


def chances(strengths):
    return 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))


@given(st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=6))
def test_against_one_baseline_it_is_the_raw_win_rate(results):
    wins = np.zeros((len(results) + 1,) * 2)
    for index, (won, lost) in enumerate(results, 1):
        wins[index, 0], wins[0, index] = won, lost
    strengths = log_strengths(wins)
    for index, (won, lost) in enumerate(results, 1):
        assert chances(strengths)[index, 0] == pytest.approx(won / (won + lost), abs=1e-9)
        over = closed_form(won, won + lost)
        assert over == pytest.approx(rating(strengths[index]) - rating(strengths[0]), abs=1e-6)
        assert expected_win_rate(over) == pytest.approx(won / (won + lost))


def test_all_or_nothing_has_no_finite_rating():
    assert closed_form(3, 3) == math.inf
    assert closed_form(0, 3) == -math.inf


@given(arrays.arrays(np.float64, (4, 4), elements=st.floats(0.1, 20)))
def test_the_likelihood_is_at_its_maximum(wins):
    np.fill_diagonal(wins, 0)
    found = log_strengths(wins)

    def loss(strengths):
        return -np.sum(wins * np.log(chances(strengths)))

    best = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-9})
    np.testing.assert_allclose(found, best.x - best.x.mean(), atol=1e-4)
    assert loss(found) <= best.fun + 1e-9
    # What was won equals what was expected: the equations of the maximum.
    np.testing.assert_allclose(((wins + wins.T) * chances(found)).sum(axis=1), wins.sum(axis=1), rtol=1e-7)


def test_many_fits_at_once_are_those_one_by_one():
    wins = np.random.default_rng(0).uniform(0.2, 5, (7, 5, 5))
    together = log_strengths(wins)
    for one, found in zip(wins, together, strict=True):
        np.testing.assert_allclose(log_strengths(one), found, atol=1e-8)


def test_more_wins_never_lower_a_rating():
    wins = np.random.default_rng(1).uniform(0.5, 5, (4, 4))
    more = wins.copy()
    more[2, 1] += 1
    assert log_strengths(more)[2] > log_strengths(wins)[2]


def test_who_has_no_rating_is_said():
    #        a  b  c  d  e  f     a and b beat each other; c beats both, d is beaten; e and f only meet each other
    wins = np.zeros((6, 6))
    wins[0, 1] = wins[1, 0] = wins[2, 0] = wins[2, 1] = wins[0, 3] = wins[4, 5] = wins[5, 4] = 1
    assert standing(wins, 0) == ["", "", "above", "below", "not compared", "not compared"]
    found = ratings(np.stack([wins, wins]), list("abcdef"), "a", np.random.default_rng(0), 50)
    assert found["a"].value == found["b"].value == 1000
    assert [found[name].value for name in "cdef"] == [None] * 4
    # Without a baseline, ratings are of a largest set that has some, around its mean.
    free = ratings(np.stack([wins, wins]), list("abcdef"), None, np.random.default_rng(0), 50)
    rated = [each.value for each in free.values() if each.value is not None]
    assert np.mean(rated) == pytest.approx(1000)


@given(arrays.arrays(np.int64, (5, 5), elements=st.integers(0, 1)))
def test_a_finite_rating_is_found_exactly_where_there_is_one(wins):
    wins = wins.astype(np.float64)
    np.fill_diagonal(wins, 0)
    assume(wins.any())
    names = list("abcde")
    found = ratings(wins[None], names, "a", np.random.default_rng(0), 10)
    inside = [name for name, each in found.items() if each.value is not None]
    assert "a" in inside
    assert all(found[name].why in ("above", "below", "not compared") for name in names if name not in inside)
    rows = [names.index(name) for name in inside]
    own = wins[np.ix_(rows, rows)]
    strengths = np.array([(found[name].value - 1000) / 400 * math.log(10) for name in inside])
    np.testing.assert_allclose(((own + own.T) * chances(strengths)).sum(axis=1), own.sum(axis=1), atol=1e-6)


def test_intervals_shrink_with_questions_and_are_absent_for_one():
    def wins(questions):
        table = np.zeros((questions, 3, 3))
        outcome = np.random.default_rng(5).random((questions, 3)) < [0.3, 0.5, 0.7]
        for index, (a, b) in enumerate([(0, 1), (0, 2), (1, 2)]):
            table[:, a, b], table[:, b, a] = outcome[:, index], ~outcome[:, index]
        return table

    few, many = (ratings(wins(n), list("abc"), "a", np.random.default_rng(0), 300)["b"] for n in (30, 480))
    assert many.low < many.value < many.high
    assert 3 < (few.high - few.low) / (many.high - many.low) < 5.5
    assert ratings(wins(1) + 1, list("abc"), "a", np.random.default_rng(0))["b"].low is None


def test_an_interval_may_have_no_end():
    # One of six questions keeps b from having won everything; it is missing from a third of the draws.
    wins = np.zeros((6, 2, 2))
    wins[:5, 1, 0], wins[5, 0, 1] = 1, 1
    found = ratings(wins, ["a", "b"], "a", np.random.default_rng(0), 400)["b"]
    assert found.value == pytest.approx(rating(math.log(5)))
    assert found.low is not None
    assert found.high is None
