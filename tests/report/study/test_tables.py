import copy
from dataclasses import replace
from typing import Any

import pytest

from salsa.report.grid import BLANK, MISSING, Cell
from salsa.report.study import gaps, records
from salsa.report.study.schema import printable
from salsa.report.study.tables import UNKNOWN, Table, paper, selection, tables
from tests.report.study import examples
from tests.report.study.odd import EVERY


def table(study: dict[str, Any], number: int = 0) -> Table:
    return tables(printable(study))[number]


def cells(found: Table, row: str, group: str = "") -> dict[str, Cell]:
    """Return the cells of a row by their headings, the paper's with "paper" in front."""
    keys = [group, row] if found.grouped else [row]
    line = next(line for line in found.grid.rows if [cell.text for cell in line[: len(keys)]] == keys)
    first = len(line) - found.paper
    names = [
        f"paper {column.heading}" if place >= first else column.heading
        for place, column in enumerate(columns_of(found))
    ]
    return dict(zip(names, line, strict=True))


def columns_of(found: Table) -> list[Any]:
    return list(found.grid.columns)


def test_cells_are_in_the_unit_of_their_column_with_interval_and_origin() -> None:
    cell = cells(table(examples.table_1()), "SALSA", "Llama2")["single"]
    assert (cell.text, cell.interval, cell.spread) == ("56.7", "[54.7, 58.7]", "±2.0")
    assert cell.source == "n = 8, from 8 artifacts"
    headings = {column.heading: column.group for column in table(examples.table_1()).grid.columns}
    assert headings["two_turn"] == "win rate against PPO, %"


def test_a_unit_that_columns_do_not_share_stands_in_each_heading() -> None:
    columns = [(column.group, column.heading) for column in table(examples.frontier()).grid.columns]
    assert columns[1] == ("gold reward at KL (nats a reply), points", "2")
    assert columns[-1] == ("", "KL of the peak, nats")


def test_absent_cells_have_no_meaning_and_empty_ones_are_missing() -> None:
    assert cells(table(examples.frontier()), "PPO")["20"] == BLANK
    study = examples.table_1()
    assert cells(table(study | {"missing": []}), "start+ref soup", "Gemma")["hard"] == MISSING
    assert cells(table(study), "start+ref soup", "Gemma")["hard"] == replace(MISSING, text="missing²")


def test_a_missing_cell_names_what_failed_of_its_arm_and_family() -> None:
    study = examples.table_1()
    rows = {(row["group"], row["label"]): row for row in study["tables"][0]["rows"]}
    everywhere, one = study["missing"]
    assert gaps.reason(study, rows["Gemma", "SALSA"]) == "missing: replicate 3 of Gemma: sft 2 failed: out of memory"
    assert gaps.reason(study, rows["Llama2", "SALSA"]) is None
    both = gaps.reason(study, rows["Gemma", "start+ref soup"])
    assert both
    assert both.endswith("; replicate 5 of Gemma: align failed: NaN at step 40")
    assert gaps.reason(study, {"label": "SALSA", "group": None}) == gaps.reason(study, rows["Gemma", "SALSA"])
    assert gaps.reason(study, {"label": "SALSA", "group": "mean of the families"}), "made of all families"
    many = study | {"missing": [{**everywhere, "replicate": number} for number in range(9)]}
    assert (gaps.reason(many, rows["Gemma", "SALSA"]) or "").endswith("; and 6 more")
    assert list(gaps.sentences(study | {"missing": [one]})) == [
        "replicate 5 of Gemma is missing from start+ref soup: align failed: NaN at step 40"
    ]


def test_the_papers_figures_stand_in_columns_of_their_own() -> None:
    found = table(examples.table_1())
    ours = cells(found, "SALSA", "Llama2")
    assert found.paper == 2
    assert [column.group for column in found.grid.columns[-2:]] == ["paper (its models and judge; figures made up)"] * 2
    assert ours["paper single"] == Cell("51.00")
    assert (ours["paper hard"].text, ours["paper hard"].tone) == (UNKNOWN, "missing")
    assert cells(found, "ref SFT2", "Llama2")["paper single"] == BLANK
    without = examples.table_1()
    without["tables"][0]["paper"] = None
    assert [row[:-2] for row in found.grid.rows] == [list(row) for row in table(without).grid.rows]


