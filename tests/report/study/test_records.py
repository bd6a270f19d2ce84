import csv
import io
from typing import Any

import pytest

from salsa.report.study import records, schema
from salsa.report.study.schema import printable
from tests.report.study import examples
from tests.report.study.odd import EVERY


def rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(records.to_csv(printable(EVERY[name]())))))


def test_each_cell_has_a_line_in_the_unit_of_its_column() -> None:
    found = rows("table_1")
    assert len(found) == 15 * 5 + 12 * 4
    line = next(row for row in found if (row["group"], row["row"], row["column"]) == ("Gemma", "SALSA", "unseen"))
    assert {key: line[key] for key in ("unit", "value", "low", "high", "level", "n", "note", "role")} == {
        "unit": "%",
        "value": "51.0",
        "low": "47.0",
        "high": "55.0",
        "level": "0.95",
        "n": "6",
        "note": "2 of 8 replicates are missing",
        "role": "salsa",
    }


def test_the_fingerprints_of_a_cell_are_counted_and_found_where_it_says() -> None:
    study = examples.table_1()
    study["tables"][0]["columns"].append({**study["tables"][0]["columns"][0], "key": "a/b~c"})
    study["tables"][0]["rows"][1]["cells"]["a/b~c"] = examples.cell(0.5, 0.1, "odd", n=2)
    lines = list(csv.DictReader(io.StringIO(records.to_csv(printable(study)))))
    written = schema.checked(study)
    for line in lines:
        found: Any = written
        for part in line["sources_at"].split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            found = found[int(part)] if isinstance(found, list) else found[part]
        assert (len(found) if line["sources_at"] else 0) == int(line["sources"])
    assert {line["sources"] for line in lines} == {"0", "2", "6", "8"}
    assert examples.fingerprint("odd", 0) not in records.to_csv(printable(study))


def test_the_papers_figure_stands_beside_ours_with_its_source() -> None:
    found = {(row["group"], row["row"], row["column"]): row for row in rows("table_1") if row["table"] == "main"}
    ours = found["Llama2", "SALSA", "single"]
    assert (ours["value"], ours["paper"]) == ("56.7", "51.00")
    assert ours["paper_source"] == "paper (its models and judge; figures made up)"
    assert found["Llama2", "SALSA", "hard"]["paper"] == "not known to us"
    assert found["Llama2", "SFT1", "single"]["paper"] == found["Llama2", "SFT1", "single"]["paper_source"] == ""


def test_a_missing_cell_has_a_line_and_one_without_meaning_has_none() -> None:
    missing = [row for row in rows("table_1") if row["table"] == "main" and not row["value"]]
    assert [(row["row"], row["column"], row["low"], row["level"]) for row in missing] == [
        ("start+ref soup", "hard", "", "")
    ]
    assert missing[0]["note"].startswith("missing: replicate 3 of Gemma: sft 2 failed: out of memory; replicate 5")
    assert ("PPO", "20") not in {(row["row"], row["column"]) for row in rows("frontier")}


@pytest.mark.parametrize("name", EVERY)
def test_every_study_gives_lines_of_one_form(name: str) -> None:
    text = records.to_csv(printable(EVERY[name]()))
    assert {len(line) for line in csv.reader(io.StringIO(text))} == {len(records.HEADER)}
