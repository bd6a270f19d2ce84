"""Soups before any RL, where the answer is known."""

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from salsa.report.study.schema import checked
from salsa.soup.landscape import barycentre, line_grid, plane_grid
from salsa.studies.claims import Claim
from salsa.studies.landscape import Soup, landscape
from salsa.studies.settings import Settings
from tests.report.study.examples import study

SETTINGS = Settings("", [], {}, 200, 0.95, 0)
ODD = {(0, (1.0, 0.0)), (1, (0.5, 0.5)), (2, (0.0, 1.0))}
"""Each replicate has another point."""
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
    """Highest at equal weights, by a height that is .85 to 1.15 times as large, 1 in the mean of four replicates."""
    return replicate - (0.85 + replicate / 10) * sum((weight - 1 / len(weights)) ** 2 for weight in weights)


@pytest.mark.parametrize(("grid", "height"), [(line_grid(4, 0.25), 0.5), (plane_grid(3, 0.34), 2 / 3)])
def test_a_soup_above_its_models_is_said_to_be(grid: list[Weights], height: float) -> None:
    found = landscape(soups(bump, grid), SETTINGS)
    assert found["verdicts"][0]["decided"] == "first"
    sentence = found["verdicts"][0]["sentence"]
    assert sentence.startswith(f"The soup is above its best model in gold reward: {height:+.2f} [")
    assert sentence.endswith("] points, 4 replicates")
    assert found["verdicts"][1]["decided"] is None, "the reward-model score is the same everywhere"
    assert found["verdicts"][2]["sentence"].startswith("The soup is below its best model in held-out SFT loss")


def test_a_soup_below_its_models_is_said_to_be() -> None:
    found = landscape(soups(lambda weights, replicate: -bump(weights, replicate), line_grid(2)), SETTINGS)
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


def test_the_plane_has_a_panel_for_each_quantity_with_all_points_where_they_are() -> None:
    grid = plane_grid(3, 0.34)
    drawn = landscape(soups(bump, grid), SETTINGS)["figures"]
    assert [each["kind"] for each in drawn] == ["plane"]
    panels = drawn[0]["series"]
    assert [(each["label"], each["better"]) for each in panels] == [
        ("Gold reward", "high"),
        ("Reward-model score", "high"),
        ("Held-out SFT loss", "low"),
    ]
    points = {tuple(point["weights"]): point for point in panels[0]["points"]}
    assert points.keys() == set(grid)
    for model, weights in zip(drawn[0]["models"], [(1, 0, 0), (0, 1, 0), (0, 0, 1)], strict=True):
        assert (points[weights]["x"], points[weights]["y"]) == pytest.approx((model["x"], model["y"]))
    middle = points[barycentre(3)]
    assert (middle["x"], middle["y"]) == pytest.approx((0.5, 0.75**0.5 / 3))
    assert middle["value"] == max(point["value"] for point in points.values()) == pytest.approx(1.5)
    assert 0 < panels[0]["resolution"] < 0.1, "replicates differ by a constant, and a little in height"


def test_the_parts_of_the_plane_are_rows_and_hold_each_point_once() -> None:
    grid = plane_grid(3, 0.34)
    rows = landscape(soups(bump, grid), SETTINGS)["tables"][0]["rows"]
    values = {row["label"]: row["cells"]["gold"]["value"] for row in rows}
    pairs = ["SFT1 + SFT2", "SFT1 + SFT3", "SFT2 + SFT3"]
    parts = ["mean inside", "mean on the edges", "mean outside"]
    assert list(values) == ["SFT1", "SFT2", "SFT3", *pairs, "soup of all", *parts]
    assert values["mean outside"] < values["SFT1"] < values["mean on the edges"] < values["mean inside"]
    outside = [bump(weights, replicate) for weights in grid if min(weights) < 0 for replicate in range(4)]
    assert values["mean outside"] == pytest.approx(np.mean(outside))


def test_the_peak_of_each_replicate_is_found_where_it_is() -> None:
    peaks = (0.2, 0.4, 0.8, 1.2)
    found = landscape(
        soups(lambda weights, replicate: -((weights[1] - peaks[replicate]) ** 2), line_grid(10, 0.5)), SETTINGS
    )
    cells = {label: cell["value"] for label, cell in found["tables"][1]["rows"][0]["cells"].items()}
    assert [cells[key] for key in ("lower quartile", "median", "upper quartile")] == pytest.approx([0.35, 0.6, 0.9])
    assert [cells[key] for key in ("uniform", "inside", "at the ends", "outside")] == [0, 0.75, 0, 0.25]
    ends = {end for cell in found["tables"][1]["rows"][0]["cells"].values() for end in (cell["low"], cell["high"])}
    assert len(ends - {None}) == 2, "of the difference alone: an interval of places could lie beyond the grid"
    counts = {point["x"]: point["value"] for point in found["figures"][-1]["series"][0]["points"]}
    assert {x for x, count in counts.items() if count} == set(peaks)
    assert set(counts.values()) == {0, 1}
    assert "explanation" in found["figures"][-1]


def test_a_judge_that_is_the_reward_model_is_shown_once() -> None:
    settings = replace(SETTINGS, measure="reward-model score", unit="normalised")
    found = landscape(soups(bump, line_grid(2)), settings)
    assert [figure["title"] for figure in found["figures"]][:2] == [
        "Reward-model score along the line",
        "Held-out SFT loss along the line",
    ]
    assert "gold" not in " ".join(verdict["sentence"].lower() for verdict in found["verdicts"])


