"""The report: every count is there, rules are named, suites and judges are kept apart."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.evaluation.published.answers import Answer, Question
from salsa.evaluation.published.reading import Options, read
from salsa.evaluation.style import FEATURES, Styled, controlled, style
from salsa.evaluation.winrate.report import report
from salsa.evaluation.winrate.settings import Settings
from tests.evaluation.judgments import arena, arena_two, battle, pair, single, verdict, write

LABELS = ["A>>B", "A>B", "A=B", "B>A", "B>>A"]


def made(tmp_path, rows, form, answers=None, options=None, **settings):
    path = write(tmp_path / "f.jsonl", rows)
    reading = read([path], form, options or Options())
    found = report(reading, [path], answers or {}, Settings(rounds=settings.pop("rounds", 100), **settings))
    json.dumps(found, allow_nan=False)
    return found


def only(*args, **options):
    [section] = made(*args, **options)["sections"]
    return section


def by_model(section):
    return {row["model"]: row for row in section["models"]}


def test_a_score_is_the_mean_of_what_survives(tmp_path):
    rows = [single(81, "a", 8), single(81, "a", 4, 2), single(82, "a", None), single(83, "a", text="$ERROR$", score=-1)]
    found = only(tmp_path, [*rows, single(101, "b", 3)], "mt-bench-single")
    a = by_model(found)["a"]
    assert (a["score"]["value"], a["score"]["n"]) == (6, 2)
    assert a["counts"] == {"sent": 4, "judged": 2, "unparsed": 1, "failed": 1}
    assert {turn: part["value"] for turn, part in a["turns"].items()} == {"1": 8, "2": 4}
    assert a["categories"] == {"writing": a["score"] | {"low": None, "high": None}, "reasoning": None}
    assert a["fastchat"] == {"score": 6, "turns": {"1": 8, "2": 4}, "rows": 2}
    assert found["counts"] == {"sent": 5, "judged": 3, "unparsed": 1, "failed": 1}
    # The two have no question in common.
    assert found["comparisons"] == []


def test_a_model_without_any_judgment_is_shown_with_its_counts(tmp_path):
    found = only(tmp_path, [single(81, "a", None), single(82, "b", 5)], "mt-bench-single")
    assert by_model(found)["a"]["score"] is None
    assert by_model(found)["a"]["counts"]["unparsed"] == 1


def test_scores_outside_the_scale_are_counted(tmp_path):
    assert only(tmp_path, [single(score=100), single(82)], "mt-bench-single")["outside_scale"] == 1


def test_judges_are_kept_apart(tmp_path):
    rows = [single(judge=["gpt-4", "single-v1"], score=9), single(judge=["other", "single-v1"], score=1)]
    found = made(tmp_path, rows, "mt-bench-single")["sections"]
    assert [(each["judge"], each["models"][0]["score"]["value"]) for each in found] == [("gpt-4", 9), ("other", 1)]
    assert [each["models"][0]["fastchat"]["score"] for each in found] == [9, 1]


def test_what_was_read_is_told(tmp_path):
    rows = [single(), single(), single(82, text="[[3]]", score=4), "broken"]
    found = made(tmp_path, rows, "mt-bench-single")["reading"]
    assert (found["rows"], found["used"], found["duplicates"], found["malformed"]) == (4, 2, 1, 1)
    assert (found["compared_with_stored"], found["differ_from_stored"]) == (2, 1)
    assert found["differing"] == ["question 82, turn 1, m: stored 4.0, the text says 3.0"]


def test_both_rules_of_pairs_are_there(tmp_path):
    games = ["11", "12", "1=", "22", "1!"]
    found = only(tmp_path, [pair(81 + index, own) for index, own in enumerate(games)], "mt-bench-pair")
    one = by_model(found)["one"]
    assert [one["fastchat"][key] for key in ("win", "tie", "loss", "value")] == [1, 2, 1, 0.5]
    assert [one["half_votes"][key] for key in ("win", "tie", "loss")] == [2.5, 0.5, 1.5]
    assert one["half_votes"]["value"] == pytest.approx(2.75 / 4.5)
    assert found["matches"] == {"all": 5, "both_judged": 4, "one_judged": 1, "none_judged": 0, "one_order_only": 0}


def test_a_baseline_restricts_win_rates(tmp_path):
    rows = [pair(81, "11", ("a", "base")), pair(81, "11", ("a", "b")), pair(81, "22", ("b", "base"))]
    found = only(tmp_path, rows, "mt-bench-pair", baseline="base")
    assert {model: row["fastchat"]["value"] for model, row in by_model(found).items()} == {"a": 1, "b": 0}
    assert [(each["first"], each["second"], each["value"]) for each in found["comparisons"]] == [("a", "b", 1)]
    free = only(tmp_path, rows, "mt-bench-pair")
    assert by_model(free)["base"]["fastchat"]["value"] == 0.5
    assert free["comparisons"] == []


@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=8))
def test_the_score_is_the_weighted_raw_win_rate(tmp_path_factory, labels):
    folder = tmp_path_factory.mktemp("f")
    rows = [arena(f"q{index}", pair_) for index, pair_ in enumerate(labels)]
    found = only(folder, rows, "arena-hard", rounds=20)
    won = fought = 0.0
    for first, second in labels:
        for label, side in ((first, "B"), (second, "A")):
            weight = 3 if ">>" in label else 1
            won += weight * (0.5 if "=" in label else float(label[0] == side))
            fought += weight
    [row] = found["models"]
    assert row["score"] == pytest.approx(100 * won / fought)
    assert (found["baseline"], found["baseline_inferred"]) == ("baseline", True)
    assert row["battles"]["low"] <= row["battles"]["high"]


def test_the_rule_for_what_does_not_parse_is_that_of_the_release(tmp_path):
    rows = [arena("q", ("A=B", None)), arena("r", ("B>A", "A>B"))]
    first = only(tmp_path, rows, "arena-hard")
    assert by_model(first)["m"]["score"] == pytest.approx(100 * 2.5 / 3)
    assert by_model(first)["m"]["counts"] == {"sent": 4, "judged": 3, "unparsed": 1, "failed": 0}
    current = only(tmp_path, rows, "arena-hard", options=Options(release="current"), release="current")
    assert by_model(current)["m"]["score"] == 100
    assert by_model(current)["m"]["battles"]["level"] == 0.90
    assert by_model(first)["m"]["battles"]["level"] == 0.95


def test_categories_of_the_current_release_have_baselines_of_their_own(tmp_path):
    rows = [
        arena_two("q", ("A>B", "B>A"), category="hard_prompt", baseline="o3"),
        arena_two("r", ("B>A", "A>B"), category="creative_writing", baseline="gemini"),
    ]
    found = made(tmp_path, rows, "arena-hard")["sections"]
    assert [(each["category"], each["baseline"], each["models"][0]["score"]) for each in found] == [
        ("hard_prompt", "o3", 0),
        ("creative_writing", "gemini", 100),
    ]


@pytest.mark.parametrize("baselines", [("o3", "o3"), ("o3", "gemini")])
def test_categories_with_one_baseline_are_one_score_and_its_parts(tmp_path, baselines):
    rows = [
        arena_two("q", ("A>B", "B>A"), category="hard", baseline=baselines[0]),
        arena_two("r", ("B>A", "A>B"), category="creative", baseline=baselines[1]),
    ]
    sections = made(tmp_path, rows, "arena-hard")["sections"]
    assert len(sections) == len(set(baselines))
    if len(sections) == 1:
        [row] = sections[0]["models"]
        assert (sections[0]["category"], row["score"]) == ("", 50)
        assert {name: part["value"] for name, part in row["categories"].items()} == {"hard": 0, "creative": 100}


def test_categories_of_battles_are_parts_too(tmp_path):
    asked = {"q": Question("one", ""), "r": Question("two", "")}
    path = write(tmp_path / "f", [battle("q", "model_a"), battle("r", "model_b")])
    reading = read([path], "arena-hard", Options(), asked)
    [section] = report(reading, [path], {}, Settings(rounds=20))["sections"]
    assert section["models"][0]["score"] == 50
    assert {name: part["value"] for name, part in section["models"][0]["categories"].items()} == {"one": 0, "two": 100}


def test_prompts_that_judged_the_same_are_kept_apart(tmp_path):
    rows = [
        verdict(key=f"{prompt}{turn}{order}", prompt=f"{prompt}{turn}" * 8, prompt_name="p", turn=turn, order=order)
        | {"label": label, "model_a": "ab"[order], "model_b": "ba"[order]}
        for prompt, labels in (("x", ("A>B", "B>A")), ("y", ("B>A", "A>B")))
        for turn in (1, 2)
        for order, label in enumerate(labels)
    ]
    found = made(tmp_path, rows, "verdicts", baseline="b")
    assert found["reading"]["duplicates"] == 0
    assert [each["prompts"] for each in found["sections"]] == [
        ["p x1x1x1x1", "p x2x2x2x2"],
        ["p y1y1y1y1", "p y2y2y2y2"],
    ]
    assert [by_model(each)["a"]["half_votes"]["value"] for each in found["sections"]] == [1, 0]
    # The prompts of the two turns do not compete: alone, they are one section.
    alone = only(tmp_path, rows[:4], "verdicts", baseline="b")
    assert (alone["prompts"], alone["counts"]["judged"]) == ([], 4)


def test_our_own_log_has_no_column_of_fastchat(tmp_path):
    row = {"kind": "single", "model_b": None, "label": None, "score": 7.0}
    [model] = only(tmp_path, [verdict(**row)], "verdicts")["models"]
    assert (model["score"]["value"], model["fastchat"]) == (7, None)


def test_the_interval_over_battles_is_too_narrow_where_games_agree(tmp_path):
    rows = [arena(f"q{index}", ("B>A", "A>B") if index % 2 else ("A>B", "B>A")) for index in range(200)]
    [row] = only(tmp_path, rows, "arena-hard", rounds=2000)["models"]
    widths = [row[name]["high"] - row[name]["low"] for name in ("battles", "questions")]
    assert widths[1] / widths[0] == pytest.approx(2**0.5, rel=0.25)


def test_battles_without_a_common_model_have_ratings_and_no_score(tmp_path):
    rows = [
        battle("q", winner, models)
        for winner in ("model_a", "model_b")
        for models in (("a", "b"), ("b", "c"), ("a", "c"))
    ]
    found = only(tmp_path, rows, "arena-hard")
    assert found["baseline"] is None
    assert [row["score"] for row in found["models"]] == [None] * 3
    assert [row["value"] for row in found["ratings"]] == pytest.approx([1000] * 3)
    named = only(tmp_path, rows, "arena-hard", baseline="a")
    assert by_model(named)["b"]["score"] == pytest.approx(50)
    assert by_model(named)["b"]["battles"]["rounds"] == 100
    assert by_model(named)["b"]["questions"]["n"] == 1


def test_battles_of_a_model_with_itself_are_counted_and_left_out(tmp_path):
    rows = [battle("q", "model_a"), battle("q", "model_b"), battle("q", "tie", ("base", "base"))]
    found = only(tmp_path, rows, "arena-hard")
    assert (found["battles"]["rows"], found["battles"]["self"]) == (3, 1)
    assert by_model(found)["m"]["score"] == 50


def test_replies_give_style_and_length(tmp_path):
    noise = np.random.default_rng(0)
    rows, answers = [], {}
    for index in range(40):
        longer = noise.random() < 0.5
        rows.append(arena(f"q{index}", ("B>A", "A>B") if longer else ("A>B", "B>A")))
        answers[("m", f"q{index}", 1)] = Answer("word " * (30 if longer else 10), 30 if longer else 10)
        answers[("baseline", f"q{index}", 1)] = Answer("word " * 20, 20)
    found = made(tmp_path, rows, "arena-hard", answers)
    [section] = found["sections"]
    assert found["replies"] == {"source": "answers", "length_unit": "tokens", "models": ["baseline", "m"]}
    assert section["judge_bias"]["longer_wins"]["value"] == 1
    assert section["style"]["length"]["coefficients"]["length"] > 1
    assert section["style"]["style"]["constant"] == ["headers", "lists", "bold"]
    del answers[("m", "q0", 1)]
    [section] = made(tmp_path, rows, "arena-hard", answers)["sections"]
    assert section["style"]["unknown_battles"] == 2


@pytest.mark.parametrize(("row", "release"), [(arena, "first"), (arena_two, "current")])
def test_style_is_controlled_by_the_rule_of_the_release(tmp_path, row, release):
    noise = np.random.default_rng(0)
    names = ("baseline", "m") if release == "first" else ("o3-mini", "m")
    rows = [row(f"q{index}", ("B>A", "A>B") if index % 3 else ("A>B", "B>A")) for index in range(30)]
    answers = {
        (model, f"q{index}", 1): Answer("# One\n" * int(noise.integers(3)), int(noise.integers(5, 50)))
        for index in range(30)
        for model in names
    }
    [section] = made(tmp_path, rows, "arena-hard", answers)["sections"]
    told = section["style"]
    assert told["rule"].startswith(f"{release} release: ")
    known = [
        Styled("m", f"q{index}", 2.0 * (index % 3 > 0), 2.0, *(style(each.text, each.tokens) for each in pair))
        for index in range(30)
        for pair in [[answers[(name, f"q{index}", 1)] for name in reversed(names)]]
    ]
    expected = controlled(known, FEATURES, np.random.default_rng(0), 10, release=release)
    assert told["style"]["coefficients"] == pytest.approx(expected.coefficients)
    assert told["style"]["models"]["m"]["value"] == pytest.approx(100 * expected.win_rates["m"][0])


def test_replies_shown_to_the_judge_serve_where_there_are_no_answers(tmp_path):
    found = made(tmp_path, [pair(81, "11", replies=("a long reply", "short"))], "mt-bench-pair")
    assert found["replies"] == {"source": "prompts", "length_unit": "words", "models": []}
    assert found["sections"][0]["judge_bias"]["longer_wins"]["value"] == 1


def test_replicates_are_summed_up(tmp_path):
    rows = [single(q, f"s{seed}", 1 + (q + seed) % 9) for q in range(81, 101) for seed in (1, 2, 3)]
    found = only(tmp_path, rows, "mt-bench-single", replicates={"method": ["s1", "s2", "s3"]})
    [method] = found["replicates"]
    assert (method["name"], method["shown"], method["t"]["n"]) == ("method", "t", 3)
    with pytest.raises(ValueError, match="'s9' of method"):
        made(tmp_path, rows, "mt-bench-single", replicates={"method": ["s1", "s9"]})


def test_with_many_models_only_neighbours_are_compared(tmp_path):
    rows = [single(q, f"m{score}", score) for q in (81, 82) for score in range(1, 9)]
    found = only(tmp_path, rows, "mt-bench-single")["comparisons"]
    assert [(each["first"], each["second"]) for each in found] == [(f"m{n}", f"m{n - 1}") for n in range(8, 1, -1)]


def test_the_same_seed_gives_the_same_figures(tmp_path):
    rows = [pair(question, games) for question, games in enumerate(["11", "12", "2=", "22"] * 5)]
    once, again, other = (made(tmp_path, rows, "mt-bench-pair", seed=seed) for seed in (0, 0, 1))
    assert once == again
    assert once["sections"] != other["sections"]


def test_verdicts_are_kept_apart_by_suite_and_kind(tmp_path):
    rows = []
    for suite, question, labels in (("ultrafeedback", "u", "A>B B>A"), ("arena_hard", "a", "B>>A A>>B")):
        for order, label in enumerate(labels.split()):
            models = {"model_a": "m", "model_b": "base"} if order == 0 else {"model_a": "base", "model_b": "m"}
            rows.append(verdict(suite=suite, question=question, order=order, label=label, **models))
    rows.append(verdict(suite="mt_bench", kind="single", model_a="m", model_b=None, label=None, score=7.0))
    rows.append(verdict(suite="ultrafeedback", question="v", label=None, status="failed", completion="", error="429"))
    found = made(tmp_path, rows, "verdicts", baseline="base")["sections"]
    assert [(each["suite"], each["kind"], each["rule"].partition(" ")[0]) for each in found] == [
        ("ultrafeedback", "pair", "half_votes"),
        ("arena_hard", "arena", "first"),
        ("mt_bench", "single", "mean"),
    ]
    assert by_model(found[0])["m"]["half_votes"]["value"] == 1
    assert found[0]["counts"] == {"sent": 3, "judged": 2, "unparsed": 0, "failed": 1}
    assert by_model(found[1])["m"]["score"] == 0
    assert by_model(found[2])["m"]["score"]["value"] == 7
