import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from salsa.report.experiment import Evidence, Row, Tax, assemble, note
from tests.evaluation.rates import win_rate
from tests.report import factory


def made(evidence: Evidence | None = None, rows: list[Row] | None = None, **options: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "suites": factory.SUITES,
        "opponents": factory.OPPONENTS,
        "anchors": factory.ANCHORS,
        "rng": np.random.default_rng(0),
        "rounds": 100,
    }
    return assemble(factory.heading(), rows or factory.rows(), evidence or factory.evidence(), **settings | options)


def test_it_is_plain_json_with_every_part_of_the_schema() -> None:
    experiment = made()
    assert json.loads(json.dumps(experiment, allow_nan=False)) == experiment
    assert experiment["schema"] == 1
    assert [row["name"] for row in experiment["rows"]] == [model[0] for model in factory.MODELS]
    row = experiment["rows"][3]
    assert (row["role"], row["init"], row["reference"], row["kl_coef"]) == ("policy", "SFT1", "soup", 0.2)
    assert set(row["suites"]) == set(factory.SUITES)
    cell = row["suites"]["hard"]
    assert set(cell) == {"judge", "reward", "length", "unfinished", "win_rate", "fingerprints"}
    assert set(cell["judge"]) == {"value", "low", "high", "n"}
    assert set(cell["win_rate"]["PPO"]) == {"value", "low", "high", "wins", "ties", "losses"}
    assert cell["fingerprints"] == {"respond": "respond-SALSA-hard", "judge": "judge-SALSA-hard"}
    assert row["kl"]["soup"]["k1"]["value"] == 4.1
    assert row["tax"]["perplexity"] == pytest.approx(5.7)
    assert experiment["warnings"] == []


def test_means_are_those_of_the_replies_and_the_pooled_one_weighs_suites_alike() -> None:
    experiment = made()
    scores = factory.evidence().scores["SALSA"]
    row = experiment["rows"][3]
    for suite in factory.SUITES:
        cell = row["suites"][suite]
        assert cell["judge"]["value"] == pytest.approx(np.mean([reply.judge for reply in scores[suite]]))
        assert cell["length"]["value"] == pytest.approx(np.mean([reply.length for reply in scores[suite]]))
        assert cell["unfinished"]["value"] == pytest.approx(np.mean([not reply.ended for reply in scores[suite]]))
        assert cell["judge"]["low"] < cell["judge"]["value"] < cell["judge"]["high"]
    means = [row["suites"][suite]["judge"]["value"] for suite in factory.SUITES]
    assert row["pooled"]["judge"]["value"] == pytest.approx(np.mean(means))
    assert row["pooled"]["judge"]["n"] == 4 * 60


def test_every_row_meets_every_opponent_but_itself() -> None:
    experiment = made()
    scores = factory.evidence().scores
    for row in experiment["rows"]:
        for suite, cell in row["suites"].items():
            assert list(cell["win_rate"]) == [name for name in factory.OPPONENTS if name != row["name"]]
            for opponent, rate in cell["win_rate"].items():
                own, other = scores[row["name"]][suite], scores[opponent][suite]
                expected = win_rate(own, other, 0.75, np.random.default_rng(0), rounds=2)
                counts = (rate["wins"], rate["ties"], rate["losses"])
                assert (rate["value"], counts) == (expected.value, (expected.wins, expected.ties, expected.losses))
    pooled = experiment["rows"][3]["pooled"]["win_rate"]["PPO"]
    assert pooled["wins"] + pooled["ties"] + pooled["losses"] == 240


def test_a_row_does_not_depend_on_the_other_rows_nor_on_their_order() -> None:
    evidence, rows = factory.evidence(), factory.rows()
    few = [row for row in rows if row.name in ("PPO", "SALSA", "SFT1")][::-1]
    keep = {kind: {row.name: getattr(evidence, kind)[row.name] for row in few} for kind in ("scores", "kl", "tax")}
    smaller = made(Evidence(**keep), few)
    alone = next(row for row in smaller["rows"] if row["name"] == "SALSA")
    whole = next(row for row in made()["rows"] if row["name"] == "SALSA")
    assert alone["suites"]["hard"]["judge"] == whole["suites"]["hard"]["judge"]
    assert alone["pooled"] == whole["pooled"]


def test_the_generator_decides_the_intervals() -> None:
    assert made() == made()
    assert made(rng=np.random.default_rng(1)) != made()


