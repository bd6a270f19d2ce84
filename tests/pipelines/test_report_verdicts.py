"""The stage `report` where the judge reads replies."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.exports import export
from pipelines.stages import report
from salsa.cli import main
from salsa.judging import verdict as verdicts
from salsa.judging.verdict import Verdict
from salsa.report import schema, tables
from tests.pipelines import judged
from tests.pipelines.judged import ARENA, BASELINE, MT_BENCH, Made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of everything that was asked."""
    work = Made(tmp_path_factory.mktemp("report")).work()
    report.run(work)
    return work.folder


@pytest.fixture
def experiment(folder: Path) -> dict[str, Any]:
    return schema.read(folder / "experiment.json")


def row(experiment: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in experiment["rows"] if each["name"] == name)
    return found


def test_win_rates_are_those_of_the_known_verdicts(experiment: dict[str, Any]) -> None:
    rate = row(experiment, "SALSA")["suites"][MT_BENCH]["win_rate"]["PPO"]
    assert rate["value"] == pytest.approx((4 + 2 / 2) / 7)
    assert (rate["wins"], rate["ties"], rate["losses"]) == (4, 2, 1)
    assert row(experiment, "SALSA")["suites"][MT_BENCH]["win_rate"]["SFT1"]["value"] == 1.0
    assert row(experiment, "SFT1")["suites"][MT_BENCH]["win_rate"]["PPO"]["value"] == 0.5
    assert row(experiment, "SFT2")["suites"][MT_BENCH]["win_rate"] == {}


def test_scores_are_the_means_of_single_verdicts_and_of_nobody_else(experiment: dict[str, Any]) -> None:
    salsa = row(experiment, "SALSA")["suites"][MT_BENCH]["judge"]
    assert (salsa["value"], salsa["n"]) == (pytest.approx((7 * 7 + 8) / 8), 8)
    assert row(experiment, "PPO")["pooled"]["judge"]["value"] == 5.0
    assert row(experiment, "soup")["suites"][MT_BENCH]["judge"] is None
    assert experiment["judge"] == {"name": judged.JUDGE, "tie_margin": None, "unit": "points of 10"}


def test_a_row_of_the_same_model_ties_and_shares_what_was_said(experiment: dict[str, Any]) -> None:
    twin = row(experiment, "twin")["suites"][MT_BENCH]
    assert twin["win_rate"]["PPO"] == {"value": 0.5, "low": 0.5, "high": 0.5, "wins": 0, "ties": 8, "losses": 0}
    assert twin["judge"] == row(experiment, "PPO")["suites"][MT_BENCH]["judge"]


def test_arena_hards_score_stands_in_the_section_on_judging(experiment: dict[str, Any]) -> None:
    head = next(each for each in experiment["judging"]["suites"] if each["suite"] == ARENA)
    # A strong win in both orders counts three times each, beside two ties, two losses and one win: 3 + 3 + 1 + 1 of 11.
    assert head["rows"]["SALSA"]["against"][BASELINE]["value"] == pytest.approx(8 / 11)
    assert head["rows"]["PPO"]["against"][BASELINE]["value"] == 0.0
    # Games among the experiment's models are no part of it, and have Arena-Hard's weights beside the main table's rule.
    assert head["rows"]["SALSA"]["against"]["PPO"]["value"] == pytest.approx((6 + 2) / (6 + 2 + 4))
    assert row(experiment, "SALSA")["suites"][ARENA]["win_rate"]["PPO"]["value"] == 0.5
    assert BASELINE not in experiment["opponents"]
    assert experiment["judging"]["compared"] == [MT_BENCH, ARENA]


def test_every_request_is_counted_once_with_what_it_cost(experiment: dict[str, Any]) -> None:
    judging = experiment["judging"]
    assert judging["requests"] == 2 * 16 + 3 * 32 + 3 * 8
    assert (judging["judged"], judging["unparsed"], judging["failed"]) == (146, 6, 0)
    assert judging["price"] == pytest.approx(1.52)
    assert judging["priced"] == judging["calls"]
    assert judging["tokens_in"] == 304_000
    parts = judging["by_suite"].values()
    assert all(sum(part[name] for part in parts) == judging[name] for name in ("requests", "unparsed", "calls"))


