import pytest

from salsa.evaluation.statistics import t_interval
from salsa.report.sweep.repeats import grid
from tests.report.sweep.factory import cell, sweep

DRAWS = [1.0, 1.4, 0.9, 1.2]


def score(keys: dict[str, float]) -> float:
    return DRAWS[int(keys["replicate"])] + keys.get("soup.alpha", 0)


def test_there_is_a_mean_for_each_combination_of_the_other_keys() -> None:
    found = grid(sweep({"replicate": [0, 1, 2, 3], "soup.alpha": [0, 1]}, score))
    assert found is not None
    assert [column.heading for column in found.columns][:3] == ["soup.alpha", "repeats", "policy"]
    assert [[entry.text for entry in row[:2]] for row in found.rows] == [["0", "4 of 4"], ["1", "4 of 4"]]
    for alpha, row in enumerate(found.rows):
        expected = t_interval([draw + alpha for draw in DRAWS])
        assert expected.low is not None
        assert expected.high is not None
        assert row[2].value == pytest.approx(expected.value)
        assert row[2].interval == f"[{expected.low:.2f}, {expected.high:.2f}]"
    assert [row[2].best for row in found.rows] == [False, True]


def test_win_rates_are_in_percent_and_toned_where_the_interval_leaves_out_one_half() -> None:
    found = grid(sweep({"replicate": [0, 1, 2, 3]}, score))
    assert found is not None
    (row,) = found.rows
    expected = t_interval([50 + 5 * draw for draw in DRAWS])
    assert row[2].value == pytest.approx(expected.value)
    assert row[2].tone == "better"
    wide = grid(sweep({"seed": [0, 1]}, lambda keys: -3.0 if keys["seed"] else 4.0))
    assert wide is not None
    assert wide.rows[0][2].tone == ""


def test_a_missing_repeat_is_counted() -> None:
    found = grid(sweep({"replicate": [0, 1, 2, 3]}, score, missing=[1]))
    assert found is not None
    assert found.rows[0][0].text == "3 of 4"
    assert found.rows[0][1].value == pytest.approx(sum(DRAWS[number] for number in (0, 2, 3)) / 3)


def test_one_result_has_no_interval_and_none_is_a_dash() -> None:
    found = grid(sweep({"replicate": [0, 1], "soup.alpha": [0, 1]}, score, missing=[1, 2, 3]))
    assert found is not None
    assert [row[2].interval for row in found.rows] == ["", ""]
    assert [row[2].text for row in found.rows] == ["1.00", "–"]


def test_without_repeats_there_is_no_such_table() -> None:
    assert grid(sweep({"soup.alpha": [0, 1]})) is None
    assert grid(sweep({"replicate": [0], "soup.alpha": [0, 1]})) is None
    assert grid(sweep({"replicate": [0, 1]}, missing=[0, 1])) is None
    keys = {"replicate": 0}
    assert grid([cell(0, keys, 1.0), cell(1, keys, 1.0)]) is None, "two workers on one experiment are no repeats"