def test_the_paper_is_never_shown_at_the_row_of_another_family() -> None:
    study = examples.table_1()
    main = study["tables"][0]
    rows = {(row["group"], row["label"]): paper(row, "single", main) for row in main["rows"]}
    assert {key for key, value in rows.items() if value == "51.00"} == {("Llama2", "SALSA")}


def test_notes_are_numbered_as_they_are_met_and_marked_at_each_cell() -> None:
    study = examples.table_1()
    study["tables"][0]["rows"][0]["cells"]["single"]["note"] = "first"
    found = table(study)
    assert list(found.grid.notes[:2]) == ["¹ first", "² 2 of 8 replicates are missing"]
    assert len(found.grid.notes) == 3
    assert cells(found, "SFT1", "Llama2")["single"].text == "44.3¹"
    assert cells(found, "SALSA", "Gemma")["unseen"].text == "51.0²"


def test_the_best_is_marked_in_each_group_where_a_column_has_a_better_direction() -> None:
    found = table(examples.table_1())
    for family in examples.FAMILIES:
        assert cells(found, "ref SFT2", family)["mean"].best
        assert not cells(found, "SALSA", family)["mean"].best
    assert not any(cell.best for row in table(examples.table_1(), 1).grid.rows for cell in row)


@pytest.mark.parametrize(
    ("roles", "lines"),
    [(["ppo", "control", "control"], {0}), (["ppo", "control", "other", "control"], {2}), (["control"] * 2, set())],
)
def test_a_line_stands_before_the_controls_that_end_a_table(roles: list[str], lines: set[int]) -> None:
    study = examples.frontier()
    row = study["tables"][0]["rows"][0]
    study["tables"][0]["rows"] = [{**row, "label": str(number), "role": role} for number, role in enumerate(roles)]
    assert table(study).grid.sections == lines


@pytest.mark.parametrize(("low", "high", "tone"), [(0.51, 0.6, "better"), (0.4, 0.49, "worse"), (0.4, 0.6, "")])
def test_a_tone_says_that_the_whole_interval_leaves_out_even(low: float, high: float, tone: str) -> None:
    study = examples.table_1()
    study["tables"][0]["rows"][0]["cells"]["single"] |= {"low": low, "high": high}
    assert cells(table(study), "SFT1", "Llama2")["single"].tone == tone


def test_a_narrow_medium_gets_the_papers_rows_below() -> None:
    own, theirs = table(examples.table_1()).blocks()
    assert len(own.columns) == 7
    assert [row[0].text for row in own.rows][:6] == ["Llama2", "", "", "", "", "Mistral"]
    assert own.sections == {4, 9}
    assert next([cell.text for cell in row] for row in theirs.rows) == ["Llama2", "SALSA", "51.00", UNKNOWN]
    assert len(theirs.rows) == 3
    assert table(examples.frontier()).blocks() == [table(examples.frontier()).grid]


def test_the_selection_shows_the_curve_with_the_chosen_coefficient_and_flags_an_end_of_the_grid() -> None:
    found = selection(printable(examples.table_1()))
    assert found is not None
    assert [column.heading for column in found.grid.columns] == [
        "family",
        "arm",
        "0.025",
        "0.05",
        "0.1",
        "0.2",
        "0.4",
        "chosen",
    ]
    for row, chosen in zip(found.grid.rows, examples.table_1()["selection"]["chosen"], strict=True):
        best = [column.heading for column, cell in zip(found.grid.columns, row, strict=True) if cell.best]
        assert best == [f"{chosen['coefficient']:g}"]
        assert row[-1].text == best[0] + "¹" * chosen["edge"]
    assert found.grid.notes == ["¹ at the end of the grid: a better coefficient may lie beyond it"]
    assert selection(printable(examples.alpha())) is None