def test_cells_name_their_verdicts(experiment: dict[str, Any]) -> None:
    salsa = row(experiment, "SALSA")
    prints = salsa["suites"][MT_BENCH]["fingerprints"]
    assert tables.win_cell(salsa, MT_BENCH, "PPO").source == prints["against PPO"]
    assert tables.source(salsa, MT_BENCH, "judge") == prints["judge"]
    assert len({prints[name] for name in ("judge", "reward", "respond", "against PPO", "against SFT1")}) == 5
    assert f"against {BASELINE}" in salsa["suites"][ARENA]["fingerprints"]


def test_all_verdicts_are_kept_under_the_names_of_the_rows(folder: Path) -> None:
    kept = verdicts.read(folder / "verdicts.jsonl")
    assert len(kept) == 152
    models = {name for each in kept for name in (each.model_a, each.model_b) if name}
    assert models == {"SALSA", "PPO = twin", "SFT1", BASELINE}
    whole = json.loads((folder / "winrate.json").read_text())
    assert [section["kind"] for section in whole["sections"]] == ["single", "pair", "arena", "arena"]
    assert whole["files"] == ["verdicts.jsonl"]
    assert "# mt_bench, judged by judge-1" in (folder / "winrate.md").read_text()


def test_people_are_told_of_it_wherever_they_look(folder: Path) -> None:
    line = "152 asked, 146 judged, 6 unparsed, 0 failed; 160 calls, 304.0 k tokens in, 15.2 k out, 1.5200."
    for name in ("table.md", "page.html"):
        text = (folder / name).read_text()
        assert line in text
        assert f"Judging: {ARENA} by judge-1" in text
    assert "The judge says the same when swapped" in (folder / "table.md").read_text()
    assert {path.stem for path in folder.glob("*.svg")} == {"scores", "calibration"}


def test_the_exported_file_is_read_by_salsa_winrate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Made(tmp_path)
    work = made.work()
    report.run(work)
    folder = made.store.temporary("report", "e" * 64)
    for path in work.folder.iterdir():
        path.rename(folder / path.name)
    out = export(made.store.publish("report", "e" * 64, folder, {}), made.store)
    assert {"verdicts.jsonl", "winrate.json", "winrate.md", "experiment.json"} <= {path.name for path in out.iterdir()}
    told = schema.read(out / "experiment.json")["judging"]["suites"]
    capsys.readouterr()
    for baseline in ("PPO = twin", BASELINE):
        command = ["winrate", "--format", "verdicts", "--rounds", "100", "--baseline", baseline, "--json"]
        assert main([*command, str(out / "verdicts.jsonl")]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["reading"]["rows"], found["reading"]["used"]) == (152, 152)
        (arena,) = (each for each in found["sections"] if each["kind"] == "arena")
        (head,) = (each for each in told if each["suite"] == ARENA)
        rate = head["rows"]["SALSA"]["against"][baseline.partition(" = ")[0]]["value"]
        assert {each["model"]: each["score"] for each in arena["models"]}["SALSA"] == pytest.approx(100 * rate)


def test_metrics_are_those_of_who_was_judged(tmp_path: Path) -> None:
    _, metrics = report.run(Made(tmp_path, price=None).work())
    assert metrics["judge/SALSA"] == pytest.approx(7.125)
    assert "judge/soup" not in metrics
    assert metrics["win_rate/SALSA against PPO"] == pytest.approx((5 / 7 + 0.5) / 2)
    assert metrics["price"] is None


