"""What people see of an experiment whose judge reads replies."""

import csv
import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from salsa.report import combined, figures, judging, page, samples, tables
from salsa.report.sweep import figures as sweep_figures
from salsa.report.sweep import summary, table
from salsa.report.sweep.cells import Cell
from tests.report import factory, judged
from tests.report.test_tables import printed

LINE = "960 asked, 957 judged, 3 unparsed, 0 failed; 961 calls, 1.9 M tokens in, 192.0 k out, 12.34."


def texts(grid: Any) -> list[list[str]]:
    return [[cell.text for cell in row] for row in grid.rows]


def test_counts_and_price_are_one_line_for_people() -> None:
    assert judging.lines(judged.experiment()) == [(f"Judging by {judged.JUDGE}", LINE)]
    assert judging.counts(judged.SPENT | {"price": None}).endswith(", no price list")
    assert judging.lines(factory.experiment()) == []


@pytest.mark.parametrize(("count", "shown"), [(999, "999"), (9_999, "9,999"), (10_000, "10.0 k"), (2_345_678, "2.3 M")])
def test_tokens_are_told_shortly_where_there_are_many(count: int, shown: str) -> None:
    assert judging.amount(count) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0.00"), (0.01234, "0.0123"), (12.25, "12.25"), (1234.5, "1,234.50")]
)
def test_a_price_has_digits_enough(value: float, shown: str) -> None:
    assert judging.price(value) == shown


def test_the_main_table_shows_what_the_judge_was_asked() -> None:
    made = judged.experiment()
    main = tables.main(made)
    assert [column.heading for column in main.columns] == ["model", "single", "two_turn", "mean", "vs PPO", "vs SFT1"]
    # Nobody asked for its games with SFT1, or for the soup.
    assert texts(main)[3] == ["SALSA", "7.00", "7.00", "7.00", "84.2", "–"]
    assert texts(main)[2] == ["soup", *["–"] * 5]
    assert judging.NOT_ASKED in main.caption
    assert main.title == f"Scores and win rates of each model, judged by {judged.JUDGE}"
    assert judging.ITS_OWN in main.caption


def test_what_was_asked_without_a_readable_answer_is_missing() -> None:
    made = judged.experiment([replace(each, values={}) for each in judged.judgments()], suites=[unread("single")])
    main = tables.main(made)
    assert texts(main)[3] == ["SALSA", *["missing"] * 4, "–"]
    assert texts(main)[2] == ["soup", *["–"] * 5]
    (first,) = judging.grids(made)
    assert texts(first)[3] == ["SALSA", "missing", "missing"]
    assert texts(first)[2] == ["soup", "–", "–"]


def unread(suite: str) -> dict[str, Any]:
    """The head of a suite of which nothing could be read."""
    salsa = {"score": None, "turns": {}, "against": {"PPO": None}}
    return judged.head(suite) | {"rules": {"PPO": "half votes"}, "rows": {"SALSA": salsa}, "bias": None}


def test_columns_of_what_nobody_was_asked_are_left_out() -> None:
    made = judged.experiment(judged.judgments(scored=(), compared=("hard",)), opponents=["PPO"])
    main = tables.main(made)
    assert [column.heading for column in main.columns] == ["model", "vs PPO"]
    assert main.columns[1].group == "win rate, hard, %"
    assert main.title == f"Win rates of each model, judged by {judged.JUDGE}"
    assert tables.win_rates(made) == []
    only_scores = tables.main(judged.experiment(judged.judgments(compared=()), opponents=[]))
    assert only_scores.title == f"Scores of each model, judged by {judged.JUDGE}"
    assert len(only_scores.columns) == 4


def test_with_verdicts_against_outside_models_alone_the_first_table_is_theirs() -> None:
    grids = tables.grids(judged.experiment([], opponents=[]))
    assert [grid.title for grid in grids][:2] == [f"Judging: {suite} by {judged.JUDGE}" for suite in judged.SCORED]


def test_a_suite_has_a_table_with_the_judges_leanings_and_counts_below() -> None:
    first, *_ = judging.grids(judged.experiment())
    assert [column.heading for column in first.columns] == [
        "model",
        "all",
        "turn 1",
        "turn 2",
        "vs PPO",
        "vs gpt-4-0314",
    ]
    assert texts(first)[3] == ["SALSA", "7.00", "7.00", "7.00", "80.0", "–"]
    # It was scored, and the head has no figure of it.
    assert texts(first)[4] == ["PPO", "missing", "missing", "missing", "–", "–"]
    assert first.rows[3][4].tone == "better"
    numbers, leanings, line = first.notes
    assert numbers == "Turns of questions with a verdict: scores 38, vs PPO 19."
    assert "says the same when swapped in 82.5 % [70.0, 95.0] of 40 matches" in leanings
    assert "prefers the reply shown first in 55.0 % [50.0, 60.0] of 70 games" in leanings
    assert "longer" not in leanings
    assert line == LINE
    assert "half a vote" in first.caption
    assert "bold: best of the column; –: the row itself, or not asked" in first.caption


