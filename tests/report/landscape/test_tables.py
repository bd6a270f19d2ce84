import copy
import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salsa.report.landscape import files, records, tables
from salsa.report.landscape.page import markdown
from salsa.report.landscape.summary import assemble
from salsa.report.markup import escape
from tests.report.landscape import factory


def summary(**changes: Any) -> dict[str, Any]:
    return assemble(replace(factory.evidence(), **changes), np.random.default_rng(0), 50)


@pytest.fixture(scope="module")
def landscape() -> dict[str, Any]:
    return summary()


@pytest.fixture(scope="module")
def page(landscape: dict[str, Any]) -> str:
    return markdown(landscape)


def test_the_page_says_how_and_what_and_every_verdict(landscape: dict[str, Any], page: str) -> None:
    assert page.startswith("# Landscape between SFT1, SFT2 and SFT3\n")
    for part in ("240, one to each of the same prompts (60 clusters)", "Gram-Schmidt", "21 points", "82 points"):
        assert part in page
    assert "conditional on these trained models" in page
    assert "Entezari et al. 2022" in page
    for kind in ("line", "plane"):
        for verdict in landscape[kind]["verdicts"].values():
            assert escape(verdict) in page


def test_the_tables_are_those_there_is_data_for(page: str) -> None:
    titles = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert titles == [
        "What it shows",
        "On the line from SFT1 to SFT2",
        "The midpoint on the line, and the best point",
        "On the plane through SFT1, SFT2 and SFT3",
        "The barycentre on the plane, and the best point",
        "Policies",
        "Distances in weight space",
        "Task vectors from base",
        "Task vectors by layer",
        "How to read it",
    ]
    two = assemble(factory.evidence(models=2, policies=()), np.random.default_rng(0), 50)
    short = markdown({**two, "geometry": None})
    assert not any(word in short for word in ("plane through", "## Policies", "Task vectors"))


def test_rows_of_a_table_have_as_many_cells_as_its_heading(page: str) -> None:
    for block in page.split("\n\n"):
        lines = block.splitlines()
        if lines and lines[0].startswith("|"):
            assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_the_line_names_its_ends_and_marks_the_best(landscape: dict[str, Any]) -> None:
    rows = {row[0].text: row for row in tables.along_line(landscape).rows}
    assert [rows[alpha][1].text for alpha in ("0", "0.5", "1", "0.3")] == ["SFT1", "midpoint", "SFT2", ""]
    best = landscape["line"]["findings"]["loss"]["best"]["weights"][1]
    assert [alpha for alpha, row in rows.items() if row[4].best] == [f"{best:.6g}"]


def test_key_points_of_the_plane_are_models_midpoints_and_barycentre(landscape: dict[str, Any]) -> None:
    names = [row[0].text for row in tables.on_plane(landscape).rows]
    assert names[:3] == ["SFT1", "SFT2", "SFT3"]
    assert "barycentre" in names
    weights = [[cell.text for cell in row[1:4]] for row in tables.on_plane(landscape).rows]
    assert weights[3:6] == [["0.5", "0.5", "0"], ["0.5", "0", "0.5"], ["0", "0.5", "0.5"]]


def test_layers_are_abridged_to_evenly_spaced_ones() -> None:
    made = summary(geometry=factory.geometry([*factory.NAMES], blocks=32))
    grid = tables.layers(made["geometry"], made["models"])
    names = [row[0].text for row in grid.rows]
    assert (names[0], names[-1], len(names)) == ("embed_tokens", "lm_head", 8)
    assert "8 of 35 layers" in grid.caption


def test_the_line_as_csv_is_the_landscape(landscape: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(records.line_csv(landscape))))
    assert tuple(rows[0]) == records.LINE_HEADER
    assert len(rows) == 5 * (21 + len(factory.POLICIES))
    middle = next(row for row in rows if row["point"] == "midpoint" and row["quantity"] == "loss")
    point = next(each for each in landscape["line"]["points"] if each["weights"] == [0.5, 0.5])
    assert float(middle["value"]) == point["values"]["loss"]["value"]
    assert float(middle["band_low"]) == point["values"]["loss"]["band_low"]
    assert middle["unit"] == "nats a token"
    policy = next(row for row in rows if row["point"] == "PPO")
    assert float(policy["off"]) == pytest.approx(1.14, abs=0.01)
    assert {row["unit"] for row in rows if row["quantity"] == "unfinished"} == {"share"}