@pytest.mark.parametrize("kind", ["single", "pair", "outside"])
def test_a_report_of_one_kind_of_question_is_whole(kind: str, tmp_path: Path) -> None:
    made = Made(tmp_path)
    entries = [each for each in made.entries if (each["baseline"] is not None) == (kind == "outside")]
    work = made.work(verdicts=[each for each in entries if kind == "outside" or each["kind"] == kind])
    report.run(work)
    found = schema.read(work.folder / "experiment.json")
    first = tables.grids(found)[0]
    assert len(first.columns) > 1
    assert found["opponents"] == (["PPO", "SFT1"] if kind == "pair" else [])
    assert (work.folder / "scores.png").is_file() == (kind == "single")


def test_a_judge_that_nobody_was_put_before_is_no_error(tmp_path: Path) -> None:
    work = Made(tmp_path).work()
    config = {key: value for key, value in work.config.items() if key != "verdicts"}
    report.run(replace(work, stage=replace(work.stage, config=config)))
    found = schema.read(work.folder / "experiment.json")
    assert (found["judging"]["requests"], found["judging"]["suites"], found["opponents"]) == (0, [], [])


def test_a_baseline_with_the_name_of_a_row_stays_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judged, "BASELINE", "SFT2")
    monkeypatch.setattr(judged, "called", lambda name: name if name == "SFT2" else judged.MODELS[name][:12])
    work = Made(tmp_path).work()
    report.run(work)
    head = schema.read(work.folder / "experiment.json")["judging"]["suites"][-1]
    assert list(head["rules"]) == ["PPO", "twin", "SFT2 (baseline)"]


def test_replies_of_the_baseline_allow_style_control(tmp_path: Path) -> None:
    made = Made(tmp_path)
    for entry in made.entries:
        if entry["baseline"]:
            rows = [
                {"uid": question, "model": BASELINE, "messages": [{"role": "assistant", "content": f"# A\n{question}"}]}
                for question in judged.QUESTIONS[ARENA]
            ]
            text = "".join(json.dumps(each) + "\n" for each in rows)
            (made.inputs[entry["input"]].path / "baseline.jsonl").write_text(text)
    work = made.work()
    report.run(work)
    section = json.loads((work.folder / "winrate.json").read_text())["sections"][-1]
    assert section["style"]["replies"] == 8
    assert section["judge_bias"]["longer_wins"]["value"] is not None


def test_verdicts_of_other_models_are_an_error_that_names_both(tmp_path: Path) -> None:
    made = Made(tmp_path)
    entries = [dict(each) for each in made.entries]
    entries[3]["row"] = judged.KEYS["soup"]
    with pytest.raises(
        ValueError, match=r"verdicts_3: a verdict on question 81 of suite mt_bench .* expected pair with"
    ):
        report.run(made.work(verdicts=entries))


def test_verdicts_of_another_suite_are_an_error_that_names_both(tmp_path: Path) -> None:
    made = Made(tmp_path)
    entries = [dict(each) for each in made.entries]
    entries[0]["suite"] = ARENA
    with pytest.raises(
        ValueError, match=r"verdicts_0: a verdict on question 81 is of suite mt_bench, expected arena_hard; delete that"
    ):
        report.run(made.work(verdicts=entries))


def test_two_suites_of_the_same_questions_have_their_own_verdicts(tmp_path: Path) -> None:
    """Their verdicts have the same keys, because the judge is asked the same."""
    made = Made(tmp_path)
    entries = []
    for entry in (each for each in made.entries if each["suite"] == ARENA):
        text = (made.inputs[entry["input"]].path / "verdicts.jsonl").read_text()
        role = f"{entry['input']}_again"
        made.inputs[role] = made._verdicts(
            [replace(Verdict.from_json(json.loads(line)), suite=MT_BENCH) for line in text.splitlines()], 0.0, {}
        )
        entries += [entry, entry | {"suite": MT_BENCH, "input": role}]
    for key in judged.KEYS.values():
        made.inputs[f"{key}:judge:{MT_BENCH}"] = made.inputs[f"{key}:judge:{ARENA}"]
    work = made.work(verdicts=entries)
    report.run(work)
    found = schema.read(work.folder / "experiment.json")
    cells = row(found, "SALSA")["suites"]
    wins = [[cells[suite]["win_rate"]["PPO"][key] for key in ("wins", "ties", "losses")] for suite in (ARENA, MT_BENCH)]
    assert wins == [[1, 2, 1]] * 2
    first, second = found["judging"]["suites"]
    assert (
        first["rows"]["SALSA"]["against"].keys()
        == second["rows"]["SALSA"]["against"].keys()
        == {
            "PPO",
            "twin",
            BASELINE,
        }
    )


