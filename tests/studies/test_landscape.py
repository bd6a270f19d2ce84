"""Soups before any RL, where the answer is known."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from salsa.soup.landscape import line_grid, plane_grid
from salsa.studies.landscape import Soup, landscape
from salsa.studies.settings import Settings

SETTINGS = Settings("", [], {}, 200, 0.95, 0)
Weights = tuple[float, ...]


def soups(gold: Callable[[Weights, int], float], grid: list[Weights]) -> list[Soup]:
    found = []
    for replicate in range(4):
        for weights in grid:
            value = gold(weights, replicate)
            halves = (value, value)
            found.append(Soup("llama2", replicate, weights, halves, (0.0, 0.0), (1.0 - value, 1.0 - value), ""))
    return found


def bump(weights: Weights, replicate: int) -> float:
    """Highest at equal weights."""
    return replicate - sum((weight - 1 / len(weights)) ** 2 for weight in weights)


@pytest.mark.parametrize(("grid", "height"), [(line_grid(4, 0.25), 0.5), (plane_grid(3, 0.34), 2 / 3)])
def test_a_soup_above_its_models_is_said_to_be(grid: list[Weights], height: float) -> None:
    found = landscape(soups(bump, grid), SETTINGS)
    assert found["verdicts"][0]["decided"] == "first"
    sentence = found["verdicts"][0]["sentence"]
    assert sentence.startswith(f"The soup is above its best model in gold reward: {height:+.2f}")
    assert found["verdicts"][1]["decided"] is None, "the reward-model score is the same everywhere"
    assert found["verdicts"][2]["sentence"].startswith("The soup is below its best model in held-out SFT loss")


def test_a_soup_below_its_models_is_said_to_be() -> None:
    found = landscape(soups(lambda weights, replicate: -bump(weights, 0), line_grid(2)), SETTINGS)
    assert found["verdicts"][0]["decided"] == "second"
    assert "is not above" in found["verdicts"][0]["sentence"]


def test_the_best_model_is_that_of_the_replicate() -> None:
    def gold(weights: Weights, replicate: int) -> float:
        better = replicate % 2
        return 0.9 if 0.5 in weights else float(weights[better])

    found = landscape(soups(gold, line_grid(2)), SETTINGS)
    assert "-0.10" in found["verdicts"][0]["sentence"], "each replicate has a model of 1, whichever it is"


def test_the_line_is_drawn_over_the_weight_of_sft2() -> None:
    found = landscape(soups(bump, line_grid(4)), SETTINGS)
    points = found["figures"][0]["series"][0]["points"]
    assert [each["x"] for each in points] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert max(points, key=lambda each: each["value"])["x"] == 0.5


def test_the_plane_is_told_by_its_inside_edges_and_outside() -> None:
    found = landscape(soups(bump, plane_grid(3, 0.34)), SETTINGS)
    points = {each["x"]: each["value"] for each in found["figures"][0]["series"][0]["points"]}
    assert list(points) == ["outside the triangle", "on its edges", "inside", "barycentre"]
    assert points["barycentre"] == pytest.approx(1.5)
    assert points["outside the triangle"] < points["on its edges"] < points["barycentre"]
    labels = [row["label"] for row in found["tables"][0]["rows"]]
    assert labels == ["SFT1", "SFT2", "SFT3", "SFT1 + SFT2", "SFT1 + SFT3", "SFT2 + SFT3", "soup of all"]


def test_models_that_are_all_alike_but_for_noise_are_not_said_to_be_better() -> None:
    """The best of several noisy numbers is too good for a comparison with it; chosen on other prompts it is not."""
    rng = np.random.default_rng(0)
    decided = Counter[str | None]()
    for _ in range(200):
        noisy = [
            Soup("llama2", replicate, weights, *(tuple(rng.normal(size=2)) for _ in range(3)), print="")
            for replicate in range(8)
            for weights in plane_grid(3)
        ]
        decided.update(verdict["decided"] for verdict in landscape(noisy, SETTINGS)["verdicts"])
    assert decided["second"] < 0.06 * decided.total()
    assert decided["first"] < 0.06 * decided.total()