def test_the_plane_as_csv_has_weights_and_coordinates(landscape: dict[str, Any]) -> None:
    rows = [row for row in csv.DictReader(io.StringIO(records.plane_csv(landscape))) if row["quantity"] == "judge"]
    assert len(rows) == 82 + len(factory.POLICIES)
    corner = next(row for row in rows if row["point"] == "SFT3")
    assert [corner[key] for key in ("place", "weight_1", "weight_2", "weight_3")] == ["at a model", "0.0", "0.0", "1.0"]
    assert [float(corner["x"]), float(corner["y"])] == landscape["plane"]["coordinates"][2]


def test_layers_as_csv_hold_every_pair(landscape: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(records.layers_csv(landscape))))
    names = len(landscape["geometry"]["names"])
    assert len(rows) == 8 * (names + names * (names - 1))
    found = [row for row in rows if row["layer"] == "all" and row["model"] == "SFT1" and row["other"] == "SFT2"]
    assert float(found[0]["value"]) == landscape["geometry"]["total"]["cosines"][0][1]


def test_files_are_written_and_read_again(landscape: dict[str, Any], tmp_path: Path) -> None:
    written = files.write_all(landscape, tmp_path)
    assert [path.name for path in written] == ["landscape.json", "landscape.md", "line.csv", "plane.csv", "layers.csv"]
    assert files.read(tmp_path / files.NAME) == landscape
    again = {path.name: path.read_bytes() for path in written}
    files.write_all(summary(), tmp_path)
    assert {path.name: path.read_bytes() for path in written} == again


@pytest.mark.parametrize("text", ["{", '{"schema": 0}', "[]"])
def test_what_is_no_landscape_is_refused_by_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / files.NAME
    path.write_text(text)
    with pytest.raises(ValueError, match=r"landscape\.json"):
        files.read(path)


def test_a_model_without_a_task_vector_is_left_out_of_the_layers(landscape: dict[str, Any]) -> None:
    made = summary(geometry=factory.geometry(["SFT2", "SFT3"]))
    grid = tables.layers(made["geometry"], made["models"])
    assert [column.heading for column in grid.columns] == ["layer", "SFT2", "SFT3", "SFT2, SFT3", "SFT2, SFT3"]


def test_title_and_suite_are_shown_where_they_are_given(landscape: dict[str, Any], page: str) -> None:
    titled = markdown({**landscape, "title": "llama2, tiny", "suite": "validation"})
    assert titled.startswith("# Landscape between SFT1, SFT2 and SFT3: llama2, tiny\n")
    assert "the same prompts of validation (60 clusters)" in titled
    assert "validation" not in page


def test_names_show_as_themselves() -> None:
    made = factory.evidence(policies=("PPO",))
    made = replace(made, others=("a|b *c*",), measured={"a|b *c*": made.measured["PPO"]}, geometry=None)
    page = markdown(assemble(made, np.random.default_rng(0), 50))
    assert "| a\\|b \\*c\\* |" in page


def test_the_page_warns_of_shares_with_their_size_by_chance(landscape: dict[str, Any], page: str) -> None:
    notes = page.split("## How to read it")[1]
    assert "no probability of being best" in notes
    for kind, points in (("line", 21), ("plane", 82)):
        shares = [100 * each["best"]["chance_share"] for each in landscape[kind]["findings"].values()]
        assert 100 / points < min(shares)
        assert f"{min(shares):.0f} to {max(shares):.0f} % among the {points} points of the {kind}" in notes
    alone = assemble(factory.evidence(world=factory.World(subjects=1)), np.random.default_rng(0), 50)
    loss = alone["line"]["findings"].pop("loss")
    alone["plane"]["findings"].pop("loss")
    assert loss["best"]["chance_share"] is not None
    assert "no probability" not in markdown(alone)


