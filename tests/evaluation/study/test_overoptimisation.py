"""The two-parameter curve of over-optimisation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from salsa.evaluation.study.frontier import front
from salsa.evaluation.study.overoptimisation import LEVELS, Fit, Unfit, fit


def curve(distance, alpha, beta):
    return distance * (alpha - beta * np.log(distance))


@settings(deadline=None)
@given(st.floats(-1, 2), st.floats(0.1, 2), st.floats(-3, 3), st.integers(LEVELS, 12))
def test_points_on_a_curve_give_its_parameters_and_peak(alpha, beta, baseline, count):
    top = math.exp(alpha / beta - 1)
    distance = top * np.linspace(0.2, 1.9, count)
    found = fit(front(distance**2, baseline + curve(distance, alpha, beta)), baseline)
    assert isinstance(found, Fit)
    scale = abs(alpha) + beta
    assert (found.alpha, found.beta) == pytest.approx((alpha, beta), abs=1e-6 * scale)
    assert (found.peak_kl, found.peak_gold) == pytest.approx((top**2, baseline + beta * top), rel=1e-5, abs=1e-9)
    assert found.error == pytest.approx(0, abs=1e-9 * scale * (1 + top) * (1 + abs(baseline)))
    assert found.at(found.peak_kl) == pytest.approx(found.peak_gold)


def test_the_fit_is_that_of_scipy():
    distance = np.linspace(0.5, 8, 20)
    gold = curve(distance, 1.5, 0.8) + np.random.default_rng(4).normal(0, 0.1, 20)
    found = fit(front(distance**2, gold), 0.0)
    expected, _ = curve_fit(curve, distance, gold)
    assert isinstance(found, Fit)
    assert (found.alpha, found.beta) == pytest.approx(expected, rel=1e-5)
    assert found.error == pytest.approx(np.sqrt(np.mean((curve(distance, *expected) - gold) ** 2)))


def test_the_anchor_itself_is_on_every_curve():
    distance = np.linspace(0, 4, 9)
    gold = 0.7 + np.append(0, curve(distance[1:], 1.0, 0.8))
    found = fit(front(distance**2, gold), 0.7)
    assert isinstance(found, Fit)
    assert found.at(0.0) == 0.7
    assert (found.alpha, found.beta) == pytest.approx((1.0, 0.8))


def reason(kl, gold):
    found = fit(front(kl, gold), 0.0)
    assert isinstance(found, Unfit)
    return found.reason


def test_fewer_than_six_levels_are_not_fitted():
    kl = [1, 2, 3, 4, 5]
    assert reason(kl, [0, 1, 2, 1, 0]) == "5 KL levels; a fit needs 6"
    assert reason([*kl, 5], [0, 1, 2, 1, 0, 0]).startswith("5 KL levels")


@pytest.mark.parametrize("gold", [[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1], [3, 3, 3, 3, 3, 3]])
def test_without_a_peak_inside_the_range_there_is_no_fit(gold):
    assert "highest at an end of the range" in reason([1, 4, 9, 16, 25, 36], gold)


def test_a_curve_whose_own_peak_is_outside_is_no_fit():
    # One high point by chance, on a curve that still rises (or bends the other way).
    distance = np.linspace(1, 4, 8)
    gold = curve(distance, 3.0, 0.5)
    gold[-2] = gold[-1] + 0.01
    assert "no peak inside the range" in reason(distance**2, gold)
    convex = curve(distance, 1.0, -1.0)
    convex[-2] = convex[-1] + 0.01
    assert "no peak inside the range" in reason(distance**2, convex)


def test_a_trough_is_no_peak():
    distance = np.linspace(0.5, 5, 12)
    gold = curve(distance, -1 - math.log(2), -1.0)  # least at d = 2
    gold[-2] = gold[-1] + 0.01
    assert "beta -1" in reason(distance**2, gold)
    assert "no peak inside the range" in reason(distance**2, gold)
