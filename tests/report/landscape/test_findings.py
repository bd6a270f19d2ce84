from collections.abc import Callable

import numpy as np
import pytest

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
        (lambda weights: weights[1], 0.0, "The midpoint is worse than SFT2 ("),
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


def test_the_verdict_names_the_best_point_and_whether_it_is_surely_better() -> None:
    sure, unsure = field(lambda weights: weights[1]), field(lambda weights: 0.1 * weights[1], noise=0.5)
    said = findings.verdict(sure, findings.of_line(sure))
    assert (
        "The best point of the grid is alpha = 1.5 (in 100% of resamples; the midpoint in 0%), better than the" in said
    )
    assert "the data do not tell the two apart" in findings.verdict(unsure, findings.of_line(unsure))
    middle = field(bump)
    assert findings.verdict(middle, findings.of_line(middle)).endswith(
        "(+0.20 [+0.20, +0.20] against SFT1, +0.20 [+0.20, +0.20] against SFT2). "
        "The best point of the grid is the midpoint itself (in 100% of resamples)."
    )


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
    assert said.endswith("The best point of the grid is the barycentre itself (in 100% of resamples).")
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