def test_policies_are_explained_where_there_are_some(page: str) -> None:
    assert "Policies lie off the line and the plane" in page
    without = markdown(summary(**vars(factory.evidence(policies=()))))
    assert "Policies" not in without
    assert "Distances are Euclidean" in without


def test_a_plane_without_margin_lies_within_the_triangle(page: str) -> None:
    assert "every weight from -0.3333 to 1.333, inside and outside the triangle" in page
    made = assemble(factory.evidence(beyond=(0, 0)), np.random.default_rng(0), 50)
    assert "every weight from 0 to 1, within the triangle" in markdown(made)


def test_a_midpoint_that_is_best_is_compared_with_the_next_best() -> None:
    made = assemble(factory.evidence(world=factory.World(noise=0.0)), np.random.default_rng(0), 50)
    best = made["plane"]["findings"]["judge"]["best"]
    assert best["is_centre"]
    rows = {row[0].text: row for row in tables.of_centre(made, "plane").rows}
    assert float(rows["barycentre − best other point"][1].text) > 0
    assert rows["best of the grid"][1].text != rows["best other point"][1].text


def test_a_bound_near_zero_reads_alike_in_table_and_verdict(landscape: dict[str, Any]) -> None:
    made = copy.deepcopy(landscape)
    made["line"]["findings"]["judge"]["differences"]["SFT1"] |= {"value": 0.17, "low": 0.0004, "high": 0.37}
    cell = tables.of_centre(made, "line").rows[0][1]
    assert (cell.text, cell.interval) == ("0.1700", "[0.0004, 0.3700]")


KINDS = ("line", "plane")
PRINTS = {
    "models": {name: str(number) * 64 for number, name in enumerate(factory.NAMES)},
    "others": {name: str(number) * 64 for number, name in enumerate(factory.POLICIES, 5)},
}


def traced(landscape: dict[str, Any]) -> dict[str, Any]:
    """Return a landscape to which its origin was added."""
    points = {kind: [f"{kind} {number}" for number in range(len(landscape[kind]["points"]))] for kind in KINDS}
    origin = {"fingerprint": "0123456789abcdef" * 4, "seed": 7, "replicate": 0, "soup": "0.5 SFT1 + 0.5 SFT2"}
    return {**landscape, **origin, "fingerprints": {**PRINTS, "points": points}}


def test_the_page_ends_with_where_it_comes_from(landscape: dict[str, Any], page: str) -> None:
    last = markdown(traced(landscape)).split("\n## ")[-1]
    assert last.startswith("Fingerprints\n")
    assert "Landscape 0123456789abcdef; seed 7; replicate 0; soup 0.5 SFT1 + 0.5 SFT2." in last
    for kind, names in (("model", "models"), ("policy", "others")):
        for name, value in PRINTS[names].items():
            assert f"| {name} | {kind} | {value} |" in last
    assert "## Fingerprints" not in page
    short = markdown({**landscape, "replicate": 3}).split("\n## ")[-1]
    assert short == "Fingerprints\n\nReplicate 3.\n"


@pytest.mark.parametrize(("kind", "write"), [("line", records.line_csv), ("plane", records.plane_csv)])
def test_points_and_policies_have_their_fingerprints_in_csv(landscape: dict[str, Any], kind: str, write: Any) -> None:
    rows = list(csv.DictReader(io.StringIO(write(traced(landscape)))))
    quantities = len(landscape["quantities"])
    for number in range(len(landscape[kind]["points"])):
        found = rows[quantities * number : quantities * (number + 1)]
        assert {row["fingerprint"] for row in found} == {f"{kind} {number}"}
    for name, value in PRINTS["others"].items():
        assert {row["fingerprint"] for row in rows if row["point"] == name} == {value}
    assert {row["fingerprint"] for row in csv.DictReader(io.StringIO(write(landscape)))} == {""}
    short = {**landscape, "fingerprints": {"points": {kind: ["a"]}}}
    with pytest.raises(ValueError, match=rf"fingerprints.points.{kind} has 1 entries"):
        write(short)