def test_a_table_of_comparisons_alone_has_no_columns_of_scores() -> None:
    first, *_ = judging.grids(judged.experiment(judged.judgments(scored=())))
    assert [column.heading for column in first.columns] == ["model", "vs PPO", "vs gpt-4-0314"]


def test_cells_name_the_verdicts_behind_them() -> None:
    made = judged.experiment()
    salsa = judged.row(made, "SALSA")
    assert tables.source(salsa, "single", "judge") == "SALSA-single-scores"
    assert tables.source(salsa, "single", "reward") == "judge-SALSA-single"
    assert tables.win_cell(salsa, "single", "PPO").source == "SALSA-single-PPO"
    assert judging.grids(made)[0].rows[3][1].source == "SALSA-single-scores"
    records = {(each["suite"], each["metric"]): each for each in tables.tidy(made) if each["row"] == "SALSA"}
    assert records["hard", "win_rate_vs_PPO"]["fingerprint"] == "SALSA-hard-PPO"
    assert records["hard", "win_rate_vs_PPO"]["n"] == 19
    shown = [[cell.text for cell in row] for row in tables.fingerprints_grid(made).rows]
    assert ["SALSA", "hard: against PPO", "SALSA-hard-PPO"] in shown


def test_the_terminal_markdown_and_the_page_show_judging_within_their_width() -> None:
    made = judged.experiment()
    text = printed(made)
    assert all(len(line) <= 120 for line in text.splitlines())
    html, markdown = page.html(made), tables.markdown(made)
    for shown in (text, html, markdown):
        assert "Judging: single by" in shown
        assert "957 judged, 3 unparsed" in shown
        # Whoever judges, the reward model is compared with the gold reward that there is.
        assert "correlation with gold reward 0.440" in shown
    assert "## Judging\n" in markdown
    assert "within" not in tables.main(made).caption.partition("Win rate")[2]


def test_samples_say_where_there_are_no_scores() -> None:
    text = samples.markdown(judged.experiment())
    assert f"Score: {judged.JUDGE} (points of 10)." in text
    hard, single = (text.partition(f". {suite}\n")[2].partition("\n## ")[0] for suite in ("hard", "single"))
    assert "| SALSA | – |" in hard
    assert "| SALSA | 7.00 |" in single
    assert "| SFT1 | – |" in single
    none = samples.markdown(judged.experiment(judged.judgments(scored=())))
    assert f"There are no scores: {judged.JUDGE} compares replies." in none
    assert "missing" not in none


def test_the_figure_of_scores_has_the_suites_that_have_some_or_is_left_out() -> None:
    drawn = figures.scores(judged.experiment())
    assert drawn is not None
    assert [axis.get_title(loc="left") for axis in drawn.axes] == list(judged.SCORED)
    unread = judged.experiment(judged.judgments(scored=()))
    assert set(figures.figures(unread)) == {"curves", "calibration"}
    assert page.html(unread)


def twins() -> dict[str, Any]:
    """An experiment in which "reference SFT2" is the same model as PPO."""
    made = judged.experiment()
    twin, ppo = judged.row(made, "reference SFT2"), judged.row(made, "PPO")
    rows = [each if each is not twin else ppo | {"name": "reference SFT2", "role": "control"} for each in made["rows"]]
    return made | {"rows": rows}


def test_rows_of_one_model_tie_in_every_table_with_a_note_that_nobody_was_asked() -> None:
    made = twins()
    note = "One model: PPO = reference SFT2; it ties with itself on every question, of which nobody was asked."
    first, *_ = judging.grids(made)
    place = [row["name"] for row in made["rows"]].index("reference SFT2")
    assert [cell.text for cell in first.rows[place]][4] == "50.0"
    for grid in (tables.main(made), first):
        assert note in grid.notes
    assert not tables.main(judged.experiment()).notes


def test_questions_that_a_model_from_outside_leaves_unanswered_are_told() -> None:
    head = judged.head("single") | {"unanswered": {"gpt-4-0314": 3, "o3": 1, "all": 0}}
    (grid,) = judging.grids(judged.experiment(suites=[head]))
    assert "3 questions are not compared with gpt-4-0314, which has no whole answer to them." in grid.notes
    assert "1 question is not compared with o3, which has no whole answer to it." in grid.notes
    assert not any("all" in note.split() for note in grid.notes[:2])


def test_a_price_of_a_part_of_the_calls_says_so() -> None:
    assert judging.counts(judged.SPENT | {"priced": 961}).endswith(", 12.34")
    assert judging.counts(judged.SPENT | {"priced": 400}).endswith(
        ", 12.34 for 400 of the calls, as the others had no price list"
    )


