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
    assert BASELINE not in experiment["opponents"]
    assert experiment["judging"]["compared"] == [MT_BENCH]


def test_every_request_is_counted_once_with_what_it_cost(experiment: dict[str, Any]) -> None:
    judging = experiment["judging"]
    assert judging["requests"] == 2 * 16 + 3 * 32 + 2 * 8
    assert (judging["judged"], judging["unparsed"], judging["failed"]) == (138, 6, 0)
    assert judging["price"] == pytest.approx(1.44)
    assert judging["tokens_in"] == 288_000
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
    assert len(kept) == 144
    models = {name for each in kept for name in (each.model_a, each.model_b) if name}
    assert models == {"SALSA", "PPO = twin", "SFT1", BASELINE}
    whole = json.loads((folder / "winrate.json").read_text())
    assert [section["kind"] for section in whole["sections"]] == ["single", "pair", "arena"]
    assert whole["files"] == ["verdicts.jsonl"]
    assert "# mt_bench, judged by judge-1" in (folder / "winrate.md").read_text()


def test_people_are_told_of_it_wherever_they_look(folder: Path) -> None:
    line = "144 asked, 138 judged, 6 unparsed, 0 failed; 151 calls, 288.0 k tokens in, 14.4 k out, 1.4400."
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
    assert main(["winrate", "--format", "verdicts", "--rounds", "100", str(out / "verdicts.jsonl")]) == 0
    said = capsys.readouterr().out
    assert "144 rows: 144 used, 0 duplicates, 0 malformed" in said
    assert "72.7" in said


def test_metrics_are_those_of_who_was_judged(tmp_path: Path) -> None:
    _, metrics = report.run(Made(tmp_path, price=None).work())
    assert metrics["judge/SALSA"] == pytest.approx(7.125)
    assert "judge/soup" not in metrics
    assert metrics["win_rate/SALSA against PPO"] == pytest.approx(5 / 7)
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
    assert list(head["rules"]) == ["SFT2 (baseline)"]


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
