"""Style control: the counts of Arena-Hard, and its regression against scipy's optimiser."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from salsa.evaluation.style import FEATURES, Regression, Style, Styled, controlled, differences, style

TEXT = """# One
##Not one
## Two
1. first
  2. second
- third
*not a list* but **bold** and __bold__ and ** not
```
# code
- code **code**
```
"""


def test_markdown_is_counted_outside_code():
    found = style(TEXT, 50)
    assert found == Style(50, 2, 3, 2)
    assert style("two words.").length == 3


def test_each_kind_of_mark_is_counted_by_itself():
    assert style("**bold __and** bold__").bold == 2
    assert style("__bold **and__ bold** and __bold__").bold == 3
    # An ordered list's mark may take up the line break before an unordered one, and the other way round.
    assert style("1.\n- one").lists == style("-\n1. one").lists == 2


def battles(count=60, models=("a", "b", "c"), effect=0.0, seed=0):
    """Return battles in which the model with more of everything wins more often, by `effect`."""
    noise = np.random.default_rng(seed)
    found = []
    for index in range(count):
        own, other = (Style(*(int(value) for value in noise.integers(1, 60, 4))) for _ in range(2))
        tilt = effect * (own.length - other.length) / (own.length + other.length)
        weight = float(noise.integers(1, 4))
        won = weight * noise.choice([0, 0.5, 1], p=[0.45 - tilt, 0.1, 0.45 + tilt])
        found.append(Styled(models[index % len(models)], str(index // len(models)), won, weight, own, other))
    return sorted(found, key=lambda battle: battle.model)


def test_features_have_mean_0_and_deviation_1_over_battles():
    found = battles()
    scaled, constant = differences(found, FEATURES)
    weight = np.array([battle.weight for battle in found])
    np.testing.assert_allclose(np.average(scaled, axis=0, weights=weight), 0, atol=1e-12)
    np.testing.assert_allclose(np.average(scaled**2, axis=0, weights=weight), 1)
    assert constant == []


def test_the_regression_is_that_of_scipy():
    found = battles()
    scaled, _ = differences(found, FEATURES)
    names = ["a", "b", "c"]
    design = np.zeros((len(found), 8))
    design[:, 0], design[:, 4:] = math.log(10), scaled
    for row, battle in enumerate(found):
        design[row, 1 + names.index(battle.model)] = -math.log(10)
    weight = np.array([2 * battle.weight for battle in found])
    target = np.array([1 - battle.won / battle.weight for battle in found])

    def loss(coefficients):
        logit = design @ coefficients
        return np.sum(weight * (np.logaddexp(0, logit) - target * logit)) + coefficients @ coefficients / 2

    best = minimize(loss, np.zeros(8), method="BFGS", options={"gtol": 1e-8})
    models = np.array([names.index(battle.model) for battle in found])
    [coefficients] = Regression(models, scaled, target).fit(weight[None])
    np.testing.assert_allclose(coefficients, best.x, atol=1e-5)
    result = controlled(found, FEATURES, np.random.default_rng(0), 20)
    for index, name in enumerate(names):
        expected = 1 / (1 + 10 ** (best.x[0] - best.x[1 + index]))
        assert result.win_rates[name][0] == pytest.approx(expected, abs=1e-5)
    assert list(result.coefficients.values()) == pytest.approx(best.x[4:], abs=1e-5)


def test_many_rounds_at_once_are_those_one_by_one():
    found = battles()
    scaled, _ = differences(found, FEATURES)
    target = np.array([1 - battle.won / battle.weight for battle in found])
    problem = Regression(np.repeat([0, 1, 2], 20), scaled, target)
    weights = np.random.default_rng(1).integers(0, 4, (5, len(found))).astype(float)
    together = problem.fit(weights)
    for weight, one in zip(weights, together, strict=True):
        np.testing.assert_allclose(problem.fit(weight[None])[0], one, atol=1e-7)


def test_a_judge_that_likes_length_has_a_positive_coefficient_and_loses_by_control():
    found = battles(600, effect=0.0)
    longer = [
        Styled("a", each.cluster, float(each.own.length > each.other.length), 1.0, each.own, each.other)
        for each in found
    ]
    result = controlled(longer, FEATURES[:1], np.random.default_rng(0), 20)
    assert result.coefficients["length"] > 1


def test_a_feature_that_never_varies_changes_nothing():
    same = [
        Styled("a", str(index), float(index % 3 > 0), 1.0, Style(9, 1, 1, 1), Style(9, 1, 1, 1)) for index in range(9)
    ]
    found = controlled(same, FEATURES, np.random.default_rng(0), 50)
    assert found.constant == FEATURES
    assert set(found.coefficients.values()) == {0.0}
    value, low, high = found.win_rates["a"]
    assert low < value < high
    # The penalty draws the raw rate of 2 / 3 a little towards one half.
    assert 0.5 < value < 2 / 3


def test_no_battle_is_refused():
    with pytest.raises(ValueError, match="no battles"):
        controlled([], FEATURES, np.random.default_rng(0))