def test_what_could_not_be_read_is_warned_of_with_the_judges_words(tmp_path: Path) -> None:
    made = Made(tmp_path)
    for entry in made.entries[:2]:
        path = made.inputs[entry["input"]].path / "verdicts.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        said = "I would\nrather not " + "say so. " * 50
        for each in rows[: 4 if entry is made.entries[0] else 2]:
            each |= {"score": None, "status": "unparsed", "completion": said, "finish": "length"}
        path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    work = made.work()
    report.run(work)
    (warning,) = schema.read(work.folder / "experiment.json")["warnings"]
    # Of PPO's scores 4 of 16; of SALSA's 2 and the one that there always is, which is not too many.
    assert warning.startswith("mt_bench: no verdict could be read in 4 of 16 completions of 1 comparison, and they ")
    assert "one says 'I would rather not say so. " in warning
    assert warning.endswith(" and was cut off: raise judge.max_tokens")
    assert len(warning) < 400
    assert warning in (work.folder / "page.html").read_text().replace("&#x27;", "'")


def test_questions_that_a_baseline_leaves_unanswered_are_told_below_its_table_and_warned_of(tmp_path: Path) -> None:
    work = Made(tmp_path, unanswered=2).work()
    report.run(work)
    found = schema.read(work.folder / "experiment.json")
    assert [head["unanswered"] for head in found["judging"]["suites"]] == [{}, {BASELINE: 2}]
    said = f"2 questions are not compared with {BASELINE}, which has no whole answer to them"
    assert found["warnings"] == [f"{ARENA}: {said}"]
    assert f"{said}." in (work.folder / "table.md").read_text()


def test_a_price_of_some_calls_is_no_price_of_all(tmp_path: Path) -> None:
    made = Made(tmp_path)
    entries = made.entries[:2]
    made.inputs[entries[1]["input"]].metrics.update(price=None, priced=0)
    work = made.work(verdicts=entries)
    report.run(work)
    judging = schema.read(work.folder / "experiment.json")["judging"]
    assert (judging["price"], judging["priced"], judging["calls"]) == (pytest.approx(0.16), 17, 34)
    assert "0.1600 for 17 of the calls, as the others had no price list" in (work.folder / "table.md").read_text()


def test_the_stage_counts_models_and_suites(tmp_path: Path) -> None:
    assert report.run(Made(tmp_path).work())[0] == "6 models on 2 suites"


def test_what_training_has_seen_and_what_was_cut_is_told(tmp_path: Path) -> None:
    made = Made(tmp_path)
    for name, cut in (("SALSA", 3), ("PPO", 0), ("SFT1", 2)):
        made.inputs[f"{judged.KEYS[name]}:judge:{MT_BENCH}"].manifest["metrics"] |= {"cut": cut, "contaminated": 2}
    work = made.work()
    report.run(work)
    experiment = schema.read(work.folder / "experiment.json")
    assert experiment["left_out"] == {MT_BENCH: {"prompts": 8, "too_long": 0, "contaminated": 2, "cut": 5}}
    seen, cut = experiment["warnings"][-2:]
    assert seen.startswith("mt_bench: 2 of 8 questions are in the training data")
    assert cut == "mt_bench: replies cut where the context ends (base.context): 2 of SFT1, 3 of SALSA"
    table = (work.folder / "table.md").read_text()
    assert "Warning: mt" in table
    assert "2 of 8 questions are in the training data" in table
    assert "Left out as longer" not in table
