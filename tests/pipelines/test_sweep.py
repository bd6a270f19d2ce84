"""What a multirun shows of its jobs, those that failed included."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.sweep import collect
from tests.pipelines.compose import CONF


def job(folder: Path, number: int, **result: object) -> None:
    output = folder / str(number)
    (output / ".hydra").mkdir(parents=True)
    (output / ".hydra" / "overrides.yaml").write_text(f"- seed={number}\n")
    if result:
        (output / "result.json").write_text(json.dumps({"overrides": [f"seed={number}"], "error": None} | result))


def test_jobs_come_in_their_order_and_those_without_a_result_are_missing(tmp_path: Path) -> None:
    sweep_folder = tmp_path / "sweep"
    for number in (10, 2):
        experiment = tmp_path / f"experiment {number}"
        experiment.mkdir()
        (experiment / "experiment.json").write_text(json.dumps({"number": number}))
        job(sweep_folder, number, experiment=str(experiment))
    job(sweep_folder, 3, experiment=None, error="failed: sft_1")
    job(sweep_folder, 4)
    job(sweep_folder, 5, experiment=None)
    (sweep_folder / "multirun.yaml").touch()
    sweep = collect(sweep_folder)
    assert sweep.experiments == [{"number": 2, "overrides": ["seed=2"]}, {"number": 10, "overrides": ["seed=10"]}]
    assert sweep.missing[0] == ("seed=3", "failed: sft_1")
    overrides, reason = sweep.missing[1]
    assert overrides == "seed=4"
    assert str(sweep_folder / "4") in reason
    assert len(sweep.missing) == 2


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "run.py", *arguments], cwd=CONF.parent, capture_output=True, text=True, check=False
    )


def test_a_failed_job_is_told_at_the_end_and_by_the_exit_code(tmp_path: Path) -> None:
    # Values that cannot work end a multirun before its first job; a file that is missing is found by its job.
    pairs, missing = tmp_path / "pairs.jsonl", tmp_path / "missing.jsonl"
    pairs.write_text(json.dumps({"prompt": "why ?", "chosen": "so .", "rejected": "no ."}) + "\n")
    arguments = ("-m", f"outputs.dir={tmp_path}", "plan=true", "logger=none", "data=files", "judge=reward_model")
    arguments += ("suite=files",)
    done = command(*arguments, f"data.preferences=[{missing}],[{pairs}]")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "to run" in done.stdout, "the other job must run"
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("missing ")
    assert f"data.preferences=[{missing}]: data.preferences[0]: no file {missing}" in last
    (table,) = tmp_path.glob("logs/*/table.md")
    assert f"data.preferences=[{missing}]" in table.read_text()
    assert command(*arguments, f"data.preferences=[{pairs}]").returncode == 0


@pytest.mark.parametrize("mode", [[], ["-m"]])
def test_outputs_that_cannot_be_written_are_a_sentence(tmp_path: Path, mode: list[str]) -> None:
    (tmp_path / "file").touch()
    done = command(*mode, f"outputs.dir={tmp_path}/file/outputs")
    assert done.returncode == 1
    assert "Not a directory; choose another folder with outputs.dir=FOLDER" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_store_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "digests.json").mkdir()
    (tmp_path / "locks").touch()
    (tmp_path / "temporary").symlink_to(tmp_path / "temporary")
    done = command(f"outputs.dir={tmp_path}", "logger=none", "compute.workers=0")
    assert done.returncode == 1
    assert f"error {tmp_path}/" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
