import csv
import io
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from salsa.report import tables
from tests.report import factory


def printed(experiment: dict[str, Any], width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    tables.show(experiment, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_terminal_shows_the_main_table_first_and_everything_fits_120_columns() -> None:
    text = printed(factory.experiment())
    lines = text.splitlines()
    assert "Gold reward of each model" in lines[2]
    assert all(len(line) <= 120 for line in lines)
    for name in ("SFT1", "soup", "SALSA", "PPO", "reference SFT2"):
        assert text.count(f"\n{name} ") == (6 if name in factory.TRAINED else 4)
    for part in ("vs PPO", "KL in nats a reply: k1 (k3)", "perplexity", "pairwise accuracy 74.8 %", "One replicate"):
        assert part in text
    assert "missing" not in text


def test_names_are_not_cut_where_the_terminal_is_narrow() -> None:
    experiment = factory.experiment()
    experiment["rows"][3]["name"] = "start and reference: the soup of both"
    text = printed(experiment, width=80)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "start and" in text
    assert "…" not in text
    # Every column is there, in a further block where there is no room beside the others.
    for heading in ("two_turn", "unseen", "mean", "vs SFT1", "to soup", "recall, %"):
        assert heading in text


def test_missing_cells_say_so() -> None:
    experiment = factory.experiment()
    salsa, ppo = experiment["rows"][3:5]
    del salsa["suites"]["hard"]
    salsa["pooled"] = None
    ppo["kl"], ppo["tax"], experiment["reward_model"] = {}, None, None
    main = tables.main(experiment)
    cells = dict(zip((column.heading for column in main.columns), main.rows[3], strict=True))
    assert [heading for heading, cell in cells.items() if cell.text == "missing"] == [
        "hard",
        "mean",
        "vs PPO",
        "vs SFT1",
    ]
    divergence = tables.divergence(experiment).rows[4]
    assert [cell.text for cell in divergence[4:]] == ["missing"] * 5
    assert "Reward model (optimised): missing" in printed(experiment)
    assert "| missing |" in tables.markdown(experiment)


def test_the_best_of_a_column_is_bold_in_the_terminal_and_in_markdown() -> None:
    experiment = factory.experiment()
    for index, row in enumerate(experiment["rows"]):
        row["suites"]["single"]["judge"] = {"value": index % 7, "low": None, "high": None, "n": 3}
        row["tax"]["perplexity"] = 9.0 - index
    main, divergence = tables.main(experiment), tables.divergence(experiment)
    assert [row[1].best for row in main.rows] == [False] * 6 + [True]
    assert [row[-1].best for row in divergence.rows] == [False] * 6 + [True]
    # A model that moved less is not a better one.
    assert not any(cell.best for row in divergence.rows for cell in row[4:7])
    assert "**6.00**" in tables.markdown(experiment)
    console = Console(width=120, file=io.StringIO(), force_terminal=True, color_system="standard")
    tables.show(experiment, console)
    assert isinstance(console.file, io.StringIO)
    assert "\x1b[1m6.00\x1b[0m" in console.file.getvalue()


@pytest.mark.parametrize(
    ("low", "high", "tone"), [(0.51, 0.6, "better"), (0.4, 0.49, "worse"), (0.45, 0.55, ""), (None, None, "")]
)
def test_a_win_rate_has_the_tone_of_its_interval(low: float | None, high: float | None, tone: str) -> None:
    row = factory.experiment()["rows"][3]
    row["pooled"]["win_rate"]["PPO"] |= {"low": low, "high": high}
    assert tables.win_cell(row, "mean", "PPO").tone == tone


def test_a_model_is_not_compared_with_itself() -> None:
    row = factory.experiment()["rows"][4]
    assert tables.win_cell(row, "mean", "PPO").text == "–"


def test_recall_is_left_out_where_there_are_no_facts() -> None:
    experiment = factory.experiment()
    for row in experiment["rows"]:
        row["tax"]["recall"] = None
    assert [column.heading for column in tables.divergence(experiment).columns][-1] == "perplexity"
    assert "recall" not in [column.heading.split(",")[0] for column in tables.divergence(experiment).columns]
    assert "ecall" not in tables.divergence(experiment).caption
    assert "recall" not in {record["metric"] for record in tables.tidy(experiment)}
    experiment["rows"][0]["tax"]["recall"] = 0.9
    assert [row[-2].text for row in tables.divergence(experiment).rows] == ["90.0"] + ["missing"] * 6


def test_without_gold_the_reward_model_line_says_so() -> None:
    experiment = factory.experiment()
    experiment["reward_model"]["correlation"] = None
    assert "no gold score to correlate with" in printed(experiment)


def test_a_second_reward_model_that_judges_is_told_apart_from_the_optimised_one() -> None:
    experiment = factory.experiment()
    assert "Judge (second" not in printed(experiment)
    experiment["judge_model"] = experiment["reward_model"] | {"pairs": 77}
    for text in (printed(experiment), tables.markdown(experiment)):
        assert "Judge (second reward model, trained on other pairs): pairwise accuracy 74.8 %" in text
        assert "77 held-out pairs" in text
    assert {record["row"] for record in tables.tidy(experiment)} >= {"reward model", "judge model"}


def test_prompts_that_no_model_could_be_asked_are_told() -> None:
    experiment = factory.experiment()
    assert "longer than the context" not in tables.main(experiment).caption
    experiment["left_out"] = {"hard": {"prompts": 80, "too_long": 6}}
    assert "Left out as longer than the context: 6 of 80 prompts of hard." in tables.main(experiment).caption


def test_many_suites_and_opponents_get_a_table_each() -> None:
    experiment = factory.experiment()
    experiment["opponents"] = ["PPO", "SFT1", "soup"]
    assert [grid.columns[1].group for grid in tables.win_rates(experiment)] == ["vs PPO", "vs SFT1", "vs soup"]


def test_one_suite_needs_no_mean_and_no_second_table_of_win_rates() -> None:
    experiment = factory.experiment()
    experiment["suites"] = ["hard"]
    assert [column.heading for column in tables.main(experiment).columns] == ["model", "hard", "vs PPO", "vs SFT1"]
    assert (
        tables.main(experiment).rows[3][2].value
        == 100 * (experiment["rows"][3]["suites"]["hard"]["win_rate"]["PPO"]["value"])
    )
    assert tables.win_rates(experiment) == []


def test_markdown_tables_are_whole_and_text_from_outside_cannot_break_them() -> None:
    experiment = factory.experiment()
    experiment["title"] = "a | b <script>"
    experiment["rows"][3]["name"] = "SAL|SA\n*x*"
    text = tables.markdown(experiment)
    assert "<script>" not in text
    assert "SAL\\|SA<br>\\*x\\*" in text
    blocks = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 7
    for block in blocks:
        counts = {line.replace("\\|", "").count("|") for line in block.splitlines()}
        assert len(counts) == 1
    assert "policy.kl_coef" in text
    assert "judge-PPO-hard" in text


def test_csv_has_one_line_a_figure_with_its_fingerprint() -> None:
    experiment = factory.experiment()
    records = list(csv.DictReader(io.StringIO(tables.to_csv(experiment))))
    assert tuple(records[0]) == tables.CSV_HEADER
    keys = [(record["row"], record["suite"], record["metric"]) for record in records]
    assert len(keys) == len(set(keys))
    found = dict(zip(keys, records, strict=True))
    judge = experiment["rows"][3]["suites"]["hard"]["judge"]
    record = found["SALSA", "hard", "judge"]
    assert [float(record[name]) for name in ("value", "low", "high", "n")] == [
        judge[name] for name in ("value", "low", "high", "n")
    ]
    assert record["fingerprint"] == "judge-SALSA-hard"
    assert found["SALSA", "hard", "length"]["fingerprint"] == "respond-SALSA-hard"
    assert float(found["SALSA", "", "kl_k3_to_SFT2"]["value"]) == pytest.approx(6.18)
    rate = experiment["rows"][3]["pooled"]["win_rate"]["PPO"]
    assert float(found["SALSA", "mean", "win_rate_vs_PPO"]["value"]) == rate["value"]
    assert int(found["SALSA", "mean", "ties_vs_PPO"]["value"]) == rate["ties"]
    assert ("PPO", "hard", "win_rate_vs_PPO") not in found
    assert float(found["reward model", "", "ece"]["value"]) == 0.031


def test_csv_keeps_a_line_for_what_is_missing() -> None:
    experiment = factory.experiment()
    complete = tables.to_csv(experiment).count("\n")
    for row in experiment["rows"]:
        row["suites"], row["pooled"], row["kl"], row["tax"] = {}, None, {}, None
    experiment["reward_model"] = None
    records = list(csv.DictReader(io.StringIO(tables.to_csv(experiment))))
    assert len(records) == complete - 1
    assert {record["value"] for record in records} == {""}


def test_printing_a_finished_experiment_needs_no_numerical_library() -> None:
    program = (
        "import sys, salsa.report.tables, salsa.report.combined, salsa.report.schema\n"
        "print([name for name in ('numpy', 'torch', 'matplotlib', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_file_gets_the_full_width(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show(factory.experiment())
    assert "vs SFT1" in capsys.readouterr().out.splitlines()[4]