def test_a_replicate_that_lacks_a_point_is_left_out_everywhere() -> None:
    whole = soups(bump, line_grid(2))
    found = landscape([soup for soup in whole if (soup.replicate, soup.weights) != (3, (0.5, 0.5))], SETTINGS)
    assert {row["cells"]["gold"]["n"] for row in found["tables"][0]["rows"]} == {3}
    assert found["tables"][0]["rows"][0]["cells"]["gold"]["value"] == pytest.approx(1 - 0.5 * 0.95)
    with pytest.raises(ValueError, match="no replicate of llama2 has all 3 points"):
        landscape([soup for soup in whole if (soup.replicate, soup.weights) in ODD], SETTINGS)


def test_what_is_made_is_what_the_report_takes() -> None:
    for grid in (line_grid(2), plane_grid(3, 0.34)):
        checked(study(**landscape(soups(bump, grid), SETTINGS)))


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


CLAIMS = (Claim("The mean reward is highest at the midpoint", main=True), Claim("Something that is known of the paper"))


def scored(
    reward: Callable[[Weights, int], float], grid: list[Weights], count: int, family: str = "llama2"
) -> list[Soup]:
    """Return soups whose reward-model score alone differs."""
    return [
        Soup(family, replicate, weights, (0.0, 0.0), (reward(weights, replicate),) * 2, (1.0, 1.0), "")
        for replicate in range(count)
        for weights in grid
    ]


def claimed(found: list[Soup]) -> dict[str, Any]:
    """Return what is told of the paper's claim about the peak, and check that another claim is not compared."""
    peak, other = landscape(found, replace(SETTINGS, claims=CLAIMS))["claims"]
    assert peak["claim"] == CLAIMS[0].claim
    assert other == {"claim": CLAIMS[1].claim, "here": None, "holds": None}
    return {"here": peak["here"], "holds": peak["holds"]}


@pytest.mark.parametrize(
    ("peak", "count", "here", "holds"),
    [
        (0.5, 10, "highest at alpha = .5; in resampled replicates (10) the peak is at .5 in 100 %", True),
        (0.6, 10, "highest at alpha = .6; in resampled replicates (10) the peak is at .6 in 100 %", False),
        (-0.2, 10, "highest at alpha = -.2; in resampled replicates (10) the peak is at -.2 in 100 %", False),
        (0.5, 9, "highest at alpha = .5; in resampled replicates (9) the peak is at .5 in 100 %", None),
        (0.6, 9, "highest at alpha = .6; in resampled replicates (9) the peak is at .6 in 100 %", None),
        (0.5, 1, "highest at alpha = .5, 1 replicate", None),
    ],
)
def test_the_papers_peak_is_compared_with_that_of_the_mean_reward_model_score(
    peak: float, count: int, here: str, holds: bool | None
) -> None:
    found = claimed(scored(lambda weights, _: -abs(weights[1] - peak), line_grid(10, 0.5), count))
    assert found == {"here": f"the mean reward-model score is {here}", "holds": holds}


def test_a_peak_between_two_places_is_open_and_its_shares_are_those_of_the_draws() -> None:
    """Of ten replicates six are higher at .5, the others as much at .75: a draw has five of the former in 83 %."""

    def reward(weights: Weights, replicate: int) -> float:
        return float(weights[1] == (0.5 if replicate < 6 else 0.75))

    found = claimed(scored(reward, line_grid(4), 10))
    assert found["holds"] is None
    at = re.search(r"peak is at \.5 in (\d+) %, at \.75 in (\d+) %$", found["here"])
    assert at
    # Of equal ones the first place of the grid is taken.
    share = sum(math.comb(10, number) * 0.6**number * 0.4 ** (10 - number) for number in range(5, 11))
    assert int(at[1]) == pytest.approx(100 * share, abs=2)
    assert int(at[1]) + int(at[2]) == pytest.approx(100, abs=1)


def test_a_sentence_names_four_places_of_a_peak_at_most_and_on_the_plane_their_weights() -> None:
    rng = np.random.default_rng(1)
    found = claimed(scored(lambda *_: float(rng.normal()), line_grid(10), 10))
    assert found["here"].count(", at ") == 3
    shares = [int(share) for share in re.findall(r"in (\d+) %", found["here"])]
    assert shares[:4] == sorted(shares[:4], reverse=True)
    assert sum(shares) == pytest.approx(100, abs=3)
    assert "elsewhere in" in found["here"]
    plane = claimed(scored(lambda weights, _: bump(weights, 0), plane_grid(3, 0.34), 10))
    assert "is highest at weights .33 : .33 : .33; in resampled" in plane["here"]
    assert plane["holds"] is True


def test_families_are_meant_and_their_replicates_drawn_together() -> None:
    grid = line_grid(2)
    one = scored(lambda weights, _: float(weights[1] == 0.5), grid, 12)
    other = scored(lambda weights, _: 1.5 * weights[0], grid, 10, "gemma")
    found = claimed(one + other)
    here = "the mean reward-model score (mean of llama2, gemma) is highest at alpha = .5; in resampled replicates (10)"
    assert found["here"].startswith(here)
    assert found["holds"] is True, "1 and .75 for llama2 and gemma at .5, 0 and 1.5 at 0"


def test_the_notes_say_that_quantities_are_not_corrected_for_each_other() -> None:
    assert "none of them is corrected for the others" in " ".join(
        landscape(soups(bump, line_grid(2)), SETTINGS)["notes"]
    )


def test_the_note_of_a_panel_fits_on_a_line_with_its_interval() -> None:
    panels = landscape(soups(bump, plane_grid(3, 0.34)), SETTINGS)["figures"][0]["series"]
    longest = max((part for panel in panels for part in panel["note"].split("; ")), key=len)
    assert longest.startswith("soup less best model: -0.")
    assert len(longest) <= 48, "letters of a panel's width"
