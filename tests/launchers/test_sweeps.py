"""Sweeps under the launchers, on this machine: what is shared is computed once, and a failed job stops no other."""

import pytest

from tests.launchers.commands import computed, finished, run, said, stored, table
from tests.launchers.conftest import First

pytestmark = pytest.mark.slow


def test_joblib_trains_what_two_jobs_share_once(first: First) -> None:
    outputs, done = first
    assert done.returncode == 0, done.stdout + done.stderr
    text = done.stdout
    assert f"{computed(text)} to run" in text
    shared = ("base", "sft_1", "sft_2", "preferences", "reward", "align PPO", "align SALSA")
    assert [finished(text)[stage] for stage in shared] == [1] * len(shared)
    assert "2 of 2" in text
    assert "soup.alpha" in table(outputs, text)
    assert "is validated against ConfigStore schema" not in done.stderr


@pytest.mark.parametrize(
    ("launcher", "arguments"),
    [
        ("joblib", ("policy.kl_coef=.1",)),
        ("ray", ("policy.kl_coef=.2", "hydra.launcher.ray.init.num_cpus=2")),
        ("submitit_local", ("policy.kl_coef=.3",)),
    ],
)
def test_a_failed_job_stops_no_other_and_the_command_fails(
    first: First, launcher: str, arguments: tuple[str, ...]
) -> None:
    outputs = first[0]
    before = stored(outputs)
    done = run(launcher, outputs, *arguments, "policy.learning_rate=1e30,1e-4")
    text = said(done, outputs)
    assert done.returncode == 1, text + done.stderr
    assert computed(text) == stored(outputs) - before > 0
    assert "1 of 2" in text
    written = table(outputs, text)
    assert "1e+30" in written
    assert "align" in written
    assert "Traceback" not in text


def test_identical_workers_share_one_plan_under_ray(first: First) -> None:
    outputs = first[0]
    before = stored(outputs)
    done = run("ray", outputs, "policy.kl_coef=.5", "worker=0,1", "hydra.launcher.ray.init.num_cpus=2")
    text = said(done, outputs)
    assert done.returncode == 0, text + done.stderr
    assert text.count("stages computed") == 2
    assert computed(text) == stored(outputs) - before > 0
    assert set(finished(text).values()) == {1}
    assert "1 of 1 experiments" in table(outputs, text)
