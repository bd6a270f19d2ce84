import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from salsa.report.sweep import command
from salsa.report.sweep import folder as sweeps
from salsa.store.artifact import Store
from tests.report.sweep.factory import experiment, fingerprint, sweep


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers(required=True))
    return command.run(parser.parse_args(["sweep", *arguments]))


def publish(outputs: Path, keys: dict[str, Any]) -> None:
    store = Store(outputs)
    place = store.temporary("report", fingerprint(keys))
    (place / "experiment.json").write_text(json.dumps(experiment(keys, 1.25)))
    store.publish("report", fingerprint(keys), place, {})


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    cells = sweep({"soup.alpha": [0.0, 1.0]}, missing=[0, 1])
    for name in ("older", "newer"):
        sweeps.begin(tmp_path / "outputs" / "sweeps" / name, f"the {name} sweep", cells, tmp_path / "outputs", {})
    publish(tmp_path / "outputs", {"soup.alpha": 0.0})
    return tmp_path / "outputs"


def test_a_half_finished_sweep_is_shown_written_and_ends_with_3(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--outputs", str(outputs)) == 3
    printed = capsys.readouterr().out
    assert printed.startswith("the newer sweep\n1 of 2 experiments, 1 missing\n")
    assert "missing soup.alpha=1: nobody works on it" in printed
    assert (outputs / "sweeps" / "newer" / "table.parquet").is_file()
    assert not (outputs / "sweeps" / "older" / "table.md").exists()


def test_a_complete_sweep_ends_with_0(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(outputs, {"soup.alpha": 1.0})
    assert run(str(outputs / "sweeps" / "older")) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("the older sweep\n2 of 2 experiments\n")
    assert str(outputs / "sweeps" / "older") in printed


def test_json_is_for_programs(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--outputs", str(outputs), "--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["title"], found["complete"]) == ("the newer sweep", False)
    assert [cell["state"] for cell in found["cells"]] == ["done", "missing"]
    means = [(row["soup.alpha"], row["judge"]) for row in found["rows"] if row["suite"] == "mean"]
    assert means == [(0.0, 1.25), (1.0, None)]


def test_a_folder_that_cannot_be_written_is_still_shown(
    outputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "table.md")

    monkeypatch.setattr(sweeps, "write", refuse)
    assert run("--outputs", str(outputs)) == 3
    captured = capsys.readouterr()
    assert "1 of 2 experiments" in captured.out
    assert "the tables could not be written: [Errno 13] Permission denied: 'table.md'" in captured.err


def test_what_is_no_sweep_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--outputs", str(tmp_path)) == 1
    assert run(str(tmp_path)) == 1
    (tmp_path / "sweep.json").write_text("[]")
    assert run(str(tmp_path)) == 1
    none, missing, malformed = capsys.readouterr().err.splitlines()
    assert none.startswith(f"error no sweep under {tmp_path / 'sweeps'}; `python run.py -m` makes one")
    assert missing == f"error {tmp_path} has no sweep.json: it is not the folder of a sweep"
    assert malformed.startswith(f"error {tmp_path / 'sweep.json'} is not the record of a sweep")


def test_the_parser_needs_no_library(tmp_path: Path) -> None:
    heavy = ("torch", "numpy", "matplotlib", "pyarrow", "rich", "wandb")
    code = f"import sys, salsa.report.sweep.command; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
