from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.report.landscape import findings
from salsa.report.landscape.distribution import Resamples
from salsa.report.landscape.findings import Field
from salsa.report.landscape.summary import LOSS
from salsa.report.schema import METRICS, Metric
from salsa.soup.landscape import Weights, barycentre, line_grid, plane_grid

CLUSTERS = [f"subject {number % 40}" for number in range(160)]
JUDGE = METRICS["judge"]
Height = Callable[[Weights], float]


def field(height: Height, models: int = 2, noise: float = 0.0, metric: Metric = JUDGE, seed: int = 0) -> Field:
    """Return values that are the height of each point plus what is common to a prompt, and noise of its own."""
    names, grid = (
        (("SFT1", "SFT2"), line_grid(10, 0.5)) if models == 2 else (("SFT1", "SFT2", "SFT3"), plane_grid(6, 0.5))
    )
    rng = np.random.default_rng(seed)
    ease = rng.normal(size=40)[np.arange(160) % 40]
    apart = noise * rng.normal(size=(40, len(grid)))[np.arange(160) % 40]
    values = np.array([height(weights) for weights in grid]) + ease[:, None] + apart
    return Field(names, grid, Resamples(CLUSTERS, rng, 300).ratios(values), metric, 0.95)


def bump(weights: Weights) -> float:
    return 0.8 * weights[0] * weights[1]


def test_the_findings_on_a_quadratic_line_are_its_closed_forms() -> None:
    found = findings.of_line(field(lambda weights: 0.3 * weights[1] + bump(weights)))
    assert found["differences"]["SFT1"]["value"] == pytest.approx(0.15 + 0.2)
    assert found["differences"]["SFT2"]["value"] == pytest.approx(-0.15 + 0.2)
    assert found["differences"][findings.ENDS]["value"] == pytest.approx(0.2)
    # Common difficulty cancels in every resample.
    for each in found["differences"].values():
        assert (each["low"], each["high"]) == pytest.approx((each["value"], each["value"]))
    assert found["barrier"] == {"value": 0, "low": 0, "high": pytest.approx(0, abs=1e-12), "n": 160, "alpha": 0}
    # The maximum of 0.3 a + 0.8 a (1 - a) is at 0.6875.
    assert found["best"]["weights"] == pytest.approx([0.3, 0.7])
    assert found["best"]["share"] == 1
    assert found["best"]["alphas"] == [0.7, 0.7]
    assert found["best"]["places"] == {"inside": 1, "on an edge": 0, "at a model": 0, "outside": 0}


@pytest.mark.parametrize(("metric", "sign"), [(JUDGE, -1), (LOSS, 1)])
def test_a_barrier_is_worse_than_the_chord_whatever_better_means(metric: Metric, sign: int) -> None:
    made = field(lambda weights: 0.3 * weights[1] + sign * bump(weights), metric=metric)
    found = findings.of_line(made)
    assert (found["barrier"]["value"], found["barrier"]["alpha"]) == (pytest.approx(0.2), 0.5)
    assert found["barrier"]["low"] == pytest.approx(0.2)
    assert findings.verdict(made, found).startswith("The midpoint is worse than ")


def test_where_there_is_no_barrier_noise_seldom_shows_one() -> None:
    shown = sum(
        findings.of_line(field(lambda _: 0.0, noise=0.5, seed=seed))["barrier"]["low"] > 0 for seed in range(100)
    )
    # The naive interval, from resampled maxima, would be above 0 nearly always.
    assert shown <= 12


def test_where_all_points_are_equal_the_best_is_seldom_better_than_the_midpoint() -> None:
    wrong = 0
    for seed in range(100):
        best = findings.of_line(field(lambda _: 0.0, noise=0.5, seed=seed))["best"]
        wrong += best["difference"]["high"] < 0
        assert sum(best["places"].values()) == pytest.approx(1)
    assert wrong <= 12


@pytest.mark.parametrize(
    ("height", "noise", "start"),
    [
        (bump, 0.0, "The midpoint is better than both ends ("),
        (lambda weights: -bump(weights), 0.0, "The midpoint is worse than both ends ("),
        (lambda weights: weights[1], 0.0, "The midpoint is worse than SFT2; it is better than SFT1 ("),
        (
            lambda weights: weights[1] - 1.8 * bump(weights),
            0.5,
            "The midpoint is worse than SFT2; the data do not decide whether it is better than SFT1 (",
        ),
        (lambda _: 0.0, 1.0, "The data do not decide whether the midpoint is better than SFT1 or SFT2 ("),
        (
            lambda weights: weights[1] + 2.25 * bump(weights),
            0.5,
            "The data do not decide whether the midpoint is better than SFT2; it is better than SFT1 (",
        ),
    ],
)
def test_the_verdict_on_a_line_says_what_the_intervals_say(height: Height, noise: float, start: str) -> None:
    made = field(height, noise=noise)
    assert findings.verdict(made, findings.of_line(made)).startswith(start)


