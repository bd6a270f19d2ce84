import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from salsa.report.compendium import command
from salsa.store.artifact import Store
from tests.report.compendium import factory


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers(required=True))
    return command.run(parser.parse_args(["report", *arguments]))


def test_it_writes_the_page_where_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    factory.models(Store(tmp_path / "o"))
    assert run("--outputs", str(tmp_path / "o")) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'o' / 'report.html'}\n"
    assert run("--outputs", str(tmp_path / "o"), "--out", str(tmp_path / "new" / "p.html")) == 0
    assert (tmp_path / "new" / "p.html").read_bytes() == (tmp_path / "o" / "report.html").read_bytes()


def test_an_empty_folder_ends_with_1_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--outputs", str(tmp_path)) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"salsa report: {tmp_path}: there are no results; ")
    assert "python run.py" in error


def test_no_folder_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--outputs", str(tmp_path / "none")) == 2
    assert "there is no such folder; give the outputs.dir of the runs" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    factory.models(Store(tmp_path / "o"))
    (tmp_path / "file").write_text("")
    assert run("--outputs", str(tmp_path / "o"), "--out", str(tmp_path / "file" / "p.html")) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_help_needs_no_drawing_and_the_page_no_torch(tmp_path: Path) -> None:
    factory.everything(tmp_path)
    script = (
        "import sys; from salsa.cli import main\n"
        "try: main(['report', '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'matplotlib', 'rich'} & set(sys.modules)\n"
        f"assert main(['report', '--outputs', {str(tmp_path)!r}]) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--outputs DIR" in done.stdout
