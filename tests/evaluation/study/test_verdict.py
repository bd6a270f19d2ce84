"""Verdict sentences, the sign-flip test over replicates, and its correction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from salsa.evaluation.statistics import Estimate
from salsa.evaluation.study.verdict import can_decide, corrected, sign_flip, verdict

SHARES = st.floats(0, 1).map(lambda number: round(number, 4))


def rng():
    return np.random.default_rng(2)


def of(low, value, high, replicates=16, **given_p):
    return verdict("SALSA", "PPO", "single", Estimate(value, low, high, replicates), replicates, **given_p)


def test_the_first_wins_where_the_interval_is_above_one_half():
    found = of(0.52, 0.541, 0.563)
    assert found.sentence == "SALSA beats PPO on single: win rate 54.1 % [52.0, 56.3], 16 replicates"
    assert found.decided == "first"


def test_the_second_wins_with_its_own_rate():
    found = of(0.437, 0.459, 0.48)
    assert found.sentence == "PPO beats SALSA on single: win rate 54.1 % [52.0, 56.3], 16 replicates"
    assert found.decided == "second"


def test_an_interval_around_one_half_decides_nothing():
    found = of(0.488, 0.509, 0.531, 8)
    expected = "The data do not decide between SALSA and PPO on single: win rate 50.9 % [48.8, 53.1], 8 replicates"
    assert (found.sentence, found.decided) == (expected, None)


def test_one_replicate_has_no_interval_and_decides_nothing():
    found = of(None, 0.7, None, 1)
    expected = "The data do not decide between SALSA and PPO on single: win rate 70.0 % (no interval), 1 replicate"
    assert (found.sentence, found.decided) == (expected, None)


def test_a_corrected_p_value_can_take_a_verdict_back():
    assert of(0.52, 0.541, 0.563, corrected=0.02, comparisons=3).sentence.endswith(
        "win rate 54.1 % [52.0, 56.3], 16 replicates; p = 0.020 after Holm's correction for 3"
    )
    assert of(0.52, 0.541, 0.563, corrected=0.0002).sentence.endswith("16 replicates; p < 0.001")
    assert of(0.52, 0.541, 0.563, corrected=0.02).decided == "first"
    withdrawn = of(0.52, 0.541, 0.563, corrected=0.06)
    assert withdrawn.sentence.startswith("The data do not decide between SALSA and PPO on single: win rate 54.1 %")
    assert withdrawn.decided is None
    assert of(0.52, 0.541, 0.563, corrected=0.06, level=0.9).decided == "first"
    assert of(0.488, 0.509, 0.531, corrected=0.001).decided is None


def test_an_end_that_would_read_as_one_half_has_more_digits():
    assert "54.12 % [50.04, 58.20]" in of(0.5004, 0.5412, 0.582).sentence
    assert "54.12 % [50.04, 58.20]" in of(0.418, 0.4588, 0.4996).sentence
    assert "54.1 % [50.0, 58.2]" in of(0.49996, 0.5412, 0.582).sentence


@settings(deadline=None)
@given(st.tuples(SHARES, SHARES, SHARES).map(sorted))
def test_the_verdict_turns_round_with_the_arms(ends):
    low, value, high = ends
    forward = verdict("A", "B", "s", Estimate(value, low, high, 9), 9)
    backward = verdict("B", "A", "s", Estimate(1 - value, 1 - high, 1 - low, 9), 9)
    other = {"first": "second", "second": "first", None: None}
    assert backward.decided == other[forward.decided]
    if forward.decided:
        assert backward.sentence == forward.sentence
    assert (forward.decided is None) == (low <= 0.5 <= high)


@pytest.mark.parametrize("value", [54.1, -0.1, float("nan")])
def test_a_percentage_is_no_share(value):
    with pytest.raises(ValueError, match="share between 0 and 1"):
        of(value, value, value)


@pytest.mark.parametrize("count", [2, 5, 8, 12])
def test_few_replicates_have_the_exact_p_value(count):
    differences = rng().normal(0.4, 1, count)
    p, exact = sign_flip(differences, rng())
    test = stats.permutation_test(
        (differences, np.zeros(count)), lambda x, y: np.mean(x - y), permutation_type="samples"
    )
    assert exact
    assert p == pytest.approx(test.pvalue)


def test_many_replicates_have_nearly_the_p_value_of_the_t_test():
    differences = rng().normal(0.4, 1, 40)
    p, exact = sign_flip(differences, rng())
    assert not exact
    assert p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.01)


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 9), min_size=1, max_size=12))
def test_differences_of_one_sign_have_the_least_p_value(differences):
    assert sign_flip(differences, rng())[0] == 2 / 2 ** len(differences)


@settings(deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=10))
def test_a_p_value_does_not_change_with_the_order_of_the_arms(differences):
    assert sign_flip(differences, rng()) == sign_flip([-each for each in differences], rng())


@settings(deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=6))
def test_a_p_value_is_the_share_of_sign_patterns(differences):
    patterns = np.array(np.meshgrid(*[[-1, 1]] * len(differences))).reshape(len(differences), -1)
    share = np.mean(np.abs(np.array(differences) @ patterns) >= abs(sum(differences)))
    assert sign_flip(differences, rng())[0] == pytest.approx(share)


@pytest.mark.parametrize("differences", [[], [0.1, np.nan], [np.inf], [[0.1]]])
def test_what_is_no_sample_is_refused(differences):
    with pytest.raises(ValueError, match="finite differences, one a replicate"):
        sign_flip(differences, rng())


def test_several_comparisons_are_corrected_together():
    strong, weak = np.ones(8), np.array([1, 1, 1, 1, 1, 1, -1, 0.5])
    alone = sign_flip(weak, rng())[0]
    assert corrected([strong, weak], rng()) == pytest.approx([2 * 2 / 256, max(2 * 2 / 256, alone)])
    assert corrected([], rng()) == []


@settings(deadline=None)
@given(st.integers(1, 14), st.integers(1, 40))
def test_whether_anything_can_be_decided(replicates, comparisons):
    # What the arms' largest possible difference comes to, among others just as large.
    least = 2 / 2**replicates if replicates <= 12 else 1 / 10_001
    assert can_decide(replicates, comparisons) == (comparisons * least <= 0.05)


def test_eight_replicates_decide_six_comparisons_and_no_more():
    tests = [np.ones(8)] * 7
    assert max(corrected(tests[:6], rng())) <= 0.05 < max(corrected(tests, rng()))
    assert can_decide(8, 6)
    assert not can_decide(8, 7)
