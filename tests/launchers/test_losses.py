"""Jobs whose process is lost, and what their launcher and their scheduler make of it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from submitit.core.utils import DelayedSubmission, JobPaths

from pipelines import launchers
from pipelines.launchers import fail_at_exit, starts_again
from salsa.store.lock import gone, this_process
from tests.launchers.commands import ROOT


def lose_one(launcher: str, folder: Path, then: str, *overrides: str, seconds: int = 10) -> str:
    """Run the sweep of `losses`; return what it says: the error, and how many jobs had ended before and after."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.launchers.losses", launcher, str(folder), then, *overrides],
        cwd=ROOT,
        env={**os.environ, "SECONDS": str(seconds)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if "Error" in line][-1]


def begun(folder: Path, number: int) -> tuple[int, str]:
    """Return the process of a job, and the GPUs that it was given."""
    pid, _, gpus = (folder / f"began_{number}").read_text().partition(" ")
    return int(pid), gpus


@pytest.mark.slow
def test_the_rest_of_submitits_jobs_is_waited_for(tmp_path: Path) -> None:
    assert lose_one("submitit_local", tmp_path, "rest") == "UncompletedJobError 0 2"


@pytest.mark.slow
def test_ray_assigns_gpus_and_the_rest_of_its_jobs_is_waited_for(tmp_path: Path) -> None:
    # Ray believes what it is told of GPUs: there are none here.
    resources = ("init.num_cpus=3", "init.num_gpus=3", "remote.num_gpus=1", "remote.max_retries=0")
    options = [f"hydra.launcher.ray.{resource}" for resource in resources]
    assert lose_one("ray", tmp_path, "rest", *options) == "WorkerCrashedError 0 2"
    assert sorted(begun(tmp_path, number)[1] for number in range(3)) == ["0", "1", "2"]


@pytest.mark.slow
def test_submitits_jobs_on_this_machine_end_with_the_command(tmp_path: Path) -> None:
    assert lose_one("submitit_local", tmp_path, "end", seconds=60) == "UncompletedJobError 0 0"
    host = this_process()["host"]
    deadline = time.monotonic() + 10
    while not all(gone(host, begun(tmp_path, number)[0]) for number in range(3)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert all(gone(host, begun(tmp_path, number)[0]) for number in range(3))
    assert not list(tmp_path.glob("ended_*"))


def test_who_starts_a_job_again() -> None:
    assert starts_again("hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher")
    assert starts_again("hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher")
    assert not starts_again("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher")
    assert not starts_again("hydra._internal.core_plugins.basic_launcher.BasicLauncher")


def failing_job() -> str:
    """Fail as a job does: Hydra makes a result of it, and the process would end well."""
    fail_at_exit()
    return "a result"


def passing_job() -> str:
    return "a result"


@pytest.mark.parametrize(("job", "code"), [(failing_job, 1), (passing_job, 0)])
def test_a_scheduler_sees_a_failed_job_as_failed_and_its_result_is_kept(tmp_path: Path, job: object, code: int) -> None:
    assert callable(job)
    paths = JobPaths(tmp_path, "7", 0)
    submission = DelayedSubmission(job)
    submission.set_timeout(1, 0)
    submission.dump(paths.submitted_pickle)
    done = subprocess.run(
        [sys.executable, "-m", "submitit.core._submit", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "7"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert paths.result_pickle.is_file()
    assert "Exiting after successful completion" in done.stdout


def test_other_processes_end_as_they_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUBMITIT_EXECUTOR", raising=False)
    fail_at_exit()
    assert not launchers._failed
