import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.evaluation.statistics import t_interval
from salsa.report.sweep.lines import Pick, mean_of_lines, of_key
from tests.report.sweep.factory import cell, sweep

KLS = [0.1, 0.2, 0.4]


def judge(experiment: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in experiment["rows"] if row["role"] == "policy")["pooled"]["judge"]
    return found


PICK: Pick = judge


def test_there_is_a_line_for_each_combination_of_the_other_keys() -> None:
    cells = sweep({"policy.kl_coef": KLS, "model": ["llama2", "gemma"], "soup.alpha": [0, 1]})
    lines = of_key(cells, "policy.kl_coef")
    assert [line.label for line in lines] == [
        "model=llama2 soup.alpha=0",
        "model=llama2 soup.alpha=1",
        "model=gemma soup.alpha=0",
        "model=gemma soup.alpha=1",
    ]
    assert all(line.places == KLS and len(line.repeats) == 1 for line in lines)


def test_points_have_the_intervals_of_their_experiments_and_gaps_where_they_are_missing() -> None:
    (line,) = of_key(sweep({"policy.kl_coef": KLS}, lambda keys: keys["policy.kl_coef"], missing=[1]), "policy.kl_coef")
    first, second, third = line.mean(PICK, 0.95)
    assert first == pytest.approx((0.1, 0.0, 0.2))
    assert all(math.isnan(number) for number in second)
    assert third == pytest.approx((0.4, 0.3, 0.5))
    assert line.missing() == [0.2]


def test_repeats_become_one_line_with_the_interval_of_their_mean() -> None:
    scores = {0: 1.0, 1: 1.4, 2: 0.9}
    cells = sweep({"replicate": [0, 1, 2], "soup.alpha": [0, 1]}, lambda keys: scores[keys["replicate"]])
    (line,) = of_key(cells, "soup.alpha")
    expected = t_interval(list(scores.values()))
    assert (line.label, len(line.repeats)) == ("", 3)
    assert line.mean(PICK, 0.95) == [pytest.approx((expected.value, expected.low, expected.high))] * 2


def test_a_mean_with_a_missing_repeat_is_a_gap() -> None:
    (line,) = of_key(sweep({"seed": [0, 1, 2], "soup.alpha": [0, 1]}, missing=[3]), "soup.alpha")
    assert [math.isnan(value) for value, _, _ in line.mean(PICK, 0.95)] == [False, True]
    assert line.missing() == [1]


def test_over_the_repeats_themselves_each_is_a_point() -> None:
    (line,) = of_key(sweep({"replicate": [0, 1, 2]}, lambda keys: keys["replicate"]), "replicate")
    assert [value for value, _, _ in line.mean(PICK, 0.95)] == [0, 1, 2]


def test_workers_on_one_experiment_are_one_point() -> None:
    keys = {"soup.alpha": 0.5}
    (line,) = of_key([cell(0, keys, None), cell(1, keys, 2.0), cell(2, {"soup.alpha": 1.0}, 3.0)], "soup.alpha")
    assert [value for value, _, _ in line.mean(PICK, 0.95)] == [2.0, 3.0]
    assert line.missing() == []


@given(st.sets(st.integers(0, 11)))
def test_the_mean_of_lines_is_that_of_the_lines_without_a_gap(missing: set[int]) -> None:
    score = {"a": 1.0, "b": 2.0, "c": 4.0, "d": 8.0}
    cells = sweep({"policy.kl_coef": KLS, "model": list(score)}, lambda keys: score[keys["model"]], missing)
    places, means, count = mean_of_lines(of_key(cells, "policy.kl_coef"), PICK, 0.95)
    whole = [value for number, value in enumerate(score.values()) if not missing & {number, number + 4, number + 8}]
    assert count == len(whole)
    assert means == ([pytest.approx(sum(whole) / len(whole))] * 3 if whole else [])
    assert places == KLS
