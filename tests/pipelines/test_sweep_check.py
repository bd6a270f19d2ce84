"""A multirun with a job that cannot run ends before its first job."""

import subprocess
import sys
from pathlib import Path

from tests.pipelines.compose import CONF


def sweep(outputs: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "run.py", "-m", f"outputs.dir={outputs}", "logger=none", "plan=true", *arguments],
        cwd=CONF.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def jobs(outputs: Path) -> list[str]:
    return sorted(path.name for path in outputs.glob("logs/*/*") if path.is_dir())


def test_a_bad_value_of_a_later_job_is_told_before_the_first_starts(tmp_path: Path) -> None:
    done = sweep(tmp_path, "policy.kl_coef=.1,-1", "soup.alpha=.5,2")
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
    done = sweep(tmp_path, "policy.kl_coef=.1,-1", "hydra.sweeper.max_batch_size=1")
    assert done.returncode == 1
    assert jobs(tmp_path) == []
    assert "1 of 2 jobs cannot run" in done.stderr


def test_what_cannot_be_composed_is_told_by_hydra_once(tmp_path: Path) -> None:
    done = sweep(tmp_path, "policy.init=soup,sft_9")
    assert done.returncode == 1
    assert jobs(tmp_path) == []
    assert done.stderr.count("Invalid value 'sft_9'") == 1
    assert "Traceback" not in done.stderr


def test_a_sweep_of_good_values_runs(tmp_path: Path) -> None:
    done = sweep(tmp_path, "policy.kl_coef=.1,.2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert jobs(tmp_path) == ["0", "1"]
