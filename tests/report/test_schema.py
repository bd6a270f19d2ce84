import json
import math
from pathlib import Path

import numpy as np
import pytest

from salsa.report import schema
from tests.report.factory import experiment


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "experiment.json"
    schema.write(path, experiment())
    assert schema.read(path) == experiment()


def test_a_file_that_is_no_experiment_is_named(tmp_path: Path) -> None:
    path = tmp_path / "experiment.json"
    path.write_text('{"schema": 1')
    with pytest.raises(ValueError, match=r"experiment.json is not JSON"):
        schema.read(path)
    for other in ({"schema": 99}, [1], {}):
        path.write_text(json.dumps(other))
        with pytest.raises(ValueError, match=r"this version reads 1"):
            schema.read(path)


def test_numbers_that_are_not_finite_become_missing_with_a_warning_each() -> None:
    value, warnings = schema.finite({"a": [1.0, math.nan], "b": {"c": math.inf, "d": None}, "e": "nan"})
    assert value == {"a": [1.0, None], "b": {"c": None, "d": None}, "e": "nan"}
    assert [text.split(" ")[0] for text in warnings] == ["a[1]", "b.c"]


def test_what_json_cannot_hold_is_named() -> None:
    with pytest.raises(TypeError, match=r"a\[0\].*int64"):
        schema.finite({"a": [np.int64(3)]})


def test_settings_get_dotted_keys() -> None:
    nested = {"soup": {"alpha": 0.5, "weights": [1, 2]}, "none": {}, "seed": 0}
    assert list(schema.flatten(nested)) == [("soup.alpha", 0.5), ("soup.weights", [1, 2]), ("none", {}), ("seed", 0)]
