"""Style control: the counts of Arena-Hard, and both releases' regressions against scipy's optimiser."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from salsa.evaluation.style import FEATURES, RULES, Regression, Style, Styled, controlled, differences, style

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


def by_the_current_release(found, names):
    """Return [battles, features] as the current release has them, from rows that are repeated by their weight."""
    rows = [battle for battle in found for _ in range(round(battle.weight))]
    own, other = (np.array([getattr(row, side).as_row() for row in rows]) for side in ("own", "other"))
    length = (own[:, 0] - other[:, 0]) / (own[:, 0] + other[:, 0])
    dense_own, dense_other = (side[:, 1:] / (side[:, :1] + 1) for side in (own, other))
    markdown = (dense_own - dense_other) / (dense_own + dense_other + 1)
    features = np.column_stack([length, markdown])
    scaled = (features - features.mean(axis=0)) / features.std(axis=0, ddof=1)
    return rows, scaled[:, [FEATURES.index(name) for name in names]]


@pytest.mark.parametrize("names", [FEATURES, FEATURES[:1], FEATURES[1:]])
def test_the_current_release_is_that_of_scipy(names):
    """Each battle is a row, the model's features come first, and nothing is penalised."""
    found = battles()
    rows, scaled = by_the_current_release(found, names)
    models = ["a", "b", "c"]
    chosen = np.array([models.index(row.model) for row in rows])
    won = np.array([row.won / row.weight for row in rows])

    def loss(coefficients):
        logit = coefficients[chosen] + scaled @ coefficients[3:]
        return np.sum(np.logaddexp(0, logit) - won * logit)

    best = minimize(loss, np.zeros(3 + len(names)), method="BFGS", options={"gtol": 1e-8})
    result = controlled(found, names, np.random.default_rng(0), 20, release="current")
    for index, name in enumerate(models):
        assert result.win_rates[name][0] == pytest.approx(1 / (1 + math.exp(-best.x[index])), abs=1e-5)
    assert list(result.coefficients.values()) == pytest.approx(best.x[3:], abs=1e-4)


def test_without_a_penalty_replies_of_one_style_leave_the_win_rate_as_it_is():
    same = Style(9, 1, 1, 1)
    won = [1.0, 0.5, 0.0, 3.0, 1.0]
    found = [Styled("a", str(index), each, max(each, 1.0), same, same) for index, each in enumerate(won)]
    result = controlled(found, FEATURES, np.random.default_rng(0), 20, release="current")
    assert result.win_rates["a"][0] == pytest.approx(sum(won) / 7, abs=1e-5)
    assert result.constant == FEATURES


def test_a_model_that_won_every_battle_stays_finite_without_a_penalty():
    found = [Styled("b", each.cluster, each.weight, each.weight, each.own, each.other) for each in battles(20)]
    result = controlled([*found, *battles()], FEATURES, np.random.default_rng(0), 20, release="current")
    value, low, high = result.win_rates["b"]
    assert all(math.isfinite(number) for number in (value, low, high, *result.coefficients.values()))
    alone = controlled(found, FEATURES, np.random.default_rng(0), 20, release="current")
    assert alone.win_rates["b"][0] > 0.999


def test_empty_replies_have_no_style():
    nothing, something = Style(0, 0, 0, 0), Style(10, 1, 2, 3)
    found = [Styled("a", str(index), index % 2, 1.0, nothing, [nothing, something][index < 4]) for index in range(8)]
    for rule in RULES.values():
        scaled, _ = differences(found, FEATURES, rule)
        assert np.isfinite(scaled).all()


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