def test_the_verdict_on_a_plane_has_all_three_sides() -> None:
    made = field(lambda weights: weights[1] + 0.5 * weights[0], models=3, noise=0.2)
    differences = findings.of_plane(made)["differences"]
    assert (differences["SFT2"]["high"] < 0, differences["SFT3"]["low"] > 0) == (True, True)
    assert differences["SFT1"]["low"] < 0 < differences["SFT1"]["high"]
    assert findings.verdict(made, findings.of_plane(made)).startswith(
        "The barycentre is worse than SFT2; the data do not decide whether it is better than SFT1; "
        "it is better than SFT3 ("
    )


@pytest.mark.parametrize("models", [2, 3])
def test_differences_to_the_models_have_intervals_that_hold_together(models: int) -> None:
    made = field(lambda _: 0.0, models=models, noise=0.5)
    find = findings.of_line if models == 2 else findings.of_plane
    apart = [made.at(barycentre(models)) - made.at(weights) for weights in findings.vertices(models)]
    band = made.values.contrasts(apart).band(0.95)
    differences = find(made)["differences"]
    assert [(differences[name]["low"], differences[name]["high"]) for name in made.models] == band
    alone = made.values.contrasts(apart).estimates(0.95)
    assert sum(high - low for low, high in band) > sum(each.high - each.low for each in alone)


def test_without_differences_a_verdict_seldom_names_one() -> None:
    said = [verdict_of(field(lambda _: 0.0, noise=0.5, seed=seed)) for seed in range(100)]
    assert sum(not each.startswith("The data do not decide") for each in said) <= 14


def verdict_of(made: Field) -> str:
    found = findings.of_line(made) if len(made.models) == 2 else findings.of_plane(made)
    return findings.verdict(made, found)


def test_the_verdict_names_the_best_point_and_whether_it_is_surely_better() -> None:
    sure, unsure = field(lambda weights: weights[1]), field(lambda weights: 0.1 * weights[1], noise=0.5)
    said = findings.verdict(sure, findings.of_line(sure))
    assert (
        "The best point of the grid is alpha = 1.5 (in 100% of resamples; the midpoint in 0%), better than the" in said
    )
    assert "; the data do not tell the midpoint from it (midpoint against it: -" in verdict_of(unsure)
    assert verdict_of(field(lambda weights: bump(weights) + 0.002 * weights[0])).endswith(
        "(+0.20 [+0.20, +0.20] against SFT1, +0.20 [+0.20, +0.20] against SFT2). "
        "The best point of the grid is the midpoint itself (in 100% of resamples), better than the next best, "
        "alpha = 0.4 (midpoint against that: +0.01 [+0.01, +0.01])."
    )


def test_a_midpoint_that_is_best_by_chance_is_not_told_from_the_next_best() -> None:
    made = next(
        each
        for each in (field(bump, noise=0.3, seed=seed) for seed in range(50))
        if findings.of_line(each)["best"]["is_centre"]
    )
    best = findings.of_line(made)["best"]
    heights = made.values.value.tolist()
    middle = heights.pop(made.weights.index(barycentre(2)))
    assert best["difference"]["value"] == pytest.approx(middle - max(heights))
    assert best["difference"]["low"] < 0 < best["difference"]["high"]
    said = verdict_of(made)
    assert "is the midpoint itself; the data do not tell it from the next best, alpha = 0." in said
    assert "(midpoint against that: +0." in said


@pytest.mark.parametrize("height", [bump, lambda weights: 0.1 * weights[1]])
def test_where_points_are_not_told_apart_no_share_of_resamples_is_named(height: Height) -> None:
    said = [verdict_of(field(height, models=models, noise=0.4, seed=seed)) for models in (2, 3) for seed in range(10)]
    unsure = [each for each in said if "do not tell" in each]
    assert unsure
    assert not any("resamples" in each for each in unsure)


ENDS = st.floats(-0.02, 0.02) | st.floats(-2, 2)


