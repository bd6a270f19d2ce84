"""The greedy soup by closed forms: it is never worse than its best ingredient, and takes what makes the mean better."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.soup.greedy import Decision, greedy

POINTS = st.lists(st.tuples(*[st.floats(-3, 3, width=16)] * 2), min_size=1, max_size=6)


def names_of(count):
    return [f"SFT{number}" for number in range(1, count + 1)]


def quadratic(points):
    """The loss |theta|^2 of the mean of points, whose minimum is at the origin."""
    table = np.array(points, dtype=float)
    return lambda weights: float(np.square(np.array(weights) @ table).sum())


@given(POINTS)
def test_it_is_never_worse_than_the_best_ingredient(points):
    loss = quadratic(points)
    found = greedy(names_of(len(points)), loss, "lower")
    assert found.score == loss(found.weights) <= min(found.alone)
    assert math.isclose(sum(found.weights), 1)


@given(POINTS)
def test_each_decision_is_that_of_the_published_recipe(points):
    """The running mean over the models tried best first, and strict improvement."""
    loss = quadratic(points)
    found = greedy(names_of(len(points)), loss, "lower")
    table = np.array(points, dtype=float)
    order = sorted(range(len(points)), key=lambda index: float(np.square(table[index]).sum()))
    taken, mean, best = 1, table[order[0]], float(np.square(table[order[0]]).sum())
    for index, decision in zip(order[1:], found.decisions[1:], strict=True):
        trial = taken / (taken + 1) * mean + table[index] / (taken + 1)
        score = float(np.square(trial).sum())
        assert (decision.ingredient, decision.name) == (index, f"SFT{index + 1}")
        assert decision.score == pytest.approx(score, rel=1e-9, abs=1e-12)
        assert decision.best == pytest.approx(best, rel=1e-9, abs=1e-12)
        assert decision.taken == (decision.score < decision.best)
        if decision.taken:
            taken, mean, best = taken + 1, trial, score
    assert found.order == tuple(order)
    assert [weight > 0 for weight in found.weights].count(True) == taken
    np.testing.assert_allclose(np.array(found.weights) @ table, mean, atol=1e-12)


@given(POINTS)
def test_a_reward_is_a_loss_upside_down(points):
    loss = quadratic(points)
    lower = greedy(names_of(len(points)), loss, "lower")
    higher = greedy(names_of(len(points)), lambda weights: -loss(weights), "higher")
    assert (higher.weights, higher.order) == (lower.weights, lower.order)
    assert higher.score == -lower.score


@pytest.mark.parametrize("count", [1, 2, 5])
def test_of_copies_only_one_is_taken(count):
    found = greedy(names_of(count), lambda weights: 0.25, "higher")
    assert found.weights == (1.0, *[0.0] * (count - 1))
    assert found.order == tuple(range(count))
    assert [decision.taken for decision in found.decisions] == [True, *[False] * (count - 1)]


def test_the_landscape_of_which_the_answer_is_known():
    """Points on a line at -1, 3, 2 and 1.5, loss the square: the mean of -1 and 1.5 is .25, and 2 and 3 spoil it."""
    positions = [-1.0, 3.0, 2.0, 1.5]
    loss = quadratic([(x,) for x in positions])
    found = greedy(["a", "b", "c", "d"], loss, "lower")
    assert found.order == (0, 3, 2, 1)
    assert found.alone == (1.0, 9.0, 4.0, 2.25)
    assert found.weights == (0.5, 0.0, 0.0, 0.5)
    assert found.score == 0.0625
    assert found.decisions == (
        Decision(0, "a", 1.0, None, True),
        Decision(3, "d", 0.0625, 1.0, True),
        Decision(2, "c", pytest.approx((2.5 / 3) ** 2), 0.0625, False),
        Decision(1, "b", pytest.approx((3.5 / 3) ** 2), 0.0625, False),
    )


def test_an_ingredient_that_spoils_the_mean_does_not_stop_the_search():
    """b is better than c alone, but away from a; c mends what a lacks."""
    positions = {"a": (0.0, -1.0), "b": (0.0, -1.5), "c": (0.0, 1.75)}
    found = greedy(list(positions), quadratic(list(positions.values())), "lower")
    assert [(decision.name, decision.taken) for decision in found.decisions] == [("a", True), ("b", False), ("c", True)]
    assert found.weights == (0.5, 0.0, 0.5)


def test_ties_are_tried_in_the_order_given():
    asked = []

    def score(weights):
        asked.append(tuple(index for index, weight in enumerate(weights) if weight))
        return 1.0 if len(asked[-1]) == 1 else float(len(asked[-1]))

    found = greedy(names_of(3), score, "higher")
    assert asked == [(0,), (1,), (2,), (0, 1), (0, 1, 2)]
    assert found.weights == (1 / 3,) * 3


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_named_with_its_trial(value):
    with pytest.raises(ValueError, match=rf"the score of SFT2 is {value}"):
        greedy(names_of(2), lambda weights: value if weights[1] == 1 else 0.0, "lower")
    with pytest.raises(ValueError, match=rf"the score of SFT1 \+ SFT2 is {value}"):
        greedy(names_of(2), lambda weights: value if weights[1] == 0.5 else 0.0, "lower")


def test_what_makes_no_search_is_refused():
    with pytest.raises(ValueError, match="needs a model to begin with"):
        greedy([], lambda weights: 0.0, "lower")
    with pytest.raises(ValueError, match="better='loss': give \"lower\""):
        greedy(["a"], lambda weights: 0.0, "loss")