def test_one_suite_is_its_own_mean() -> None:
    evidence = factory.evidence()
    scores = {name: {"hard": suites["hard"]} for name, suites in evidence.scores.items()}
    row = made(replace(evidence, scores=scores, fingerprints={}), suites=["hard"])["rows"][3]
    assert row["pooled"]["judge"] == row["suites"]["hard"]["judge"]
    assert row["pooled"]["win_rate"] == row["suites"]["hard"]["win_rate"]


def test_what_was_not_measured_is_missing() -> None:
    evidence = factory.evidence()
    scores = {name: dict(suites) for name, suites in evidence.scores.items()}
    del scores["SALSA"]["hard"]
    del scores["PPO"]["single"]
    scores["soup"]["two_turn"] = [replace(reply, judge=None) for reply in scores["soup"]["two_turn"]]
    experiment = made(Evidence(scores=scores))
    rows = {row["name"]: row for row in experiment["rows"]}
    assert "hard" not in rows["SALSA"]["suites"]
    assert rows["SALSA"]["pooled"] is None
    assert list(rows["SALSA"]["suites"]["single"]["win_rate"]) == ["SFT1"]
    assert rows["soup"]["suites"]["two_turn"]["judge"] is None
    assert rows["soup"]["suites"]["two_turn"]["win_rate"] == {}
    assert rows["soup"]["pooled"]["judge"] is None
    assert rows["soup"]["pooled"]["reward"]["value"] is not None
    assert rows["SFT1"]["kl"] == {}
    assert rows["SFT1"]["tax"] is None
    assert experiment["reward_model"] is None


def test_a_number_that_is_not_finite_is_missing_with_a_warning() -> None:
    evidence = factory.evidence()
    experiment = made(replace(evidence, tax={**evidence.tax, "SALSA": Tax(0.9, math.inf)}))
    assert experiment["rows"][3]["tax"]["perplexity"] is None
    assert experiment["warnings"] == ["rows[3].tax.perplexity was inf and is shown as missing"]


def test_other_prompts_are_an_error_that_names_rows_suite_and_prompt() -> None:
    evidence = factory.evidence()
    scores = {name: dict(suites) for name, suites in evidence.scores.items()}
    scores["SALSA"]["hard"] = scores["SALSA"]["hard"][1:]
    with pytest.raises(ValueError, match=r"'SALSA' against 'PPO' on suite 'hard': prompt 'hard-000' has no reply"):
        made(replace(evidence, scores=scores))


def test_some_prompts_without_judge_are_an_error_that_names_one() -> None:
    evidence = factory.evidence()
    scores = {name: dict(suites) for name, suites in evidence.scores.items()}
    scores["SFT1"]["hard"] = [*scores["SFT1"]["hard"][:-1], replace(scores["SFT1"]["hard"][-1], judge=None)]
    with pytest.raises(ValueError, match=r"row 'SFT1', suite 'hard': prompt 'hard-059' has no judge score"):
        made(replace(evidence, scores=scores))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opponents": ["PPO", "DPO"]}, "opponents names 'DPO', which is no row"),
        ({"suites": ["single"]}, "has suite 'two_turn'"),
        ({"anchors": ["SFT1"]}, "has a KL to 'SFT2'"),
        ({"suites": [*factory.SUITES, "hard"]}, "suite 'hard' is there twice"),
        ({"suites": [*factory.SUITES, "mean"]}, "cannot be named 'mean'"),
        ({"rows": [*factory.rows(), factory.rows()[0]]}, "row 'SFT1' is there twice"),
        ({"rows": factory.rows()[1:]}, "evidence.scores names 'SFT1', which is no row"),
    ],
)
def test_unknown_and_double_names_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**options)


def test_an_empty_suite_is_refused() -> None:
    evidence = factory.evidence()
    scores = {**evidence.scores, "SFT1": {**evidence.scores["SFT1"], "hard": []}}
    with pytest.raises(ValueError, match="row 'SFT1' has no replies to suite 'hard'"):
        made(replace(evidence, scores=scores))


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(ValueError, match="role is 'boss'; it must be one of ingredient"):
        Row("a", "boss", None, None, None, "f")


def test_the_note_says_what_one_replicate_is_and_which_study_decides() -> None:
    text = note(1, ["ppo_vs_sft", "table_1"])
    assert text.startswith("One replicate is an illustration")
    assert "the study ppo_vs_sft or table_1" in text
    assert note(8, []).startswith("8 replicates")
    assert "study" not in note(1, [])
