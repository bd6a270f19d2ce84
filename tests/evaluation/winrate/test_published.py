"""What published judgments give: the facts that others found in the same files."""

import json
from collections import Counter

import numpy as np
import pytest

from salsa.evaluation.battles import arena, matches
from salsa.evaluation.bradley_terry import expected_win_rate
from salsa.evaluation.published.answers import answers, questions
from salsa.evaluation.published.reading import Options, read
from salsa.evaluation.winrate.report import report
from salsa.evaluation.winrate.settings import Settings
from tests.evaluation.judgments import PUBLISHED, needs_published

SINGLE = PUBLISHED / "mt_bench_judgments" / "alvarobartt_gpt-4_single.jsonl.gz"
PAIR = PUBLISHED / "mt_bench_judgments" / "Stefanstud_gpt-4_pair.jsonl.gz"
ARENA = PUBLISHED / "arena_hard_judgments"
pytestmark = needs_published


def section(path, form, baseline=None, **settings):
    """Return the reading of a file and its only section."""
    paths = path if isinstance(path, list) else [path]
    reading = read(paths, form, Options(baseline=baseline))
    [found] = report(reading, paths, {}, Settings(baseline=baseline, rounds=200, **settings))["sections"]
    return reading, found


def judgments():
    return sorted(ARENA.glob("*.jsonl.gz"))


def test_every_stored_score_follows_from_the_text():
    reading, found = section(SINGLE, "mt-bench-single")
    assert (reading.rows, len(reading.appended), len(reading.malformed)) == (800, 800, 0)
    assert not any(each.differs for row in reading.appended for each in row.judged)
    assert all(each.has_stored and each.verdict.completion for row in reading.appended for each in row.judged)
    assert dict(reading.duplicates) == {"mistral-orpo": 160}
    assert Counter(row.model for row in reading.appended)["mistral-orpo"] == 320
    assert all(row["counts"]["sent"] == 160 for row in found["models"])


def test_scores_are_those_that_fastchat_prints_but_for_the_model_that_was_appended_twice():
    _, found = section(SINGLE, "mt-bench-single")
    for row in found["models"]:
        same = row["score"]["value"] == pytest.approx(row["fastchat"]["score"])
        assert same == (row["model"] != "mistral-orpo")
        assert len(row["categories"]) == 8
        turns = [row["turns"][turn]["value"] for turn in ("1", "2")]
        assert row["score"]["value"] == pytest.approx(np.mean(turns), abs=0.05)
    assert {row["model"]: row["fastchat"]["rows"] for row in found["models"]} == {
        "mistral-orpo-trl": 160,
        "mistral-orpo-capybara": 160,
        "mistral-orpo": 319,
        "mistral-orpo-mix": 160,
    }


def test_the_published_pairs():
    reading, found = section(PAIR, "mt-bench-pair")
    assert (reading.rows, found["matches"]["both_judged"]) == (75, 73)
    rates = {row["model"]: row["fastchat"] for row in found["models"]}
    assert [rates["phi-3"][key] for key in ("win", "loss", "tie")] == [18, 20, 35]
    assert [rates["phi-3-dpo"][key] for key in ("win", "loss", "tie")] == [20, 18, 35]
    assert round(rates["phi-3-dpo"]["value"], 4) == 0.5137
    assert round(found["judge_bias"]["swap"]["consistency"]["value"], 3) == 0.630
    assert found["counts"] == {"sent": 150, "judged": 147, "unparsed": 0, "failed": 3}
    assert not any(each.differs for each in reading.judged)


def test_every_label_of_arena_hard_parses_by_both_releases():
    for release in ("first", "current"):
        reading = read(judgments(), "arena-hard", Options("truth_model", release))
        assert len(reading.verdicts) == 20 * len(judgments())
        assert all(verdict.status == "judged" for verdict in reading.verdicts)
        assert not any(each.differs for each in reading.judged)


def test_the_battles_are_what_the_judgments_become():
    rows = [json.loads(line) for line in (ARENA / "arena_hard_battles.jsonl").read_text().splitlines()]
    outcome = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5}
    for path in judgments():
        reading = read([path], "arena-hard", Options("truth_model"))
        battles = [battle for match in matches(reading.verdicts) for battle in arena(match, "first", 1)]
        [model] = {battle.first for battle in battles}
        published = [(row["question_id"], outcome[row["winner"]]) for row in rows if row["model_b"] == model]
        assert Counter((battle.question, 1 - battle.outcome) for battle in battles) == Counter(published)


def test_ratings_are_those_of_the_published_bootstrap():
    reading, found = section(ARENA / "arena_hard_battles.jsonl", "arena-hard")
    assert (len(reading.battles), found["baseline"], found["battles"]["self"]) == (120, "truth_model", 20)
    rounds = [json.loads(line) for line in (ARENA / "bootstrapping_results.jsonl").read_text().splitlines()]
    for row in found["models"]:
        published = [100 * expected_win_rate(each[row["model"]] - each["truth_model"]) for each in rounds]
        assert row["score"] == pytest.approx(np.median(published), abs=4)
        width = np.quantile(published, 0.975) - np.quantile(published, 0.025)
        assert row["battles"]["high"] - row["battles"]["low"] == pytest.approx(width, rel=0.3)


def test_categories_and_replies_come_from_the_published_files():
    asked = questions(PUBLISHED / "arena_hard" / "v0.1_question.jsonl")
    reading = read(judgments(), "arena-hard", Options("truth_model"), asked)
    assert {verdict.category for verdict in reading.verdicts} == {"arena-hard-v0.1"}
    assert all(verdict.cluster != verdict.question for verdict in reading.verdicts)
    given = answers([PUBLISHED / "arena_hard" / "model_answer" / "gpt-4-0314.jsonl.gz"])
    assert len(given) == 500
    assert all(answer.text for answer in given.values())
    _, found = section(judgments(), "arena-hard", "truth_model")
    assert found["style"]["unknown_battles"] == 0