@given(st.lists(ENDS, min_size=3, max_size=3).map(sorted), st.sampled_from([JUDGE, LOSS, METRICS["unfinished"]]))
def test_a_verdict_and_its_numbers_agree(numbers: list[float], metric: Metric) -> None:
    made = field(lambda _: 0.0, metric=metric)
    low, value, high = numbers
    estimate = {"value": value, "low": low, "high": high, "n": 160}
    text = findings.shown(estimate, metric)
    left, right = (float(number) for number in text.split("[")[1].rstrip("]").split(", "))
    other = {"value": 0.0, "low": -1.0, "high": 1.0, "n": 160}
    best = findings.of_line(made)["best"]
    said = findings.verdict(made, {"differences": {"SFT1": estimate, "SFT2": other}, "best": best})
    assert ("is better than SFT1 (" in said) == (made.sign * left > 0 and made.sign * right > 0)
    assert ("is worse than SFT1" in said) == (made.sign * left < 0 and made.sign * right < 0)


def test_a_bound_near_zero_has_the_decimals_to_show_it() -> None:
    assert findings.shown({"value": 0.17, "low": 0.0004, "high": 0.37}, JUDGE) == "+0.1700 [+0.0004, +0.3700]"
    assert findings.shown({"value": 0.19, "low": -0.003, "high": 0.37}, JUDGE) == "+0.190 [-0.003, +0.370]"
    assert findings.shown({"value": 0.19, "low": 0.0, "high": 0.37}, JUDGE) == "+0.19 [0.00, +0.37]"
    assert findings.shown({"value": 0.19, "low": 1e-16, "high": 0.37}, JUDGE) == "+0.19 [0.00, +0.37]"
    assert findings.shown({"value": 0.19, "low": None, "high": None}, JUDGE) == "+0.19 [no interval]"


def test_the_findings_on_a_quadratic_plane_are_its_closed_forms() -> None:
    made = field(lambda weights: weights[1] - sum(weight**2 for weight in weights), models=3)
    found = findings.of_plane(made)
    assert found["centre"]["value"] - made.values.value @ made.at((1.0, 0.0, 0.0)) == pytest.approx(2 / 3 + 1 / 3)
    assert found["differences"]["SFT2"]["value"] == pytest.approx(1 / 3 - 1 / 3 + 0)
    assert found["differences"][findings.VERTICES]["value"] == pytest.approx(2 / 3)
    assert found["differences"][findings.EDGES]["value"] == pytest.approx(1 / 2 - 1 / 3)
    inside = [weights for weights in made.weights if min(weights) > 0]
    assert found["interior"]["points"] == len(inside) == 10
    mean = float(np.mean([weights[1] - sum(weight**2 for weight in weights) for weights in inside]))
    assert found["interior"]["differences"]["SFT2"]["value"] == pytest.approx(mean)
    # The gradient vanishes at (1/3, 1/3, 1/3) + (-1, 2, -1) / 6.
    assert found["best"]["weights"] == pytest.approx([1 / 6, 2 / 3, 1 / 6])


def test_the_verdict_on_a_plane_compares_with_all_three() -> None:
    made = field(lambda weights: -sum(weight**2 for weight in weights), models=3)
    said = findings.verdict(made, findings.of_plane(made))
    assert said.startswith("The barycentre is better than all three models (+0.67")
    assert "The best point of the grid is the barycentre itself (in 100% of resamples), better than the next" in said
    slope = field(lambda weights: weights[1] + 0.1 * weights[0], models=3)
    assert "is weights (0, 1.5, -0.5) (in 100% of resamples" in findings.verdict(slope, findings.of_plane(slope))


def test_places_are_told_apart() -> None:
    assert findings.place(barycentre(3)) == findings.INSIDE
    assert findings.place((0.5, 0.0, 0.5)) == findings.EDGE
    assert findings.place((0.0, 1.0, 0.0)) == findings.VERTEX
    assert findings.place((-0.5, 0.75, 0.75)) == findings.place((-0.5, 1.0, 0.5)) == findings.OUTSIDE


def test_the_resolution_is_half_an_interval_of_a_difference_to_the_centre() -> None:
    made = field(bump, noise=0.5)
    others = [
        made.at(weights) - made.at(barycentre(2))
        for weights in made.weights
        if min(weights) >= 0 and weights != barycentre(2)
    ]
    found = made.values.contrasts(others).estimates(0.95)
    assert findings.of_line(made)["resolution"] == pytest.approx(
        np.median([(each.high - each.low) / 2 for each in found])
    )
    assert findings.of_line(field(bump))["resolution"] == pytest.approx(0, abs=1e-12)
