import math

import numpy as np
import pytest

from salsa.evaluation.calibration import calibration, rightly_ordered


def test_ties_count_half():
    assert rightly_ordered([2.0, -1.0, 0.0]).tolist() == [1.0, 0.0, 0.5]


def test_figures_by_hand():
    # Probabilities of what was preferred: 0.8, 0.8, 0.2 and 0.9.
    margins = [math.log(4), math.log(4), -math.log(4), math.log(9)]
    found = calibration(margins, bins=4)
    assert found["pairs"] == 4
    assert found["accuracy"] == 0.75
    assert found["brier"] == pytest.approx((0.04 + 0.04 + 0.64 + 0.01) / 4)
    assert found["log_loss"] == pytest.approx(-(2 * math.log(0.8) + math.log(0.2) + math.log(0.9)) / 4)
    low, high = found["reliability"]
    assert (low["predicted"], low["observed"], low["count"]) == (pytest.approx(0.8), pytest.approx(2 / 3), 3)
    assert (high["predicted"], high["observed"], high["count"]) == (pytest.approx(0.9), 1.0, 1)
    assert found["ece"] == pytest.approx((abs(0.8 - 2 / 3) * 3 + 0.1) / 4)


def test_a_coin_is_calibrated_and_no_use():
    found = calibration(np.zeros(10))
    assert (found["accuracy"], found["brier"], found["ece"]) == (0.5, 0.25, 0.0)
    assert found["log_loss"] == pytest.approx(math.log(2))


def test_a_model_that_states_the_true_chances_is_calibrated():
    rng = np.random.default_rng(0)
    margin = rng.normal(0, 2, 200_000)
    preferred = rng.random(margin.size) < 1 / (1 + np.exp(-margin))
    assert calibration(np.where(preferred, margin, -margin))["ece"] < 0.01
    overconfident = calibration(np.where(preferred, 3 * margin, -3 * margin))
    assert overconfident["ece"] > 0.1
    assert all(bucket["observed"] < bucket["predicted"] for bucket in overconfident["reliability"])


def test_extreme_margins_stay_finite():
    found = calibration([800.0, -800.0])
    assert found["brier"] == pytest.approx(0.5)
    assert found["log_loss"] == pytest.approx(400)
    assert sum(bucket["count"] for bucket in found["reliability"]) == 2


@pytest.mark.parametrize(("margins", "bins"), [([], 10), ([1.0], 0), ([[1.0]], 10), ([float("nan")], 10)])
def test_impossible_questions_are_refused(margins, bins):
    with pytest.raises(ValueError):
        calibration(margins, bins)
