"""Comparisons of arms, where the answer is known."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from salsa.evaluation.scores import ScoredReply
from salsa.evaluation.statistics import t_interval
from salsa.studies.claims import Claim
from salsa.studies.comparison import Settings, comparison
from salsa.studies.estimates import Group, rate
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
    assert found["verdicts"][0]["sentence"].startswith("SALSA beats PPO on the mean of the suites: win rate 100.0 %")
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


def test_families_have_a_mean_and_groups_and_sentences_of_their_own() -> None:
    found = comparison(evidence({"SALSA": 1.0}, families=("llama2", "gemma")), SETTINGS)
    (figure,) = found["figures"]
    names = ["mean of the families", "llama2", "gemma"]
    assert [(each["label"], each["panel"]) for each in figure["series"]] == [("SALSA", name) for name in names]
    main, other, *rest = (each["sentence"].split(": ")[0] for each in found["verdicts"])
    assert main == "SALSA beats PPO on the mean of the suites (mean of llama2, gemma)"
    assert other == "SALSA beats soup on the mean of the suites (mean of llama2, gemma)"
    places = ["the mean of the suites (llama2)", "the mean of the suites (gemma)"]
    places += [f"{suite} (mean of llama2, gemma)" for suite in SUITES]
    assert [each.removeprefix("SALSA beats PPO on ") for each in rest] == places
    assert list(dict.fromkeys(row["group"] for row in found["tables"][0]["rows"])) == names


def test_the_mean_of_families_counts_each_the_same() -> None:
    given = evidence({}, noise=1.0, families=("llama2", "gemma"))
    for name in ("main", "gold"):
        told = next(each for each in comparison(given, SETTINGS)["tables"] if each["name"] == name)
        values = {row["group"]: row["cells"]["mean"]["value"] for row in told["rows"] if row["label"] == "SALSA"}
        assert values["mean of the families"] == pytest.approx((values["llama2"] + values["gemma"]) / 2)


def test_two_families_that_are_alike_are_no_more_evidence_than_one() -> None:
    one = evidence({}, noise=1.0)
    twice = [
        replace(model, family=family)
        for family in ("llama2", "gemma")
        for arm in one.arms
        for model in one.models("llama2", arm)
    ]
    both = comparison(Evidence(twice, SUITES, 0.75), SETTINGS)["tables"][0]["rows"]
    pooled = next(row for row in both if (row["group"], row["label"]) == ("mean of the families", "SALSA"))
    alone = table(comparison(one, SETTINGS), "main")["SALSA"]["mean"]
    assert [pooled["cells"]["mean"][key] for key in ("value", "low", "high", "n")] == pytest.approx(
        [alone[key] for key in ("value", "low", "high", "n")]
    )


def test_families_that_were_asked_other_questions_have_no_mean() -> None:
    given = evidence({}, families=("llama2", "gemma"))
    other = [
        replace(
            model, scores={suite: [replace(each, cluster="x") for each in own] for suite, own in model.scores.items()}
        )
        if model.family == "gemma"
        else model
        for family in given.families
        for arm in given.arms
        for model in given.models(family, arm)
    ]
    with pytest.raises(ValueError, match="llama2, gemma do not share the questions of single"):
        comparison(Evidence(other, SUITES, 0.75), SETTINGS)


def test_the_interval_of_a_share_ends_where_a_share_does() -> None:
    won = np.array([1.0] * 7 + [0.0])
    gold = {arm: [3.0 * wins if arm == "SALSA" else 1.5 for wins in won] for arm in ("SFT1", "PPO", "SALSA")}
    models = [
        Model("llama2", arm, replicate, None, {"single": replies("single", np.full(4, value))}, {}, {"single": ""})
        for arm, values in gold.items()
        for replicate, value in enumerate(values)
    ]
    share = rate(Evidence(models, ["single"], 0.75), Group(None, ["llama2"]), "SALSA", "PPO", ["single"], SETTINGS)
    assert t_interval(won, 0.95).high > 1
    assert (share.value, share.high) == (0.875, 1.0)


def test_what_a_judge_gives_is_called_what_it_is() -> None:
    settings = replace(SETTINGS, measure="reward-model score", unit="normalised")
    told = next(each for each in comparison(evidence({}), settings)["tables"] if each["name"] == "gold")
    assert (told["title"], told["columns"][0]["group"]) == ("Reward-model score", "reward-model score")
    assert {column["unit"] for column in told["columns"]} == {"normalised"}


def test_arms_with_places_make_a_line() -> None:
    settings = Settings("PPO", ASKS, {}, 200, 0.95, 0, axis="alpha", places={"SALSA": 0.5, "PPO": 0.0})
    found = comparison(evidence({"SALSA": 1.0}), settings)
    line = found["figures"][0]
    assert (line["kind"], line["x"]["label"]) == ("lines", "alpha")
    assert [(point["x"], point["value"]) for point in line["series"][0]["points"]] == [(0.0, 50.0), (0.5, 100.0)]


def test_a_line_says_where_it_is_highest_and_how_sure_that_is() -> None:
    places = {"PPO": 0.0, "SALSA": 0.5, "soup": 1.0}
    settings = replace(SETTINGS, axis="alpha", places=places)
    clear = comparison(evidence({"SALSA": 1.0}), settings)["verdicts"][0]
    assert clear["decided"] is None, "eight replicates are too few to be resampled"
    told = (
        "The win rate against PPO over alpha is highest at 0.5: 100.0 %; in resampled replicates (8) the peak is at 0.5"
    )
    assert clear["sentence"] == f"{told} in 100 %"
    noisy = comparison(evidence({}, noise=1.0), settings)["verdicts"][0]
    assert noisy["decided"] is None, "three arms that are alike"
    assert noisy["sentence"].count(" in ") >= 3
    no_line = replace(settings, places={"PPO": 0.0, "SALSA": 0.5})
    assert "highest" not in comparison(evidence({}), no_line)["verdicts"][0]["sentence"]


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


def test_costs_are_told_with_what_the_reference_adds_and_gains() -> None:
    given = evidence({"SALSA": 1.0})
    needs = {"sft_1": 1.0, "sft_2": 2.0, "reward": 7.0, "align": 10.0}
    timed = [
        replace(
            model,
            needs=needs | ({"soup": 0.5} if arm == "SALSA" else {}),
            training="align",
            besides=["sft_2", "soup"] if arm == "SALSA" else [],
        )
        if arm in ("PPO", "SALSA")
        else model
        for arm in given.arms
        for model in given.models("llama2", arm)
    ]
    cells = table(comparison(Evidence(timed, SUITES, 0.75), SETTINGS), "cost")
    told = {arm: {key: cell["value"] for key, cell in own.items()} for arm, own in cells.items()}
    assert told["PPO"] == {"models": 0.0, "share": 0.0, "before": 10.0, "rl": 10.0, "all": 20.0}
    expected = {"models": 2.5, "share": 2.5 / 20.5, "before": 8.0, "rl": 10.0, "all": 20.5, "gain": 1.0}
    assert told["SALSA"] == pytest.approx(expected)
    assert "cost" not in {each["name"] for each in comparison(given, SETTINGS)["tables"]}


def test_questions_are_those_that_were_named_whatever_the_baseline() -> None:
    found = comparison(evidence({"SALSA": 1.0, "soup": 2.0}), SETTINGS)
    sentences = [each["sentence"] for each in found["verdicts"]]
    assert sentences[0].startswith("SALSA beats PPO on the mean")
    assert sentences[1].startswith("soup beats SALSA on the mean")
    assert [each.split(" on ")[1].split(":")[0] for each in sentences[2:]] == ["single", "hard"]
    assert "1 of the main question, 1 of the other questions, 2 of the main question on each suite" in found["notes"][1]


def test_a_study_about_kl_says_who_goes_further() -> None:
    given = evidence({}, families=("llama2", "gemma"))
    reach = {("llama2", "SALSA"): 3.0, ("gemma", "SALSA"): 1.0}
    moved = [
        replace(model, kl={"SFT1": 1.0 + model.replicate + reach.get((family, arm), 0.0)})
        for family in given.families
        for arm in given.arms
        for model in given.models(family, arm)
    ]
    settings = replace(SETTINGS, about="kl", claims=[Claim("goes further", main=True)])
    found = comparison(Evidence(moved, SUITES, 0.75), settings)
    first, second, *outcomes = found["verdicts"]
    assert found["claims"] == [{"claim": "goes further", "here": first["sentence"], "holds": True}]
    assert (first["decided"], second["decided"]) == ("first", "first")
    told = "SALSA ends further from SFT1 than PPO (mean of llama2, gemma): "
    assert first["sentence"].startswith(f"{told}KL of SALSA 6.50, of PPO 4.50 nats a reply (k1), +2.00 [")
    assert "2.00], 8 replicates; p = 0.016 after Holm's correction for 2" in first["sentence"]
    assert "the mean of the suites" in outcomes[0]["sentence"]


def test_a_gap_in_the_evidence_is_named() -> None:
    models = [model for arm in ("SFT1", "PPO") for model in evidence({}).models("llama2", arm)]
    with pytest.raises(ValueError, match="replicate 7 of PPO, llama2 is missing"):
        Evidence(models[:-1], SUITES, 0.75)
    with pytest.raises(ValueError, match="is there twice"):
        Evidence([*models, models[0]], SUITES, 0.75)
