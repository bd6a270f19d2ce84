"""An experiment's verdicts, suite by suite: the experiment's models among themselves, and against others."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from salsa.evaluation.published.answers import Answer
from salsa.evaluation.published.reading import Options, Reading, read
from salsa.evaluation.winrate.report import report
from salsa.evaluation.winrate.settings import Settings
from salsa.evaluation.winrate.suites import Field, suites
from salsa.judging.verdict import FLIPPED
from tests.evaluation.judgments import verdict, write

SETTINGS = Settings(rounds=50)


def game(suite: str, question: str, models: tuple[str, str], label: str | None, **more: Any) -> list[dict[str, Any]]:
    """Return both games of a match, with the same verdict on the first model."""
    flipped = None if label is None else FLIPPED[label]
    status = "unparsed" if label is None else "judged"
    base = {"suite": suite, "question": question, "cluster": question, "status": status, "completion": ""} | more
    key = f"{suite} {question} {models}"
    return [
        verdict(key=key, model_a=models[0], model_b=models[1], label=label, order=0, **base),
        verdict(key=f"{key} 2", model_a=models[1], model_b=models[0], label=flipped, order=1, **base),
    ]


def single(model: str, question: str, score: float, turn: int = 1) -> dict[str, Any]:
    about = {"suite": "mt_bench", "question": question, "cluster": question, "turn": turn, "completion": ""}
    return verdict(
        key=f"{model} {question} {turn}", kind="single", model_a=model, model_b=None, label=None, score=score, **about
    )


def told(
    tmp_path: Path, rows: Sequence[dict[str, Any]], opponents: Sequence[str] = ("PPO", "SFT1"), answers: Any = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the report and the heads by suite."""
    reading: Reading = read([write(tmp_path / "verdicts.jsonl", rows)], "verdicts", Options())
    field = Field(["SALSA", "PPO", "SFT1"], opponents, answers or {})
    whole, heads = suites(reading, [Path("verdicts.jsonl")], field, SETTINGS)
    return whole, {head["suite"]: head for head in heads}


