import copy
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from salsa.evaluation.statistics import cluster_bootstrap_mean
from salsa.report.landscape import findings
from salsa.report.landscape.evidence import Evidence
from salsa.report.landscape.summary import assemble
from salsa.soup.landscape import barycentre
from tests.report.landscape import factory

EVIDENCE = factory.evidence()


def summary(evidence: Evidence = EVIDENCE, rounds: int = 100) -> dict[str, Any]:
    return assemble(evidence, np.random.default_rng(0), rounds)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return summary()


def test_a_landscape_is_plain_json_and_the_same_each_time(found: dict[str, Any]) -> None:
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert summary() == found


def test_it_says_what_was_measured(found: dict[str, Any]) -> None:
    assert found["models"] == ["SFT1", "SFT2", "SFT3"]
    assert [found[key] for key in ("replies", "clusters", "documents", "document_clusters")] == [240, 60, 80, 40]
    assert list(found["quantities"]) == ["judge", "reward", "loss", "length", "unfinished"]
    assert (len(found["line"]["points"]), len(found["plane"]["points"])) == (21, 82)


def test_values_are_means_over_prompts_and_nats_over_tokens(found: dict[str, Any]) -> None:
    weights = (0.7, 0.3)
    point = next(each for each in found["line"]["points"] if tuple(each["weights"]) == weights)
    given = EVIDENCE.line[weights]
    assert point["values"]["judge"]["value"] == pytest.approx(np.mean(given["judge"]))
    assert point["values"]["loss"]["value"] == pytest.approx(sum(given["loss"]) / sum(given["tokens"]))
    assert point["values"]["unfinished"]["value"] == pytest.approx(1 - np.mean(given["ended"]))
    house = cluster_bootstrap_mean(given["judge"], given["clusters"], np.random.default_rng(0), 100)
    assert (point["values"]["judge"]["low"], point["values"]["judge"]["high"]) == pytest.approx((house.low, house.high))


def test_points_are_in_order_whatever_the_order_given(found: dict[str, Any]) -> None:
    alphas = [point["weights"][1] for point in found["line"]["points"]]
    assert alphas == sorted(alphas)
    assert summary(replace(EVIDENCE, line=dict(reversed(EVIDENCE.line.items()))))["line"] == found["line"]


def test_line_and_plane_agree_where_they_meet(found: dict[str, Any]) -> None:
    on_plane = {tuple(point["weights"]): point for point in found["plane"]["points"]}
    for point in found["line"]["points"]:
        twin = on_plane.get((*point["weights"], 0.0))
        if twin:
            assert twin["values"]["judge"]["value"] == point["values"]["judge"]["value"]
            assert twin["values"]["judge"]["low"] == point["values"]["judge"]["low"]
            assert twin["coordinates"] == pytest.approx([*point["coordinates"], 0])


def test_shares_of_the_best_point_sum_to_one(found: dict[str, Any]) -> None:
    for kind in ("line", "plane"):
        for key in ("judge", "reward", "loss"):
            assert sum(point["best_share"][key] for point in found[kind]["points"]) == pytest.approx(1)


def test_distances_and_projections_are_those_of_the_weights(found: dict[str, Any]) -> None:
    names = [*factory.NAMES, *factory.POLICIES]
    assert found["distances"]["names"] == names
    rows = np.array([factory.MODELS[name] for name in names])
    assert np.array(found["distances"]["table"]) == pytest.approx(np.linalg.norm(rows[:, None] - rows, axis=2))
    for other in found["others"]:
        theta = factory.MODELS[other["name"]]
        for kind, span in (("line", rows[:2]), ("plane", rows[:3])):
            rest = theta - np.array(other[kind]["weights"]) @ span
            assert other[kind]["off"] == pytest.approx(np.linalg.norm(rest))
        assert other["plane"]["off"] <= other["line"]["off"]
        measured = np.mean(EVIDENCE.measured[other["name"]]["judge"])
        assert other["values"]["judge"]["value"] == pytest.approx(measured)


