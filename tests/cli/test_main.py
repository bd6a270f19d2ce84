"""`salsa`: help at once, exit codes that programs can trust."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from salsa.cli import COMMANDS, main
from salsa.store import command
from salsa.store.artifact import Store

ROOT = Path(__file__).parents[2]
SLOW_MODULES = ("torch", "transformers", "rich", "numpy", "hydra", "filelock")


def test_help_names_every_command_and_imports_nothing_slow() -> None:
    script = f"""
import sys
from salsa.cli import main
try:
    main(["--help"])
except SystemExit as ending:
    print("code", ending.code)
print("slow", [name for name in {SLOW_MODULES!r} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert "code 0" in done.stdout
    assert "slow []" in done.stdout
    assert all(name in done.stdout for name in COMMANDS)


def test_the_script_answers_in_a_process_of_its_own(store: Store) -> None:
    arguments = [sys.executable, "-m", "salsa.cli", "store", "list", "--json", "--outputs", str(store.root)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert len(json.loads(done.stdout)["artifacts"]) == 5
    assert done.stderr == ""


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_reader_that_has_seen_enough_ends_it_quietly(store: Store, form: list[str]) -> None:
    arguments = [sys.executable, "-m", "salsa.cli", "store", "list", "--outputs", str(store.root), *form]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 1


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["dance"],
        ["store"],
        ["store", "dance"],
        ["store", "show"],
        ["store", "remove"],
        ["store", "list", "--sort", "colour"],
        ["store", "list", "--older-than", "soon"],
    ],
)
def test_wrong_usage_is_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(words)
    assert ending.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "usage: salsa" in captured.err


def test_an_interrupt_is_code_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run", interrupt)
    assert main(["store", "list"]) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["--version"])
    assert ending.value.code == 0
    assert capsys.readouterr().out.startswith("salsa ")
