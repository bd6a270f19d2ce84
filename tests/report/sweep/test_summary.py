import io
import re
from collections.abc import Sequence

import pytest
from rich.console import Console

from salsa.report.sweep.cells import Cell
from salsa.report.sweep.summary import SCREEN, heats, markdown, terminal
from tests.report.sweep.factory import cell, experiment, sweep


def printed(cells: Sequence[Cell], width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(terminal(cells))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_the_terminal_shows_keys_results_and_what_is_missing() -> None:
    cells = sweep({"soup.alpha": [0, 0.5, 1]}, lambda keys: 1 + keys["soup.alpha"], missing=[1])
    text = printed(cells)
    assert text.startswith("2 of 3 experiments, 1 missing\n")
    assert re.split(r" {2,}", line_of(text, "soup.alpha")) == [
        "soup.alpha",
        "policy",
        "vs opponent",
        "vs SFT1",
        "KL to SFT1",
        "state",
    ]
    assert re.match(r"1 +2\.00 ±\.10 +60\.0 ±3\.0 +\S+ ±\S+ +6\.20 ±\S+ +done$", line_of(text, "1 "))
    assert line_of(text, "0.5").split() == ["0.5", "–", "–", "–", "–", "missing"]
    assert "missing soup.alpha=0.5: job 1 was killed" in text
    assert text.count("One replicate is an illustration") == 1


@pytest.mark.parametrize("keys", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("width", [80, 120])
def test_twenty_experiments_fit_a_screen_of_any_width(keys: int, width: int) -> None:
    values = {f"group.key_{number}": [0.25] for number in range(keys - 1)}
    text = printed(sweep({**values, "soup.alpha": list(range(SCREEN))}, missing=[3]), width)
    assert all(len(line) <= width for line in text.splitlines())
    assert all(re.search(rf"(?m)\b{number}\b", text) for number in range(SCREEN))


def test_of_more_experiments_the_best_are_shown() -> None:
    cells = sweep({"soup.alpha": list(range(30))}, lambda keys: float(keys["soup.alpha"] % 7), missing=[6])
    text = printed(cells)
    assert text.startswith("29 of 30 experiments, 1 missing; the 12 best by the judge\n")
    rows = [line.split()[:2] for line in text.splitlines() if re.match(r"\d+ ", line)][1:]
    assert rows[:4] == [["13", "6.00"], ["20", "6.00"], ["27", "6.00"], ["5", "5.00"]]
    assert len(rows) == 12
    assert "… 18 more in table.md" in text
    assert "missing soup.alpha=6: job 6 was killed" in text


def test_of_more_experiments_with_repeats_the_means_are_shown() -> None:
    values = {"replicate": list(range(8)), "soup.alpha": [0, 0.5, 1]}
    text = printed(sweep(values, lambda keys: keys["soup.alpha"] + keys["replicate"] / 10, missing=[3]))
    assert text.startswith("23 of 24 experiments, 1 missing\nOver repeats (replicate)\n")
    assert re.match(r"0\.5 +8 of 8 +0\.85 ±\.20 ", line_of(text, "0.5"))
    assert "7 of 8" in line_of(text, "0 ")
    assert "… 24 experiments in table.md" in text
    few = printed(sweep({"replicate": [0, 1, 2], "soup.alpha": [0, 1]}))
    assert few.startswith("6 of 6 experiments\n")
    assert "Over repeats (replicate)\n" in few


def test_a_sweep_without_results_is_all_reasons() -> None:
    for count in (3, 30):
        text = printed(sweep({"soup.alpha": list(range(count))}, missing=range(count)))
        assert text.startswith(f"0 of {count} experiments, {count} missing\n")
        assert "missing soup.alpha=4: job 4 was killed" in text or count == 3


def test_warnings_and_reasons_do_not_flood_the_screen() -> None:
    cells = []
    for job in range(18):
        made = experiment({"a": job}, 1.0)
        made["warnings"] = ["a number was nan and is shown as missing"]
        cells.append(Cell(job, {"a": job}, str(job), made, "done"))
    cells += [cell(job, {"a": job}, None, "failed", "line one\nline two " + "x" * 5000) for job in range(18, 36)]
    lines = printed(cells).splitlines()
    assert len(lines) < 80
    assert "… 13 more without a result in table.md" in lines
    assert "… 13 more warnings in table.md" in lines


def test_markdown_has_a_dash_and_a_reason_for_what_is_missing() -> None:
    cells = sweep({"soup.alpha": [0, 0.5], "model": ["llama2", "gemma"]}, lambda keys: keys["soup.alpha"], missing=[3])
    text = markdown(cells, "title with | and *", ["over_soup.alpha.svg"])
    assert text.startswith("# title with \\| and \\*\n\n3 of 4 experiments, 1 missing.\n")
    rows = [[entry.strip() for entry in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| 0")]
    assert [row[:2] for row in rows[:4]] == [["0", "llama2"], ["0", "gemma"], ["0.5", "llama2"], ["0.5", "gemma"]]
    assert rows[2][2] == "**0.50** [0.40, 0.60]"
    assert rows[3][2:-1] == ["–"] * (len(rows[0]) - 3)
    assert rows[3][-1] == "missing"
    assert "- soup.alpha=0.5 model=gemma: missing. job 3 was killed" in text
    assert "![over_soup.alpha.svg](over_soup.alpha.svg)" in text
    assert all(each.fingerprint in text for each in cells)


def test_markdown_says_which_settings_led_to_the_same_experiment() -> None:
    made = experiment({}, 1.0)
    cells = [
        Cell(job, {"soup.alpha": alpha, "steps": 8}, "f" * 64, made, "done") for job, alpha in enumerate((0, 0.5, 0.5))
    ]
    text = markdown(cells, "title")
    assert "The same experiment as soup.alpha=0 steps=8: soup.alpha=0.5 steps=8." in text
    assert "| 0 1 2 | soup.alpha=0 steps=8 |" in text


def test_two_numeric_keys_have_tables_of_key_by_key() -> None:
    score = {"soup.alpha": [1, 0, 0.5], "policy.kl_coef": [0.4, 0.1]}
    judged, won = heats(sweep(score, lambda keys: keys["soup.alpha"] + keys["policy.kl_coef"], missing=[2]))
    assert [column.heading for column in judged.columns] == ["soup.alpha", "0.1", "0.4"]
    assert [[entry.text for entry in row] for row in judged.rows] == [
        ["0", "0.10", "–"],
        ["0.5", "0.60", "0.90"],
        ["1", "1.10", "1.40"],
    ]
    assert won.rows[2][2].text == "57.0"


@pytest.mark.parametrize(
    "values",
    [
        {"soup.alpha": [0, 1]},
        {"soup.alpha": [0, 1], "model": ["llama2", "gemma"]},
        {"soup.alpha": [0, 1], "policy.kl_coef": [0.1, 0.2], "model": ["llama2"]},
        {"soup.alpha": list(range(13)), "policy.kl_coef": [0.1, 0.2]},
    ],
)
def test_other_sweeps_have_none(values: dict[str, list[float]]) -> None:
    assert heats(sweep(values)) == []


def test_nothing_is_the_best_where_judges_differ() -> None:
    first, second = experiment({"judge": 1}, 1.0), experiment({"judge": 2}, 2.0)
    second["judge"]["name"] = "second reward model's score"
    made = [Cell(0, {"judge": "gold"}, "1" * 64, first, "done"), Cell(1, {"judge": "rm"}, "2" * 64, second, "done")]
    assert "**" not in markdown(made, "title")
    second["judge"]["name"] = first["judge"]["name"]
    assert "**" in markdown(made, "title")
