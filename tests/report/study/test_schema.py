import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from salsa.report.study import schema
from tests.report.study import examples
from tests.report.study.odd import NAME, named


def test_a_study_survives_the_way_through_its_file(tmp_path: Path) -> None:
    study = examples.table_1()
    (tmp_path / schema.NAME).write_text(schema.to_json(schema.checked(study)), encoding="utf-8")
    assert schema.read(tmp_path / schema.NAME) == study


def test_numbers_that_are_not_finite_are_missing_and_said() -> None:
    study = examples.alpha()
    study["tables"][0]["rows"][0]["cells"]["0.5"]["value"] = math.nan
    checked = schema.checked(study)
    assert checked["tables"][0]["rows"][0]["cells"]["0.5"]["value"] is None
    assert checked["warnings"] == ["tables[0].rows[0].cells.0.5.value was nan and is shown as missing"]
    assert "NaN" not in schema.to_json(checked)


def test_another_version_or_another_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "study.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"study\.json is not JSON"):
        schema.read(path)
    path.write_text(json.dumps({"schema": 9}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"study.json: schema is 9, this version reads 1"):
        schema.read(path)
    with pytest.raises(ValueError, match="schema is 9"):
        schema.checked({"schema": 9})


Change = Callable[[dict[str, Any]], object]
WRONG: dict[str, tuple[Change, str]] = {
    "a part": (lambda study: study.pop("tables"), "lacks tables"),
    "the headline": (lambda study: study.update(headline=5), "headline is 5, there are 5 verdicts"),
    "the second": (lambda study: study.update(second=-1), "second is -1, there are 5 verdicts; give an index"),
    "a role": (lambda study: study["tables"][0]["rows"][0].update(role="x"), "table 'main': role of 'SFT1' is 'x'"),
    "a kind": (lambda study: study["figures"][0].update(kind="pie"), "figure 'win_rates': kind is 'pie'; give one of"),
    "a series": (lambda study: study["figures"][0]["series"][0].update(role=""), "role of 'SALSA' is ''"),
    "a column": (
        lambda study: study["tables"][0]["columns"].append(study["tables"][0]["columns"][0]),
        "column 'single' is given 2 times",
    ),
    "a cell": (lambda study: study["tables"][0]["rows"][0]["cells"].update(x=None), "row 'SFT1' has a cell 'x'"),
    "a plane": (
        lambda study: study["figures"][0].update(kind="plane", models=[]),
        "figure 'win_rates': has 0 models; a plane goes through 3",
    ),
    "weights": (
        lambda study: study["figures"][0].update(kind="plane", models=[{}] * 3),
        "figure 'win_rates': a point of 'SALSA' has no weights of 3 models",
    ),
    "the paper": (lambda study: study["paper"].pop("source"), "an entry of paper lacks source; give label, source"),
    "a claim": (lambda study: study["paper"]["claims"][0].pop("here"), "an entry of paper.claims lacks here"),
    "what is missing": (lambda study: study["missing"][0].pop("arm"), "an entry of missing lacks arm; give family"),
    "the paper's row": (
        lambda study: study["tables"][0]["paper"]["cells"].update({"SALSA": {"single": "50"}}),
        "the paper's row 'SALSA' is the label of 3 rows; name one row, as 'group: label'",
    ),
    "the paper's column": (
        lambda study: study["tables"][0]["paper"]["cells"]["Llama2: SALSA"].update(x="1"),
        "the paper's row 'Llama2: SALSA' has a cell 'x', no column",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_would_be_shown_wrongly_is_refused(what: str) -> None:
    change, message = WRONG[what]
    study = copy.deepcopy(examples.table_1())
    change(study)
    with pytest.raises(ValueError, match=r"study 'table_1': ") as caught:
        schema.checked(study)
    assert message in str(caught.value)


def test_a_study_may_come_without_what_is_optional() -> None:
    study = examples.alpha()
    bare = {key: value for key, value in study.items() if key not in schema.OPTIONAL}
    assert schema.checked(bare) == study


def test_printable_texts_are_single_lines_without_control_characters() -> None:
    text = json.dumps(schema.printable(named()), ensure_ascii=False)
    assert "\\n" not in text
    assert "\x1b" not in text
    assert NAME.replace("\n", " ").replace("\x1b", "\\x1b") in schema.printable(named())["title"]


def test_the_headline_is_the_verdict_that_the_study_names() -> None:
    study = examples.table_1()
    assert schema.headline(study | {"headline": 2}) == study["verdicts"][2]
    assert schema.headline(study | {"headline": None}) is None
    assert schema.headline(study | {"verdicts": []}) is None
