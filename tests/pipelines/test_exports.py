"""Reports where people look for them."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines.exports import export, exported, sound
from salsa.store.artifact import Artifact, Store
from salsa.store.lock import StageLock

FINGERPRINT = "a" * 64


@pytest.fixture
def report(tmp_path: Path) -> Artifact:
    store = Store(tmp_path)
    folder = store.temporary("report", FINGERPRINT)
    (folder / "experiment.json").write_text("{}")
    (folder / "table.md").write_text("table")
    return store.publish("report", FINGERPRINT, folder, {"metrics": {}})


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_report_is_copied_once_and_left_alone_then(report: Artifact, tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = export(report, store)
    assert names(folder) == {"experiment.json", "table.md"}
    (folder / "notes.txt").write_text("mine")
    assert export(report, store) == folder
    assert names(folder) == {"experiment.json", "table.md", "notes.txt"}
    assert not list((tmp_path / "temporary").iterdir())


def test_a_folder_without_its_main_file_is_moved_away_and_kept(report: Artifact, tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = export(report, store)
    (folder / "notes.txt").write_text("mine")
    (folder / "experiment.json").unlink()
    assert names(export(report, store)) == {"experiment.json", "table.md"}
    assert names(folder.with_name(f"{folder.name}.incomplete-1")) == {"notes.txt", "table.md"}


def test_what_another_process_has_copied_meanwhile_is_left_alone(
    report: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one is done between this one's look and its rename."""
    store = Store(tmp_path)
    real = shutil.copytree

    def late(*given: Any, **named: Any) -> Any:
        monkeypatch.setattr(shutil, "copytree", real)
        other = export(report, store)
        (other / "notes.txt").write_text("mine")
        return real(*given, **named)

    monkeypatch.setattr(shutil, "copytree", late)
    folder = export(report, store)
    assert names(folder) == {"experiment.json", "table.md", "notes.txt"}
    assert names(folder.parent) == {folder.name}
    assert not list((tmp_path / "temporary").iterdir())


def test_a_damaged_report_is_set_aside_with_its_copy(report: Artifact, tmp_path: Path) -> None:
    store = Store(tmp_path)
    said: list[str] = []
    assert sound(store, "report", FINGERPRINT, said.append) == report
    export(report, store)
    (report.path / "table.md").write_text("tabel")
    assert sound(store, "report", FINGERPRINT, said.append) is None
    assert store.find("report", FINGERPRINT) is None
    assert not exported(report, tmp_path).exists()
    (place,) = (path for path in (tmp_path / "broken").iterdir() if path.is_dir())
    assert (place / "table.md").read_text() == "tabel"
    assert "the report is damaged" in said[0]


def test_a_damaged_report_is_never_shown_while_somebody_else_holds_it(
    report: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    (report.path / "table.md").write_text("tabel")
    lock = StageLock(store.lock_path("report", FINGERPRINT))
    assert lock.try_acquire()
    waited: list[float] = []

    def released(seconds: float) -> None:
        waited.append(seconds)
        lock.release()

    monkeypatch.setattr("pipelines.exports.time.sleep", released)
    assert sound(store, "report", FINGERPRINT, lambda text: None) is None
    assert len(waited) == 1