def test_a_line_break_in_a_name_tears_no_table() -> None:
    made = judged.experiment()
    judged.row(made, "PPO")["name"] = "P\nP\tO"
    head = made["judging"]["suites"][0]
    head["rules"]["gpt\r\n4"] = head["rules"].pop("gpt-4-0314")
    text = printed(made)
    assert "P P O" in text
    assert "vs gpt 4" in text
    assert len(text.splitlines()) == len(printed(judged.experiment()).splitlines())


def test_ties_are_told_as_each_judge_makes_them() -> None:
    gold, read = factory.experiment(), judged.experiment()
    assert judging.ties([gold]) == "scores within 0.75 are a tie"
    assert judging.ties([read, read]) == judging.ITS_OWN
    assert judging.ties([gold, read]) == f"scores within 0.75 are a tie; or {judging.ITS_OWN}"


def test_several_experiments_stand_in_one_table() -> None:
    read, gold = judged.experiment(), factory.experiment("qwen")
    grid = combined.combine([read, gold])
    assert "scores within 0.75 are a tie; or the judge says itself" in grid.caption
    assert combined.markdown([read, gold])
    assert len(list(csv.reader(io.StringIO(combined.to_csv([read]))))) > 100
    assert "Win rate over all suites of an experiment: win" in grid.caption
    part = judged.experiment(judged.judgments(compared=("hard", "single")))
    told = combined.combine([part, gold]).caption
    assert "Win rate over single, hard; or all suites of an experiment: win" in told
    alone = combined.combine([judged.experiment(judged.judgments(scored=()))])
    assert [column.heading for column in alone.columns][2:4] == ["vs PPO", "vs SFT1"]


@pytest.mark.parametrize("scored", [judged.SCORED, ()])
def test_a_sweep_shows_what_there_is(scored: tuple[str, ...]) -> None:
    cells = []
    for number, value in enumerate((0.1, 0.2)):
        made = judged.experiment(judged.judgments(scored=scored)) | {"fingerprint": f"{number}" * 64}
        cells.append(Cell(number, {"policy.kl_coef": value}, made["fingerprint"], made, "done"))
    console = Console(width=120, file=io.StringIO(), force_terminal=False)
    console.print(summary.terminal(cells))
    assert isinstance(console.file, io.StringIO)
    assert "84.2" in console.file.getvalue()
    assert judging.ITS_OWN in " ".join(summary.markdown(cells, "sweep").split())
    records = [record for record in table.rows(cells) if record["suite"] == "hard"]
    assert [record["judge_fingerprint"] for record in records] == ["SALSA-hard-PPO"] * 2
    assert [record["win_rate_vs_opponent"] for record in records] == pytest.approx([16 / 19] * 2)
    drawn = sweep_figures.over(cells, "policy.kl_coef")
    assert drawn is not None
    # Where nobody was given a score, nothing is shown of scores.
    assert len(drawn.axes) == (2 if scored else 1)
    assert ("gpt-4.1" in console.file.getvalue()) == bool(scored)


def test_a_sweep_says_of_which_suites_its_win_rates_are() -> None:
    made = judged.experiment(judged.judgments(compared=("hard",)))
    cells = [Cell(0, {"policy.kl_coef": 0.1}, made["fingerprint"], made, "done")]
    assert "Win rate over hard: win + tie / 2" in summary.markdown(cells, "sweep")


def test_a_tie_of_a_model_with_itself_names_no_verdicts_in_a_sweep() -> None:
    made = twins()
    salsa = judged.row(made, "SALSA")
    salsa["suites"]["hard"]["fingerprints"]["against PPO"] = salsa["fingerprint"]
    cells = [Cell(0, {"policy.kl_coef": 0.1}, made["fingerprint"], made, "done")]
    (record,) = (record for record in table.rows(cells) if record["suite"] == "hard")
    assert record["judge_fingerprint"] is None


def test_the_best_of_a_large_sweep_without_scores_are_those_that_win_most() -> None:
    cells = []
    for number in range(summary.SCREEN + 2):
        made = judged.experiment(judged.judgments(scored=())) | {"fingerprint": f"{number:064d}"}
        judged.row(made, "SALSA")["pooled"]["win_rate"]["PPO"]["value"] = number / 100
        cells.append(Cell(number, {"policy.kl_coef": number / 10}, made["fingerprint"], made, "done"))
    console = Console(width=120, file=io.StringIO(), force_terminal=False)
    console.print(summary.terminal(cells))
    assert isinstance(console.file, io.StringIO)
    assert [line.split()[0] for line in console.file.getvalue().splitlines() if line[:1].isdigit()][1:3] == ["2.1", "2"]