def test_a_selection_without_families_or_results_is_shown() -> None:
    study = copy.deepcopy(examples.table_1())
    study["selection"]["chosen"] = [{"family": None, "arm": "PPO", "coefficient": None, "edge": False, "curve": []}]
    found = selection(printable(study))
    assert found is not None
    assert [cell.text for cell in found.grid.rows[0]] == ["PPO", *["missing"] * 5, "–"]
    assert found.grid.notes == []


@pytest.mark.parametrize("name", EVERY)
def test_every_study_has_its_tables(name: str) -> None:
    study = printable(EVERY[name]())
    found = tables(study)
    assert [len(each.grid.rows) for each in found] == [len(each["rows"]) for each in study["tables"]]
    assert all(len(each.roles) == len(each.grid.rows) for each in found)


@pytest.mark.parametrize(("unlike", "tone", "mark"), [(0.0, "", True), (1e-17, "", True), (0.01, "better", False)])
def test_replicates_that_are_all_equal_decide_nothing(unlike: float, tone: str, mark: bool) -> None:
    study = examples.table_1()
    study["tables"][0]["rows"][0]["cells"]["single"] |= {"value": 0.6, "low": 0.6 - unlike, "high": 0.6 + unlike}
    found = table(study)
    cell = cells(found, "SFT1", "Llama2")["single"]
    assert cell.tone == tone
    assert (cell.text, cell.interval[:6]) == ("60.0¹" if mark else "60.0", "[60.0," if mark else "[59.0,")
    said = "¹ the same in all replicates, so the interval has no width and says nothing"
    assert (said in found.grid.notes) is mark


def test_an_interval_without_width_is_nothing_odd_where_nothing_is_compared() -> None:
    study = examples.table_1()
    study["tables"][1]["rows"][0]["cells"]["SFT1"] |= {"value": 0.0, "low": 0.0, "high": 0.0}
    assert cells(table(study, 1), "PPO", "Llama2")["SFT1"].text == "0.00"


def test_the_best_of_a_column_is_not_marked_below_what_it_is_compared_with() -> None:
    study = examples.table_1()
    for row in study["tables"][0]["rows"]:
        for each in filter(None, row["cells"].values()):
            each["value"] -= 0.2 if row["group"] == "Gemma" else 0.0
    found = table(study)
    bold = {line[0].text for line in found.grid.rows for cell in line if cell.best}
    assert bold == {"Llama2", "Mistral"}
    for column in study["tables"][0]["columns"]:
        del column["even"]
    assert {line[0].text for line in table(study).grid.rows for cell in line if cell.best} == {*bold, "Gemma"}


def test_the_caption_says_what_bold_is_where_there_is_any() -> None:
    study = examples.table_1()
    assert table(study).grid.caption.count("Bold") == 1, "the caption has it"
    study["tables"][0]["caption"] = "Gold reward."
    said = "Gold reward. Bold: best of the column in each group, where it is not below even."
    assert table(study).grid.caption == said
    assert "Bold" not in table(study, 1).grid.caption
    assert table(examples.frontier()).grid.caption.endswith("range. Bold: best of the column.")


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ({"single": 300, "hard": 300}, "n: 8 replicates × 300 prompts of each suite."),
        ({"single": 300, "hard": 1500}, "n: 8 replicates × prompts: 300 (single), 1,500 (hard)."),
    ],
)
def test_the_caption_of_the_main_table_says_on_how_much_it_rests(prompts: dict[str, int], said: str) -> None:
    study = examples.table_1()
    study["settings"]["prompts"] = prompts
    assert table(study).grid.caption.endswith(said)
    assert "n: " not in table(study, 1).grid.caption


def test_negative_numbers_have_minus_signs_in_cells_and_hyphens_in_files_for_programs() -> None:
    study = examples.frontier()
    study["tables"][0]["rows"][0]["cells"]["at_2"] |= {"value": -1.25, "low": -1.5, "high": -1.0, "note": "-2 of it"}
    cell = cells(table(study), "PPO")["2"]
    assert (cell.text, cell.interval) == ("−1.25¹", "[−1.50, −1.00]")
    text = records.to_csv(printable(study))
    assert "-1.25,-1.5,-1.0" in text
    assert "-2 of it" in text
    assert "−" not in text
