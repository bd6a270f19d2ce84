import json
import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from salsa.report.sweep import folder as sweeps
from salsa.report.sweep.cells import Cell
from salsa.store.artifact import Store
from salsa.store.lock import StageLock
from tests.report.sweep.factory import experiment, fingerprint, sweep

KEYS = {"soup.alpha": [0, 0.5, 1]}
SHARED, TRAINED = "a" * 64, "b" * 64


@pytest.fixture
def begun(tmp_path: Path) -> tuple[Path, Store]:
    """A sweep of three experiments that has just started; the second trains a policy of its own."""
    cells = sweep(KEYS, missing=[0, 1, 2])
    stages: dict[str, dict[str, Any]] = {
        SHARED: {"kind": "base", "name": "base", "inputs": []},
        TRAINED: {"kind": "align", "name": "policy", "inputs": [SHARED]},
    }
    for number, cell in enumerate(cells):
        inputs = [SHARED, TRAINED] if number == 1 else [SHARED]
        stages[cell.fingerprint] = {"kind": "report", "name": "report", "inputs": inputs}
    outputs = tmp_path / "outputs"
    place = outputs / "sweeps" / "first"
    sweeps.begin(place, "three alphas", cells, outputs, stages, ["run.py", "-m", "soup.alpha=0,.5,1"])
    return place, Store(outputs)


def publish(store: Store, kind: str, identity: str, files: Mapping[str, str]) -> None:
    place = store.temporary(kind, identity)
    for name, text in files.items():
        (place / name).write_text(text)
    store.publish(kind, identity, place, {"inputs": {}})


def report(store: Store, alpha: float, score: float = 1.0, **changed: Any) -> None:
    keys = {"soup.alpha": alpha}
    text = json.dumps(experiment(keys, score) | changed)
    publish(store, "report", fingerprint(keys), {"experiment.json": text})


def test_a_sweep_that_has_just_started_is_all_missing(begun: tuple[Path, Store]) -> None:
    cells = sweeps.load(begun[0])
    assert [(cell.job, dict(cell.keys), cell.state) for cell in cells] == [
        (0, {"soup.alpha": 0}, "missing"),
        (1, {"soup.alpha": 0.5}, "missing"),
        (2, {"soup.alpha": 1}, "missing"),
    ]
    assert cells[1].reason == "0 of 3 stages are stored, nobody works on the others"
    assert cells[1].overrides == ("soup.alpha=0.5",)


def test_results_are_found_in_the_store(begun: tuple[Path, Store]) -> None:
    place, store = begun
    report(store, 0.5, 1.25)
    states = [cell.state for cell in sweeps.load(place)]
    assert states == ["missing", "done", "missing"]
    found = sweeps.load(place)[1].experiment
    assert found is not None
    assert found["rows"] == experiment({"soup.alpha": 0.5}, 1.25)["rows"]
    assert (found["curves"], found["samples"]) == ({}, {}), "most of the file, and no table of a sweep shows it"


def test_a_failure_is_told_where_it_lies(begun: tuple[Path, Store]) -> None:
    place, store = begun
    publish(store, "base", SHARED, {})
    store.record_failure("align", TRAINED, {"error": "ValueError: reward is nan\nat step 3"})
    cells = sweeps.load(place)
    assert [cell.state for cell in cells] == ["missing", "failed", "missing"]
    assert cells[1].reason == "policy: ValueError: reward is nan"
    assert cells[0].reason == "1 of 2 stages are stored, nobody works on the others"


def test_a_shared_stage_that_failed_is_the_reason_of_all(begun: tuple[Path, Store]) -> None:
    place, store = begun
    store.record_failure("base", SHARED, {"error": "MemoryError: "})
    assert {cell.reason for cell in sweeps.load(place)} == {"base: MemoryError: "}


def test_an_unreadable_note_of_a_failure_is_a_failure(begun: tuple[Path, Store]) -> None:
    place, store = begun
    store.record_failure("align", TRAINED, {"error": "x"}).write_text("{")
    assert sweeps.load(place)[1].state == "failed"
    assert "policy: unknown, because the note of it, " in sweeps.load(place)[1].reason


def test_what_is_being_worked_on_is_running_even_if_it_failed_before(begun: tuple[Path, Store]) -> None:
    place, store = begun
    publish(store, "base", SHARED, {})
    store.record_failure("align", TRAINED, {"error": "x"})
    with StageLock(store.lock_path("align", TRAINED)):
        cells = sweeps.load(place)
    assert [cell.state for cell in cells] == ["missing", "running", "missing"]
    assert cells[1].reason.startswith("1 of 3 stages are stored; policy is being worked on by process ")


