"""Experiments whose judge reads replies: from a number a question to the figures of `experiment.json`."""

from dataclasses import replace

import numpy as np
import pytest

from salsa.evaluation.judgments import Judgment
from salsa.report.experiment import Judge, assemble
from salsa.report.outcomes import ByScores
from tests.report import factory, judged


def test_a_win_rate_is_the_mean_over_the_questions_that_have_a_verdict() -> None:
    rate = judged.row(judged.experiment(), "SALSA")["suites"]["hard"]["win_rate"]["PPO"]
    # Of 19 questions every fifth is lost.
    assert rate["value"] == pytest.approx(16 / 19)
    assert (rate["wins"], rate["ties"], rate["losses"]) == (16, 0, 3)
    assert rate["low"] < rate["value"] < rate["high"]


def test_the_opponent_has_the_other_half_without_being_judged_again() -> None:
    made = judged.experiment()
    own = judged.row(made, "SFT1")["suites"]["single"]
    assert own["win_rate"]["PPO"]["value"] == pytest.approx(9 / 19)
    assert own["fingerprints"]["against PPO"] == "PPO-single-SFT1"
    assert own["judge"] is None


def test_scores_are_means_over_the_questions_that_have_one() -> None:
    row = judged.row(judged.experiment(), "SALSA")
    assert (row["suites"]["single"]["judge"]["value"], row["suites"]["single"]["judge"]["n"]) == (7.0, 19)
    assert row["suites"]["hard"]["judge"] is None


def test_means_over_suites_are_over_those_that_the_judge_was_asked_about() -> None:
    made = judged.experiment(judged.judgments(compared=("hard", "unseen")))
    pooled = judged.row(made, "SALSA")["pooled"]
    assert (made["judging"]["scored"], made["judging"]["compared"]) == (["single", "two_turn"], ["hard", "unseen"])
    assert (pooled["judge"]["value"], pooled["judge"]["n"]) == (7.0, 38)
    assert pooled["win_rate"]["PPO"]["wins"] == 32
    assert pooled["reward"]["n"] == 4 * judged.COUNT
    assert judged.row(made, "SFT2")["pooled"]["judge"] is None


def test_the_mean_over_one_suite_is_that_suite() -> None:
    row = judged.row(judged.experiment(judged.judgments(scored=["two_turn"], compared=["hard"])), "SALSA")
    assert row["pooled"]["judge"] == row["suites"]["two_turn"]["judge"]
    assert row["pooled"]["win_rate"] == row["suites"]["hard"]["win_rate"]


def test_rows_of_the_same_model_tie_on_every_question() -> None:
    rows = [
        replace(row, fingerprint="same") if row.name in ("PPO", "reference SFT2") else row for row in factory.rows()
    ]
    made = assemble(
        replace(factory.heading(), judge=Judge(judged.JUDGE, None)),
        rows,
        judged.evidence(),
        suites=factory.SUITES,
        opponents=factory.OPPONENTS,
        anchors=factory.ANCHORS,
        rng=np.random.default_rng(0),
        rounds=100,
    )
    twin, ppo = judged.row(made, "reference SFT2"), judged.row(made, "PPO")
    tie = twin["suites"]["hard"]["win_rate"]["PPO"]
    assert tie == {"value": 0.5, "low": 0.5, "high": 0.5, "wins": 0, "ties": judged.COUNT, "losses": 0}
    # Nobody was asked: behind the tie is the model that both are.
    assert twin["suites"]["hard"]["fingerprints"]["against PPO"] == "same"
    assert "against PPO" not in ppo["suites"]["hard"]["fingerprints"]
    # What was said of the model counts for both of its rows.
    assert twin["suites"]["single"]["judge"] == ppo["suites"]["single"]["judge"]
    assert twin["suites"]["hard"]["win_rate"]["SFT1"] == ppo["suites"]["hard"]["win_rate"]["SFT1"]


def test_a_model_from_outside_is_no_column_but_its_verdicts_are_named() -> None:
    outside = Judgment("SALSA", "hard", {"hard-000": 1.0}, baseline="gpt-4-0314", fingerprint="outside")
    made = judged.experiment([*judged.judgments(), outside])
    cell = judged.row(made, "SALSA")["suites"]["hard"]
    assert list(cell["win_rate"]) == ["PPO"]
    assert cell["fingerprints"]["against gpt-4-0314"] == "outside"
    assert made["judging"]["compared"] == list(factory.SUITES)


def test_samples_show_the_mean_score_of_their_question() -> None:
    for sample in judged.experiment()["samples"]:
        said = sample["prompt_id"] in judged.values(sample["suite"], [7.0]) and sample["suite"] in judged.SCORED
        assert sample["replies"]["SALSA"]["judge"] == (7.0 if said else None)
        assert sample["replies"]["SFT1"]["judge"] is None


def test_a_judge_that_said_nothing_readable_leaves_everything_missing() -> None:
    nothing = [replace(each, values={}) for each in judged.judgments()]
    made = judged.experiment(nothing)
    row = judged.row(made, "SALSA")
    assert row["suites"]["single"]["judge"] is None
    assert row["pooled"]["win_rate"] == {}
    assert row["pooled"]["reward"]["value"] is not None
    assert made["judging"]["scored"] == list(judged.SCORED)


def test_an_experiment_without_verdicts_has_no_section_on_judging() -> None:
    assert "judging" not in factory.experiment()


@pytest.mark.parametrize(
    ("judgment", "message"),
    [
        (Judgment("DPO", "hard", {}), "judgment of 'DPO' on 'hard' names 'DPO', which is no row"),
        (Judgment("SALSA", "hard", {}, "DPO"), "names 'DPO', which is no row"),
        (Judgment("SALSA", "easy", {}), "there is no such suite; the suites are single"),
        (Judgment("SALSA", "single", {}), "judgment of 'SALSA' on 'single' is there twice"),
        (Judgment("SALSA", "hard", {}, "PPO"), "on 'hard' against 'PPO' is there twice"),
        (
            Judgment("SALSA", "hard", {"u7": 1.0}),
            "row 'SALSA', suite 'hard': the judge's verdicts are of question 'u7'",
        ),
    ],
)
def test_judgments_of_what_is_not_there_are_errors_that_name_it(judgment: Judgment, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judged.experiment([*judged.judgments(), judgment])


def test_a_judge_that_scores_needs_a_margin() -> None:
    with pytest.raises(ValueError, match="needs a tie_margin"):
        ByScores(factory.evidence(4).scores, None, factory.SUITES).won("SALSA", "hard", "PPO")
