import pytest

from salsa.report.sweep.cells import Cell, count, distinct, numeric, shown, swept
from tests.report.sweep.factory import cell, experiment, sweep


def test_only_a_done_cell_has_an_experiment() -> None:
    with pytest.raises(ValueError, match="job 3: state is 'done' with no experiment"):
        Cell(3, {}, "f" * 64, None, "done")
    with pytest.raises(ValueError, match="job 3: state is 'failed' with an experiment"):
        Cell(3, {}, "f" * 64, experiment({}, 1.0), "failed")
    with pytest.raises(ValueError, match="job 3: state is 'lost'; it must be one of done, running, failed, missing"):
        Cell(3, {}, "f" * 64, None, "lost")


def test_a_cell_is_labelled_as_it_is_typed() -> None:
    keys = {"soup.alpha": 0.25, "model": "gemma", "plan": True, "why": None, "steps": 1000000, "lr": 0.1234567}
    label = cell(7, keys, None).label
    assert label == "soup.alpha=0.25 model=gemma plan=true why=null steps=1000000 lr=0.1234567"
    assert cell(7, {}, None).label == "job 7"


def test_different_numbers_never_look_the_same() -> None:
    assert shown(0.1 + 0.2) != shown(0.3)
    assert shown(1.0) == shown(1) == "1"


def test_numeric_keys_have_at_least_two_numbers() -> None:
    cells = sweep({"soup.alpha": [0, 0.5], "model": ["llama2", "gemma"], "verify": [True, False], "steps": [8]})
    assert swept(cells) == ["soup.alpha", "model", "verify", "steps"]
    assert numeric(cells) == ["soup.alpha"]
    assert numeric(sweep({"compute.checkpoint_steps": [None, 4, 8]})) == []


def test_workers_on_one_experiment_are_one_row_that_names_all_jobs() -> None:
    keys = {"soup.alpha": 0.5}
    cells = [cell(0, keys, None), cell(2, {"soup.alpha": 1.0}, 1.0), cell(1, keys, 1.0)]
    assert [(first.job, jobs) for first, jobs in distinct(cells)] == [(1, [0, 1]), (2, [2])]
    assert count(cells) == "2 of 2 experiments"


def test_cells_that_could_not_be_planned_stay_apart() -> None:
    cells = [Cell(job, {"model": f"m{job}"}, "", None, "failed", "no such file") for job in range(2)]
    assert len(list(distinct(cells))) == 2


def test_the_count_names_every_state() -> None:
    cells = sweep({"soup.alpha": [0, 0.5, 1]}, missing=[1])
    cells += [cell(3, {"soup.alpha": 2}, None, "failed"), cell(4, {"soup.alpha": 3}, None, "running")]
    assert count(cells) == "2 of 5 experiments, 1 running, 1 failed, 1 missing"