@pytest.mark.parametrize(
    ("text", "reason"), [("{", "is not JSON"), ('{"schema": 99}', "schema is 99, this version reads 1")]
)
def test_a_report_that_cannot_be_read_is_missing(begun: tuple[Path, Store], text: str, reason: str) -> None:
    place, store = begun
    publish(store, "report", fingerprint({"soup.alpha": 0}), {"experiment.json": text})
    cell = sweeps.load(place)[0]
    assert cell.state == "missing"
    assert reason in cell.reason


def test_a_cell_that_could_not_be_planned_is_missing(tmp_path: Path) -> None:
    sweeps.begin(tmp_path / "sweep", "title", [Cell(0, {}, "", None, "missing")], tmp_path, {})
    (cell,) = sweeps.load(tmp_path / "sweep")
    assert (cell.state, cell.reason) == ("missing", "it could not be planned")


def test_outputs_may_be_moved_with_their_sweeps(begun: tuple[Path, Store], tmp_path: Path) -> None:
    _, store = begun
    report(store, 1)
    store.root.rename(tmp_path / "elsewhere")
    assert [cell.state for cell in sweeps.load(tmp_path / "elsewhere" / "sweeps" / "first")].count("done") == 1


def test_a_finished_sweep_has_every_file_and_no_draft(begun: tuple[Path, Store]) -> None:
    place, store = begun
    for alpha in KEYS["soup.alpha"]:
        report(store, alpha, 1 + alpha)
    paths = sweeps.write(sweeps.load(place), place, "three alphas")
    names = {"sweep.json", "table.md", "table.csv", "table.parquet", "models.md", "models.csv"}
    names |= {"over_soup.alpha.png", "over_soup.alpha.svg"}
    assert {path.name for path in paths} == {path.name for path in place.iterdir()} == names
    assert "![over_soup.alpha.svg](over_soup.alpha.svg)" in (place / "table.md").read_text()
    assert "soup.alpha=0.5" in (place / "models.md").read_text()
    record = json.loads((place / "sweep.json").read_text())
    assert record["command"] == ["run.py", "-m", "soup.alpha=0,.5,1"]
    assert [cell["state"] for cell in record["cells"]] == ["done"] * 3
    assert "experiment" not in record["cells"][0]


def test_a_half_finished_sweep_can_be_collected_again_and_again(begun: tuple[Path, Store]) -> None:
    place, store = begun
    sweeps.write(sweeps.load(place), place, "three alphas")
    assert not (place / "models.md").exists()
    report(store, 0)
    sweeps.write(sweeps.load(place), place, "three alphas")
    first = contents(place)
    sweeps.write(sweeps.load(place), place, "three alphas")
    assert contents(place) == first, "equal cells give equal bytes"
    report(store, 1)
    sweeps.write(sweeps.load(place), place, "three alphas")
    assert [cell.state for cell in sweeps.load(place)] == ["done", "missing", "done"]


def contents(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.iterdir()}


def test_processes_may_write_the_same_folder(begun: tuple[Path, Store]) -> None:
    place, store = begun
    report(store, 0)
    # Spawned: a forked copy of a process with threads, such as pyarrow's, may hang.
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as processes:
        done = [processes.submit(collect, place) for _ in range(6)]
        for each in done:
            each.result()
    once = contents(place)
    sweeps.write(sweeps.load(place), place, "three alphas")
    assert contents(place) == once


def collect(place: Path) -> None:
    sweeps.write(sweeps.load(place), place, "three alphas")


def test_a_folder_may_be_written_without_a_record(tmp_path: Path) -> None:
    sweeps.write(sweep({"model/size": [1, 2]}), tmp_path, "title")
    assert (tmp_path / "over_model_size.png").is_file()
    with pytest.raises(ValueError, match="outputs is null"):
        sweeps.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda record: record.update(form=2), "form is 2, this version reads 1"),
        (lambda record: record.pop("cells"), "'cells' is missing"),
        (lambda record: record["cells"][0].pop("keys"), "'keys' is missing"),
        (lambda record: record.update(cells=3), "not iterable"),
    ],
)
def test_a_malformed_record_is_an_error_that_names_the_file(
    begun: tuple[Path, Store], change: Callable[[dict[str, Any]], Any], reason: str
) -> None:
    path = begun[0] / "sweep.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=reason) as raised:
        sweeps.load(begun[0])
    assert str(path) in str(raised.value)


def test_the_newest_sweep_is_the_one_started_last(begun: tuple[Path, Store]) -> None:
    place, store = begun
    second = place.with_name("another")
    sweeps.begin(second, "second", sweep(KEYS, missing=[0, 1, 2]), store.root, {})
    sweeps.write(sweeps.load(place), place, "three alphas")
    assert sweeps.newest(store.root) == second, "to collect a sweep is not to start it"
    with pytest.raises(FileNotFoundError, match="no sweep under"):
        sweeps.newest(store.root / "nowhere")