def rates(head: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return what each model won from each other."""
    return {
        model: {other: each["value"] for other, each in own["against"].items()} for model, own in head["models"].items()
    }


def test_scores_stand_at_the_head_whole_and_by_turn(tmp_path: Path) -> None:
    rows = [single("SALSA", "81", 8), single("SALSA", "81", 5, turn=2), single("SALSA", "82", 8)]
    whole, heads = told(tmp_path, rows)
    salsa = heads["mt_bench"]["models"]["SALSA"]
    assert salsa["score"]["value"] == 7.0
    assert {turn: each["value"] for turn, each in salsa["turns"].items()} == {"1": 8.0, "2": 5.0}
    assert heads["mt_bench"]["bias"] is None
    assert [section["kind"] for section in whole["sections"]] == ["single"]


def test_a_win_rate_is_told_against_each_opponent_by_the_rule_of_the_benchmark(tmp_path: Path) -> None:
    rows = [*game("mt_bench", "81", ("SALSA", "PPO"), "A>B"), *game("mt_bench", "82", ("SALSA", "PPO"), "A=B")]
    rows += [*game("mt_bench", "81", ("SALSA", "SFT1"), "B>A"), *game("mt_bench", "82", ("PPO", "SFT1"), "A>B")]
    # One order only: FastChat's rule drops it.
    rows.append(game("mt_bench", "83", ("SALSA", "PPO"), "B>A")[0])
    whole, heads = told(tmp_path, rows)
    assert rates(heads["mt_bench"]) == {"SALSA": {"PPO": 0.75, "SFT1": 0.0}, "PPO": {"SFT1": 1.0}, "SFT1": {"PPO": 0.0}}
    assert heads["mt_bench"]["rules"]["PPO"].startswith("FastChat")
    assert [section["baseline"] for section in whole["sections"]] == ["PPO"]
    assert {row["model"] for row in whole["sections"][0]["ratings"]} == {"SALSA", "PPO", "SFT1"}


def test_a_model_from_outside_has_a_section_and_arena_hards_score_from_its_own_games_alone(tmp_path: Path) -> None:
    rows = [*game("arena_hard", "a", ("SALSA", "gpt"), "A>>B"), *game("arena_hard", "b", ("SALSA", "gpt"), "B>A")]
    # What the experiment's models do among themselves is no part of the score.
    rows += [*game("arena_hard", "a", ("SALSA", "PPO"), "B>A"), *game("arena_hard", "b", ("PPO", "gpt"), "A=B")]
    whole, heads = told(tmp_path, rows)
    models = heads["arena_hard"]["models"]
    assert models["SALSA"]["against"]["gpt"]["value"] == pytest.approx(6 / 8)
    assert models["PPO"]["against"]["gpt"]["value"] == 0.5
    assert models["SALSA"]["against"]["PPO"]["value"] == 0.0
    assert [section["baseline"] for section in whole["sections"]] == ["PPO", "gpt"]
    assert whole["sections"][1]["closed_form"]
    assert heads["arena_hard"]["bias"]["swap"]["complete"] == 4


def test_categories_with_a_baseline_each_are_told_apart(tmp_path: Path) -> None:
    rows = [*game("arena_hard_v2", "a", ("SALSA", "o3"), "A>B", category="hard_prompt")]
    rows += game("arena_hard_v2", "b", ("SALSA", "gemini"), "B>A", category="creative_writing")
    whole, heads = told(tmp_path, rows)
    assert rates(heads["arena_hard_v2"]) == {"SALSA": {"o3": 1.0, "gemini": 0.0}}
    assert {section["category"] for section in whole["sections"]} == {"hard_prompt", "creative_writing"}


@pytest.mark.parametrize("suite", ["arena_hard_v2", "hard"])
def test_the_score_against_a_baseline_is_over_all_its_categories(suite: str, tmp_path: Path) -> None:
    rows = []
    for number in range(4):
        rows += game(suite, f"h{number}", ("SALSA", "o3"), "A>B", category="hard_prompt")
        rows += game(suite, f"m{number}", ("SALSA", "o3"), "B>A" if number else "A>B", category="math")
        rows += game(suite, f"c{number}", ("SALSA", "gemini"), "A=B", category="creative_writing")
        rows += game(suite, f"h{number}", ("SALSA", "PPO"), "B>A", category="hard_prompt")
    whole, heads = told(tmp_path, rows)
    found = heads[suite]["models"]["SALSA"]["against"]
    assert {name: (each["value"], each["n"]) for name, each in found.items()} == {
        "PPO": (0.0, 4),
        "o3": (5 / 8, 8),
        "gemini": (0.5, 4),
    }
    sections = {section["baseline"]: section["category"] for section in whole["sections"]}
    assert sections == {"PPO": "", "o3": "hard_prompt and math", "gemini": "creative_writing"}


def test_a_baseline_without_any_verdict_keeps_its_place(tmp_path: Path) -> None:
    for suite in ("arena_hard", "hard"):
        rows = [*game(suite, "a", ("SALSA", "gpt"), None), *game(suite, "a", ("SALSA", "PPO"), "A>B")]
        whole, heads = told(tmp_path, rows)
        assert list(heads[suite]["rules"]) == ["PPO", "gpt"]
        assert heads[suite]["models"]["SALSA"]["against"]["gpt"] is None
        assert [section["baseline"] for section in whole["sections"]] == ["PPO", "gpt"]


def test_prompts_that_judged_the_same_games_are_compared_apart(tmp_path: Path) -> None:
    rows = []
    for prompt, label in (("x" * 64, "A>B"), ("y" * 64, "B>A")):
        games = game("hard", "a", ("SALSA", "gpt"), label, prompt=prompt, prompt_name="p")
        rows += [each | {"key": each["key"] + prompt} for each in games]
    _, heads = told(tmp_path, rows)
    assert rates(heads["hard"]) == {"SALSA": {"gpt (p xxxxxxxx)": 1.0, "gpt (p yyyyyyyy)": 0.0}}
    assert heads["hard"]["bias"]["swap"]["complete"] == 2


def test_a_comparison_has_one_figure_wherever_it_is_told(tmp_path: Path) -> None:
    """Games among others say nothing of it: not in the head, not in a section, not in `salsa winrate --baseline`."""
    rows = []
    for number, labels in enumerate((("A>>B", "B>A", "A>B"), ("A=B", "A>B", "B>A"), ("B>A", "B>>A", "A>B"))):
        for models, label in zip((("SALSA", "PPO"), ("PPO", "SFT1"), ("SALSA", "SFT1")), labels, strict=True):
            rows += game("arena_hard", str(number), models, label)
        rows += game("arena_hard", str(number), ("SALSA", "gpt"), labels[0])
    whole, heads = told(tmp_path, rows)
    found = rates(heads["arena_hard"])
    assert found["SALSA"]["PPO"] == found["SALSA"]["gpt"] == pytest.approx((6 + 1) / 10)
    path = tmp_path / "verdicts.jsonl"
    for baseline, models in (("PPO", {"SALSA", "SFT1"}), ("gpt", {"SALSA"})):
        settings = Settings(baseline=baseline, rounds=50)
        (alone,) = report(read([path], "verdicts", Options(baseline)), [path], {}, settings)["sections"]
        section = next(each for each in whole["sections"] if each["baseline"] == baseline)
        for each in (alone, section):
            scores = {row["model"]: row["score"] for row in each["models"] if row["score"] is not None}
            assert scores == pytest.approx({model: 100 * found[model][baseline] for model in models})
    # Ratings are of all that met.
    assert {row["model"] for row in alone["ratings"]} == {"SALSA", "PPO", "SFT1", "gpt"}


@pytest.mark.parametrize(
    ("suite", "grammar", "rule", "score"),
    [
        ("arena_hard", "own_pair_5", "first release", 2 / 3),
        ("arena_hard_v2", "own_pair_5", "current release", 1.0),
        ("arena_hard", "arena_current", "current release", 1.0),
        ("arena_mine", "arena_first", "first release", 2 / 3),
        ("hard_v2", "own_pair_5", "half votes", 2 / 3),
    ],
)
def test_the_release_is_told_by_the_suites_name_and_by_its_own_prompts(
    suite: str, grammar: str, rule: str, score: float, tmp_path: Path
) -> None:
    rows = [*game(suite, "a", ("SALSA", "gpt"), "A>B"), *game(suite, "b", ("SALSA", "gpt"), "B>A")]
    rows[3] |= {"label": None, "status": "unparsed"}
    for row in rows:
        row["grammar"] = grammar
    reading = read([write(tmp_path / "verdicts.jsonl", rows)], "verdicts", Options(stored=True))
    _, (head,) = suites(reading, [], Field(["SALSA"], [], {}), SETTINGS)
    assert head["rules"]["gpt"].startswith(rule)
    assert rates(head) == {"SALSA": {"gpt": pytest.approx(score)}}


def test_suites_do_not_mix_and_the_reading_is_told_once(tmp_path: Path) -> None:
    rows = [*game("mt_bench", "1", ("SALSA", "PPO"), "A>B"), *game("other", "1", ("SALSA", "PPO"), "B>A")]
    whole, heads = told(tmp_path, rows)
    assert [heads[suite]["models"]["SALSA"]["against"]["PPO"]["value"] for suite in heads] == [1.0, 0.0]
    assert whole["reading"]["rows"] == 4
    assert heads["other"]["rules"]["PPO"].startswith("half votes")


def test_games_without_a_verdict_leave_no_figure(tmp_path: Path) -> None:
    rows = game("mt_bench", "1", ("SALSA", "PPO"), None)
    _, heads = told(tmp_path, rows)
    assert heads["mt_bench"]["models"]["SALSA"]["against"] == {"PPO": None}


def test_lengths_of_replies_come_from_the_answers_of_the_suite(tmp_path: Path) -> None:
    rows = [*game("mt_bench", "1", ("SALSA", "PPO"), "A>B"), *game("other", "1", ("SALSA", "PPO"), "A>B")]
    long, short = Answer("many words are in this reply"), Answer("few words")
    answers = {
        "mt_bench": {("SALSA", "1", 1): long, ("PPO", "1", 1): short},
        "other": {("SALSA", "1", 1): short, ("PPO", "1", 1): long},
    }
    whole, heads = told(tmp_path, rows, answers=answers)
    assert [heads[suite]["bias"]["longer_wins"]["value"] for suite in ("mt_bench", "other")] == [1.0, 0.0]
    assert whole["replies"]["length_unit"] == "words"


def test_style_is_held_equal_where_the_replies_of_both_are_known(tmp_path: Path) -> None:
    rows, answers = [], {}
    for number in range(6):
        question = str(number)
        rows += game("arena_hard", question, ("SALSA", "gpt"), "A>B" if number % 2 else "B>A")
        answers |= {("SALSA", question, 1): Answer("word " * (number + 1)), ("gpt", question, 1): Answer("some words")}
    whole, _ = told(tmp_path, rows, answers={"arena_hard": answers})
    assert whole["sections"][0]["style"]["length"]["models"]["SALSA"]["value"] is not None
