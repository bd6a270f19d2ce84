"""Comparisons of arms, where the answer is known."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from salsa.evaluation.scores import ScoredReply
from salsa.evaluation.statistics import t_interval
from salsa.studies.comparison import Settings, comparison
from salsa.studies.evidence import Evidence, Model, Point

SUITES = ("single", "hard")
QUESTIONS, REPLICATES = 12, 8
ASKS = [("SALSA", "PPO"), ("SALSA", "soup")]
SETTINGS = Settings("PPO", ASKS, {"PPO": "ppo", "SALSA": "salsa"}, 200, 0.95, 0)


def replies(suite: str, gold: np.ndarray[Any, Any]) -> list[ScoredReply]:
    return [
        ScoredReply(f"{suite}{n}", f"{suite}{n // 2}", "", suite, "?", ("!",), float(value), 0.5, 7.0, n % 4 > 0)
        for n, value in enumerate(gold)
    ]


def evidence(shift: Mapping[str, float], noise: float = 0.0, families: tuple[str, ...] = ("llama2",)) -> Evidence:
    """Arms whose gold differs from a common one by a shift, and by noise of their own."""
    rng = np.random.default_rng(0)
    models = []
    for family in families:
        for replicate in range(REPLICATES):
            common = {suite: rng.normal(size=QUESTIONS) for suite in SUITES}
            for arm in ("SFT1", "soup", "PPO", "SALSA"):
                scores = {
                    suite: replies(suite, common[suite] + shift.get(arm, 0.0) + noise * rng.normal(size=QUESTIONS))
                    for suite in SUITES
                }
                prints = {suite: f"{family}{arm}{replicate}{suite}" for suite in SUITES} | {"kl": f"kl{arm}{replicate}"}
                coefficient = None if arm in ("SFT1", "soup") else 0.2
                kl = {"SFT1": float(replicate), "soup": 1.0}
                kept = {"recall": 0.5, "perplexity": float(replicate)} if arm == "PPO" else {}
                prints |= {"tax": "tax"}
                models.append(Model(family, arm, replicate, coefficient, scores, kl, prints, **kept))
    return Evidence(models, SUITES, tie_margin=0.75)


def table(found: dict[str, Any], name: str) -> dict[str, Any]:
    return {row["label"]: row["cells"] for each in found["tables"] if each["name"] == name for row in each["rows"]}


def test_an_arm_that_is_better_by_more_than_the_margin_wins_every_question() -> None:
    found = comparison(evidence({"SALSA": 1.0}), SETTINGS)
    cells = table(found, "main")["SALSA"]
    assert [cells[key]["value"] for key in ("single", "hard", "mean")] == [1.0, 1.0, 1.0]
    assert found["verdicts"][0]["decided"] == "first"
    assert found["verdicts"][0]["sentence"].startswith("SALSA beats PPO on the mean of the suites: 100.0 %")
    assert table(found, "gold")["SALSA"]["difference"]["value"] == pytest.approx(1.0)


def test_within_the_margin_all_are_ties_and_nothing_is_decided() -> None:
    found = comparison(evidence({"SALSA": 0.7}), SETTINGS)
    assert table(found, "main")["SALSA"]["mean"]["value"] == 0.5
    assert [each["decided"] for each in found["verdicts"]] == [None] * 4
    assert "do not decide between SALSA and PPO" in found["verdicts"][0]["sentence"]


def test_a_worse_arm_loses() -> None:
    found = comparison(evidence({"SALSA": -1.0}), SETTINGS)
    assert found["verdicts"][0]["decided"] == "second"
    assert found["verdicts"][0]["sentence"].startswith("PPO beats SALSA")


def test_intervals_are_t_over_few_replicates() -> None:
    given = evidence({}, noise=1.0)
    cells = table(comparison(given, SETTINGS), "main")["SALSA"]
    won = given.won("llama2", "SALSA", "PPO", "hard").mean(axis=1)
    expected = t_interval(won, 0.95)
    assert (cells["hard"]["value"], cells["hard"]["low"], cells["hard"]["high"]) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    assert cells["mean"]["n"] == REPLICATES


def test_what_an_arm_is_compared_with_has_no_cell_of_its_own() -> None:
    found = comparison(evidence({}), SETTINGS)
    assert table(found, "main")["PPO"] == {}
    assert table(found, "against SFT1")["SFT1"] == {}


def test_behaviour_is_told_of_the_replies() -> None:
    cells = table(comparison(evidence({}), SETTINGS), "behaviour")["PPO"]
    assert cells["kl_SFT1"]["value"] == pytest.approx(np.mean(range(REPLICATES)))
    assert cells["unfinished"]["value"] == 0.25
    assert cells["length"]["value"] == 7.0
    assert cells["coefficient"]["value"] == 0.2
    assert (cells["recall"]["value"], cells["perplexity"]["value"]) == (0.5, np.mean(range(REPLICATES)))
    assert "recall" not in table(comparison(evidence({}), SETTINGS), "behaviour")["SALSA"], "it was not measured"


def test_every_cell_names_what_it_comes_from() -> None:
    cell = table(comparison(evidence({}), SETTINGS), "main")["SALSA"]["hard"]
    assert len(cell["fingerprints"]) == 2 * REPLICATES
    assert all("hard" in each for each in cell["fingerprints"])


def test_families_have_groups_figures_and_sentences_of_their_own() -> None:
    found = comparison(evidence({"SALSA": 1.0}, families=("llama2", "gemma")), SETTINGS)
    (figure,) = found["figures"]
    assert [(each["label"], each["panel"]) for each in figure["series"]] == [("SALSA", "llama2"), ("SALSA", "gemma")]
    assert len(found["verdicts"]) == 2 * (2 + 2)
    assert "on the mean of the suites (gemma)" in found["verdicts"][1]["sentence"], "main comparisons come first"
    assert {row["group"] for row in found["tables"][0]["rows"]} == {"llama2", "gemma"}


def test_arms_with_places_make_a_line() -> None:
    settings = Settings("PPO", ASKS, {}, 200, 0.95, 0, axis="alpha", places={"SALSA": 0.5, "PPO": 0.0})
    found = comparison(evidence({"SALSA": 1.0}), settings)
    line = found["figures"][0]
    assert (line["kind"], line["x"]["label"]) == ("lines", "alpha")
    assert [(point["x"], point["value"]) for point in line["series"][0]["points"]] == [(0.0, 50.0), (0.5, 100.0)]


def test_curves_are_means_over_replicates_at_the_steps_that_all_have() -> None:
    given = evidence({})
    traced = [
        replace(
            model,
            points=[
                Point(step, model.replicate + step, 0.0, 1.0, 0.0, {"SFT1": 2.0})
                for step in (0, 8, 8 + model.replicate)
            ],
        )
        for arm in given.arms
        for model in given.models("llama2", arm)
    ]
    found = comparison(Evidence(traced, SUITES, 0.75), SETTINGS)
    gold = next(each for each in found["figures"] if each["name"] == "gold_training")
    assert [each["label"] for each in gold["series"]] == ["PPO", "SALSA"]
    assert [(each["x"], each["value"]) for each in gold["series"][0]["points"]] == [(0, 3.5), (8, 11.5)]
    kl = next(each for each in found["figures"] if each["name"] == "kl_training")
    assert {each["panel"] for each in kl["series"]} == {"to SFT1"}


def test_costs_are_told_with_what_the_baseline_does_not_need() -> None:
    given = evidence({})
    ppo = {"sft_1": 1.0, "reward": 7.0, "align": 10.0}
    needs = {"PPO": ppo, "SALSA": ppo | {"sft_2": 2.0, "soup": 0.5}}
    timed = [
        replace(model, needs=needs[arm], training="align") if arm in needs else model
        for arm in given.arms
        for model in given.models("llama2", arm)
    ]
    cells = table(comparison(Evidence(timed, SUITES, 0.75), SETTINGS), "cost")
    told = {arm: {key: cell["value"] for key, cell in own.items()} for arm, own in cells.items()}
    assert told["PPO"] == {"shared": 8.0, "extra": 0.0, "rl": 10.0, "all": 18.0}
    assert told["SALSA"] == {"shared": 8.0, "extra": 2.5, "rl": 10.0, "all": 20.5}
    assert "cost" not in {each["name"] for each in comparison(given, SETTINGS)["tables"]}


def test_questions_are_those_that_were_named_whatever_the_baseline() -> None:
    found = comparison(evidence({"SALSA": 1.0, "soup": 2.0}), SETTINGS)
    sentences = [each["sentence"] for each in found["verdicts"]]
    assert sentences[0].startswith("SALSA beats PPO on the mean")
    assert sentences[1].startswith("soup beats SALSA on the mean")
    assert [each.split(" on ")[1].split(":")[0] for each in sentences[2:]] == ["single", "hard"]
    assert "1 of the main question, 1 of the other questions, 2 of the main question on each suite" in found["notes"][1]


def test_a_gap_in_the_evidence_is_named() -> None:
    models = [model for arm in ("SFT1", "PPO") for model in evidence({}).models("llama2", arm)]
    with pytest.raises(ValueError, match="replicate 7 of PPO, llama2 is missing"):
        Evidence(models[:-1], SUITES, 0.75)
    with pytest.raises(ValueError, match="is there twice"):
        Evidence([*models, models[0]], SUITES, 0.75)
