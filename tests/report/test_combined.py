import csv
import io
from typing import Any

import pytest
from rich.console import Console

from salsa.report import combined, tables
from tests.report import factory

FAMILIES = ("llama2", "mistral", "gemma")


def families() -> list[dict[str, Any]]:
    return [factory.experiment(model, seed) for seed, model in enumerate(FAMILIES)]


def test_the_rows_are_every_model_of_every_experiment() -> None:
    grid = combined.combine(families())
    assert [row[0].text for row in grid.rows if row[0].text] == list(FAMILIES)
    assert [row[1].text for row in grid.rows] == [model[0] for model in factory.MODELS] * 3
    assert grid.sections == {6, 13}
    headings = ["experiment", "model", *factory.SUITES, "mean", "vs PPO", "vs SFT1", "KL to SFT1"]
    assert [column.heading for column in grid.columns] == headings


def test_the_figures_are_those_of_the_single_tables() -> None:
    experiments = families()
    grid = combined.combine(experiments)
    for index, experiment in enumerate(experiments):
        single = tables.main(experiment).rows
        assert [row[2:9] for row in grid.rows[7 * index : 7 * index + 7]] == [row[1:] for row in single]


def test_the_terminal_shows_them_in_120_columns_with_the_common_note_once() -> None:
    console = Console(width=120, file=io.StringIO(), force_terminal=False)
    console.print(combined.terminal(families()))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert all(len(line) <= 120 for line in text.splitlines())
    assert text.count("One replicate is an illustration") == 1
    assert text.count("\nllama2 ") == 1
    assert text.count("start + ref. soup") == 3


def test_what_one_experiment_has_and_another_has_not_is_missing() -> None:
    first, second = families()[:2]
    second["suites"] = ["single"]
    second["opponents"] = ["SFT1"]
    for row in second["rows"]:
        row["suites"] = {"single": row["suites"]["single"]}
    grid = combined.combine([first, second])
    cells = dict(zip((column.heading for column in grid.columns), grid.rows[10], strict=True))
    assert [heading for heading, cell in cells.items() if cell.text == "missing"] == [
        "two_turn",
        "hard",
        "unseen",
        "vs PPO",
    ]


def test_labels_say_what_was_varied() -> None:
    assert combined.labels(families()) == list(FAMILIES)
    sweep = [factory.experiment() for _ in range(2)]
    sweep[1]["settings"]["soup"]["alpha"] = 1.0
    assert combined.labels(sweep) == ["soup.alpha=0.5", "soup.alpha=1.0"]
    for experiment, kl_coef in zip(sweep, ("0.05", "0.1"), strict=True):
        experiment["overrides"] = ["scale=tiny", f"policy.kl_coef={kl_coef}"]
    assert combined.labels(sweep) == ["policy.kl_coef=0.05", "policy.kl_coef=0.1"]
    same = [factory.experiment() for _ in range(2)]
    assert combined.labels(same) == [f"{same[0]['title']} ({number})" for number in (1, 2)]
    same[1]["fingerprint"] = "cd34" * 16
    assert combined.labels(same)[1].endswith("cd34cd34")
    same[1]["title"] = "Another"
    assert combined.labels(same)[1] == "Another"


def test_markdown_and_csv_hold_all_experiments() -> None:
    experiments = families()
    text = combined.markdown(experiments)
    assert text.count("| SALSA |") == 3
    assert experiments[0]["fingerprint"] in text
    records = list(csv.DictReader(io.StringIO(combined.to_csv(experiments))))
    assert {record["experiment"] for record in records} == set(FAMILIES)
    assert len(records) == sum(len(list(tables.tidy(experiment))) for experiment in experiments)


def test_no_experiments_make_no_table() -> None:
    with pytest.raises(ValueError, match="no experiments"):
        combined.combine([])
