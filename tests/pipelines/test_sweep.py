"""A multirun as a whole: refused before its first job where one cannot run, planned, and collected at its end."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines import sweep as sweep_module
from pipelines.ending import Terminated
from pipelines.sweep import _launch, _with_reason
from salsa.report.sweep.cells import Cell
from tests.pipelines.compose import CONF


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "run.py", *arguments], cwd=CONF.parent, capture_output=True, text=True, check=False
    )


def planned(outputs: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return command("-m", f"outputs.dir={outputs}", "logger=none", "plan=true", *arguments)


def jobs(outputs: Path) -> list[str]:
    return sorted(path.name for path in outputs.glob("logs/*/*") if path.is_dir())


def test_a_bad_value_of_a_later_job_is_told_before_the_first_starts(tmp_path: Path) -> None:
    done = planned(tmp_path, "policy.kl_coef=.1,-1", "soup.alpha=.5,2")
    assert done.returncode == 1
    assert jobs(tmp_path) == []
    first, second, third, last = done.stderr.strip().splitlines()
    assert first.startswith("error ")
    assert first.endswith(
        "policy.kl_coef=0.1 soup.alpha=2: soup.alpha=2.0: is the weight of SFT2 and must be in [0, 1] (0 is plain PPO)"
    )
    assert all("policy.kl_coef must not be negative" in line or "soup.alpha=2.0" in line for line in (second, third))
    assert last == "3 of 4 jobs cannot run; none was started"
    assert "to run" not in done.stdout


def test_batches_of_jobs_are_checked_together(tmp_path: Path) -> None:
    done = planned(tmp_path, "policy.kl_coef=.1,-1", "hydra.sweeper.max_batch_size=1")
    assert done.returncode == 1
    assert jobs(tmp_path) == []
    assert "1 of 2 jobs cannot run" in done.stderr


def test_what_cannot_be_composed_is_told_by_hydra_once(tmp_path: Path) -> None:
    done = planned(tmp_path, "policy.init=soup,sft_9")
    assert done.returncode == 1
    assert jobs(tmp_path) == []
    assert done.stderr.count("Invalid value 'sft_9'") == 1
    assert "1 of 2 jobs cannot run; none was started" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_rule_that_only_a_later_job_has_is_imported_before_the_first_starts(tmp_path: Path) -> None:
    rules = ("{good: {_target_: tests.rules.brief}}", "{bad: {_target_: tests.rules.breif}}")
    done = command("-m", f"outputs.dir={tmp_path}", "logger=none", f"policy.rewards.rules={','.join(rules)}")
    assert done.returncode == 1
    assert jobs(tmp_path) == []
    assert "policy.rewards.rules.bad" in done.stderr
    assert "1 of 2 jobs cannot run; none was started" in done.stderr


def test_missing_values_and_files_of_any_job_are_told_before_the_first(tmp_path: Path) -> None:
    done = planned(tmp_path, "policy.steps=3,???")
    assert done.returncode == 1
    assert "no value for policy.steps" in done.stderr
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"prompt": "why ?", "chosen": "so .", "rejected": "no ."}) + "\n")
    arguments = ("data=files", "judge=reward_model", "suite=files")
    done = planned(tmp_path, *arguments, f"data.preferences=[{pairs}],[{tmp_path}/missing.jsonl]")
    assert done.returncode == 1
    assert f"data.preferences[0]: no file {tmp_path}/missing.jsonl" in done.stderr
    assert "1 of 2 jobs cannot run" in done.stderr
    assert planned(tmp_path, *arguments, f"data.preferences=[{pairs}]").returncode == 0


def test_a_sweep_is_planned_as_one_graph(tmp_path: Path) -> None:
    done = planned(tmp_path, "policy.kl_coef=.1,.2", "soup.alpha=0,.5", "worker=0,1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert jobs(tmp_path) == [], "no job is started"
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.startswith(" ")}
    # 8 jobs, two workers on each of 4 experiments; alpha = 0 is plain PPO, and "SFT2 alone" does not know alpha.
    assert rows["base"][:3] == ["8", "1", "1"]
    assert rows["sft"][:3] == ["16", "2", "2"]
    assert rows["soup"][1] == "1"
    assert rows["align"][1] == str(2 * (2 + 2))
    assert rows["report"][1] == "4"
    assert "8 jobs ask for" in done.stdout
    assert "nothing is known yet of the time of: align" in done.stdout


def test_why_tells_what_differs_from_what_there_is(tmp_path: Path) -> None:
    done = planned(tmp_path, "seed=0,1", "why=sft_1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("sft_1") == 2
    assert "to run; no sft has been made yet" in done.stdout
    assert "why=nothing: no such stage; give a kind, a fingerprint or one of: base, sft_1" in command(
        f"outputs.dir={tmp_path}", "why=nothing"
    ).stdout.replace("\n", " ")


def test_what_stops_a_sweep_is_a_sentence(tmp_path: Path) -> None:
    done = planned(tmp_path, "seed=0,1", "why=nothing")
    assert done.returncode == 1
    assert "error why=nothing: no such stage" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    done = planned(tmp_path, "plan=true,false")
    assert "outputs.dir, plan and why hold for a whole sweep" in done.stderr
    (tmp_path / "format.json").write_text('{"format": 9}')
    done = planned(tmp_path, "seed=0,1")
    assert done.returncode == 1
    assert "format" in done.stdout
    assert not (tmp_path / "sweeps").exists()


def test_the_reason_of_a_job_is_used_where_the_store_knows_none(tmp_path: Path) -> None:
    cell = Cell(3, {"seed": 1}, "0" * 64, None, "missing", "nobody works on it")
    assert _with_reason(cell, tmp_path) is cell
    (tmp_path / "3").mkdir()
    note = tmp_path / "3" / "result.json"
    note.write_text(json.dumps({"experiment": None, "overrides": ["seed=1"], "error": "no GPU"}))
    assert (_with_reason(cell, tmp_path).state, _with_reason(cell, tmp_path).reason) == ("failed", "no GPU")
    running = Cell(3, {"seed": 1}, "0" * 64, None, "running", "align SALSA is being worked on")
    assert _with_reason(running, tmp_path) is running


class Launcher:
    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error

    def launch(self, batch: Any, initial_job_idx: int) -> list[str]:
        if self.error is not None:
            raise self.error
        return [f"job {initial_job_idx + number}" for number, _ in enumerate(batch)]


def test_a_launcher_that_ends_early_does_not_end_the_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    console = sweep_module.make_console()
    assert _launch(Launcher(), [["a=1"], ["a=2"]], 3, console) == ["job 3", "job 4"]
    assert _launch(Launcher(RuntimeError("a worker is gone")), [["a=1"]], 0, console) == []
    assert _launch(Launcher(SystemExit(0)), [["a=1"]], 0, console) == []
    printed = capsys.readouterr().out
    assert "the launcher ended early: RuntimeError: a worker is gone" in printed
    assert "the launcher ended early, with code 0" in printed


@pytest.mark.parametrize(
    ("ending", "code"),
    [(SystemExit(130), 130), (SystemExit(143), 143), (KeyboardInterrupt(), 130), (Terminated(), 143)],
)
def test_the_users_own_ending_ends_the_sweep(ending: BaseException, code: int) -> None:
    with pytest.raises(SystemExit) as ended:
        _launch(Launcher(ending), [["a=1"]], 0, sweep_module.make_console())
    assert ended.value.code == code


def test_output_that_nobody_reads_ends_the_command_quietly(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "run.py", f"outputs.dir={tmp_path}", "logger=none", "plan=true"],
        cwd=CONF.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    printed = process.stderr.read()
    assert process.wait() == 141
    assert printed == ""


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