def test_policies_may_be_projected_without_a_value_and_measured_without_a_projection() -> None:
    extra = {"DPO": EVIDENCE.measured["PPO"]}
    rows = summary(replace(EVIDENCE, measured=extra))["others"]
    assert [row["name"] for row in rows] == [*factory.POLICIES, "DPO"]
    assert (rows[0]["values"], rows[-1]["line"]) == (None, None)
    assert rows[0]["line"]["off"] > 0
    assert rows[-1]["values"]["judge"]["n"] == 240


def test_two_models_have_a_line_only() -> None:
    made = summary(factory.evidence(models=2))
    assert made["plane"] is None
    assert all(other["plane"] is None for other in made["others"])
    assert made["line"]["coordinates"][1][0] == pytest.approx(made["distances"]["table"][0][1])


@pytest.mark.parametrize("key", ["judge", "reward", "loss"])
def test_what_was_not_measured_is_not_there(key: str) -> None:
    given = factory.without(EVIDENCE, key)
    if key == "loss":
        given = factory.without(factory.without(given, "documents"), "tokens")
    made = summary(given)
    assert key not in made["quantities"]
    assert key not in made["line"]["points"][0]["values"]
    assert key not in made["plane"]["verdicts"]


def damaged(weights: tuple[float, ...], **changes: Any) -> Evidence:
    line = copy.deepcopy(dict(EVIDENCE.line))
    line[weights] |= changes
    return replace(EVIDENCE, line=line)


@pytest.mark.parametrize(
    ("evidence", "message"),
    [
        (damaged((0.7, 0.3), clusters=["other"] * 240), r"the line's point \(0.7, 0.3\) has other clusters"),
        (damaged((0.7, 0.3), judge=[1.0] * 239), r"\(0.7, 0.3\) has 239 values of judge; it must have 240"),
        (damaged((0.7, 0.3), judge=None), r"\(0.7, 0.3\) has 0 values of judge"),
        (damaged((0.7, 0.3), reward=[float("nan")] * 240), "reward is missing or not a finite number"),
        (damaged((0.7, 0.3), tokens=[1] * 80), "has other tokens"),
        (replace(EVIDENCE, models=factory.NAMES[:2]), "a plane through three"),
        (replace(EVIDENCE, plane=None), "a line runs through two"),
        (replace(EVIDENCE, gram=np.eye(3)), r"gram has shape \(3, 3\)"),
        (replace(EVIDENCE, gram=np.full((6, 6), np.nan)), "NaN or infinity"),
        (replace(EVIDENCE, gram=np.ones((6, 6))), "SFT3 lies on the line"),
    ],
)
def test_evidence_that_does_not_fit_together_is_refused(evidence: Evidence, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        summary(evidence)


@pytest.mark.parametrize("weights", [(1.0, 0.0), barycentre(2)])
def test_a_line_needs_its_ends_and_midpoint(weights: tuple[float, ...]) -> None:
    line = {own: point for own, point in EVIDENCE.line.items() if own != weights}
    with pytest.raises(ValueError, match="the line lacks the point"):
        summary(replace(EVIDENCE, line=line))


def test_the_optimum_of_the_made_up_world_is_found() -> None:
    quiet = summary(factory.evidence(world=factory.World(noise=0.0)))
    for kind, middle in (("line", (0.5, 0.5)), ("plane", barycentre(3))):
        heights = {
            tuple(each["weights"]): factory.quality(factory.soup(each["weights"])) for each in quiet[kind]["points"]
        }
        best = quiet[kind]["findings"]["judge"]["best"]["weights"]
        assert heights[tuple(best)] == max(heights.values())
        for number, name in enumerate(quiet[kind]["models"]):
            corner = tuple(float(number == other) for other in range(len(middle)))
            difference = quiet[kind]["findings"]["judge"]["differences"][name]["value"]
            assert difference == pytest.approx(heights[middle] - heights[corner])
    assert findings.EDGES in quiet["plane"]["findings"]["judge"]["differences"]
