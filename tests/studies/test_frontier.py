"""Fronts of gold against KL, where the answer is known."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from salsa.studies.evidence import Model, Point
from salsa.studies.frontier import frontier
from salsa.studies.settings import Settings

SETTINGS = Settings("PPO", [("SALSA", "PPO")], {"PPO": "ppo", "SALSA": "salsa"}, 200, 0.95, 0)
COEFFICIENTS = (0.1, 0.4)
REPLICATES = 8


def models(gold: Callable[[str, float, int], float], reach: float = 4.0, family: str = "llama2") -> list[Model]:
    """Arms whose checkpoints lie on a curve: `gold` of arm, sqrt(KL) and replicate."""
    found = [
        Model(family, arm, replicate, None, {}, {}, {"kl": "0"})
        for arm in ("SFT1", "soup")
        for replicate in range(REPLICATES)
    ]
    for arm in ("PPO", "SALSA"):
        for replicate in range(REPLICATES):
            for coefficient in COEFFICIENTS:
                points = []
                for step in range(5):
                    kl = reach * (step / 4) ** 2 * (0.1 / coefficient)
                    values = gold(arm, math.sqrt(kl), replicate), 2 * math.sqrt(kl), 10.0 - kl, 0.0
                    points.append(Point(step, *values, {"SFT1": kl, "soup": kl}))
                prints = {"kl": f"{arm}{replicate}{coefficient}"}
                found.append(Model(family, arm, replicate, coefficient, {}, {}, prints, points))
    return found


def cells(found: dict[str, Any], arm: str) -> dict[str, Any]:
    (table,) = found["tables"]
    return next(row["cells"] for row in table["rows"] if row["label"] == arm)


def test_a_front_that_lies_higher_wins_by_its_height() -> None:
    found = frontier(models(lambda arm, d, replicate: d + (0.5 if arm == "SALSA" else 0.0) + replicate), SETTINGS)
    salsa = cells(found, "SALSA")
    assert salsa["mean"]["value"] == pytest.approx(0.5)
    assert salsa["less0"]["value"] == salsa["less2"]["value"] == pytest.approx(0.5)
    assert salsa["less0"]["low"] == pytest.approx(0.5), "replicates differ, their differences do not"
    assert found["verdicts"][0]["decided"] == "first"
    assert found["verdicts"][0]["sentence"].startswith(
        "SALSA is above PPO at matched KL to SFT1 (0.00 to 4.00 nats): +0.50"
    )
    assert "less0" not in cells(found, "PPO")


def test_a_front_that_only_reaches_further_wins_nothing() -> None:
    found = frontier(models(lambda arm, d, replicate: d * (1 + replicate)), SETTINGS)
    assert found["verdicts"][0]["decided"] is None
    assert cells(found, "SALSA")["mean"]["value"] == pytest.approx(0.0)


def test_a_lower_front_loses() -> None:
    found = frontier(models(lambda arm, d, replicate: d - (0.5 if arm == "SALSA" else 0.0)), SETTINGS)
    assert found["verdicts"][0]["decided"] == "second"


def test_the_highest_point_and_its_kl() -> None:
    found = frontier(models(lambda arm, d, replicate: -((d - 1) ** 2)), SETTINGS)
    assert cells(found, "PPO")["peak"]["value"] == pytest.approx(0.0)
    assert cells(found, "PPO")["peak_kl"]["value"] == pytest.approx(1.0)


def test_what_is_drawn_over_the_coefficient_is_of_the_end_of_training() -> None:
    found = frontier(models(lambda arm, d, replicate: d), SETTINGS)
    length = next(each for each in found["figures"] if each["name"] == "length_over_coefficient")
    assert length["x"]["log"]
    points = {each["x"]: each["value"] for each in length["series"][0]["points"]}
    assert points == pytest.approx({0.1: 10.0 - 4.0, 0.4: 10.0 - 1.0})


def test_a_front_is_drawn_as_far_as_all_of_its_replicates_go() -> None:
    far = [each for each in models(lambda arm, d, r: d, reach=9.0) if each.arm == "SALSA"]
    near = [each for each in models(lambda arm, d, r: d) if each.arm != "SALSA"]
    figure = next(each for each in frontier([*near, *far], SETTINGS)["figures"] if each["name"] == "frontier")
    ends = {each["label"]: (each["points"][0]["x"], each["points"][-1]["x"]) for each in figure["series"]}
    assert ends["PPO"] == pytest.approx((0.0, 2.0))
    assert ends["SALSA"] == pytest.approx((0.0, 3.0))


def test_families_are_told_apart() -> None:
    both = [*models(lambda arm, d, r: d), *models(lambda arm, d, r: d, family="gemma")]
    found = frontier(both, SETTINGS)
    assert [table["name"] for table in found["tables"]] == ["matched KL, llama2", "matched KL, gemma"]
    assert len({each["name"] for each in found["figures"]}) == len(found["figures"]) == 2 * 6


def test_fronts_without_common_kl_decide_nothing() -> None:
    apart = [model for model in models(lambda arm, d, r: d) if model.arm != "SALSA"]
    far = [model for model in models(lambda arm, d, r: d, reach=9.0) if model.arm == "SALSA"]
    moved = [
        Model(
            m.family, m.arm, m.replicate, m.coefficient, {}, {}, m.prints, [p for p in m.points if p.kl["SFT1"] > 8.0]
        )
        for m in far
        if m.coefficient == 0.1
    ]
    found = frontier([*apart, *moved], SETTINGS)
    assert found["verdicts"] == [
        {"sentence": "SALSA and PPO have no KL to SFT1 in common: nothing to compare there", "decided": None}
    ]
    assert found["tables"] == []


@pytest.mark.parametrize(("sign", "does"), [(1, "get shorter"), (-1, "get longer")])
def test_a_study_about_length_says_what_becomes_of_it(sign: int, does: str) -> None:
    def length(kl: float, replicate: int) -> float:
        return 10.0 + sign * kl + replicate

    made = [
        replace(
            each,
            points=[replace(point, length=length(point.kl["SFT1"], each.replicate)) for point in each.points],
        )
        for each in models(lambda arm, d, r: d)
    ]
    found = frontier(made, replace(SETTINGS, about="length"))
    first, second, outcome = (each["sentence"] for each in found["verdicts"])
    assert first.startswith(f"The replies of SALSA {does} as the KL coefficient grows from 0.1 to 0.4: ")
    assert second.startswith(f"The replies of PPO {does}")
    ends = (10 + sign * 4 + 3.5, 10 + sign * 1 + 3.5)
    assert f"from {ends[0]:.1f} to {ends[1]:.1f} tokens, {-3.0 * sign:+.1f} [" in first
    assert "at matched KL" in outcome


def test_too_few_replicates_for_the_corrected_tests_are_told() -> None:
    few = [each for each in models(lambda arm, d, r: d) if each.replicate < 4]
    assert frontier(few, SETTINGS)["warnings"] == [
        "with 4 replicates no p value can be small enough to decide all questions"
    ]
    assert frontier(models(lambda arm, d, r: d), SETTINGS)["warnings"] == []


def test_lengths_are_of_replicates_that_have_both_ends() -> None:
    made = models(lambda arm, d, r: d)
    some = [each for each in made if (each.arm, each.replicate, each.coefficient) != ("SALSA", 3, 0.4)]
    first, *_ = frontier(some, replace(SETTINGS, about="length"))["verdicts"]
    assert "7 replicates" in first["sentence"]
    none = [each for each in made if each.arm != "SALSA" or (each.coefficient == 0.1) == (each.replicate < 4)]
    first, *_ = frontier(none, replace(SETTINGS, about="length"))["verdicts"]
    assert first["sentence"].startswith("The replies of PPO")
