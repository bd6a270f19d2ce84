"""How many worker processes a job has, and which GPU each of them sees."""

import os
from dataclasses import replace
from typing import Any

import pytest

from pipelines import workers
from pipelines.configuration import Accelerator, Compute
from pipelines.workers import VISIBLE, cores, environments, visible_gpus
from tests.pipelines.compose import config


def compute(**changes: Any) -> Compute:
    return replace(config().compute, **changes)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_up(count: int, *gpus: str) -> None:
        monkeypatch.setattr(workers, "cores", lambda: count)
        monkeypatch.setattr(workers, "visible_gpus", lambda: list(gpus))

    return set_up


def test_on_cpus_there_is_a_worker_a_core_up_to_a_bound(machine: Any) -> None:
    machine(2, "0", "1", "2")
    assert environments(compute(), False) == [{}, {}], "the small scale stays on CPUs where there are GPUs"
    machine(64)
    assert len(environments(compute(), False)) == workers.MOST
    machine(6)
    assert len(environments(compute(threads=4), False)) == 1
    assert len(environments(compute(threads=16), False)) == 1


def test_each_gpu_has_a_worker_that_sees_no_other(machine: Any) -> None:
    machine(16, "2", "5")
    for accelerator in (Accelerator.gpu, Accelerator.auto):
        assert environments(compute(accelerator=accelerator), False) == [{VISIBLE: "2"}, {VISIBLE: "5"}]
    machine(16, "0")
    assert environments(compute(accelerator=Accelerator.gpu), False) == [{}]
    assert len(environments(compute(accelerator=Accelerator.gpu, workers=3), False)) == 3


def test_a_job_beside_others_has_one_worker(machine: Any) -> None:
    machine(16)
    assert environments(compute(), True) == [{}]
    assert len(environments(compute(workers=3), True)) == 3
    assert environments(compute(workers=0), False) == []


def test_the_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert cores() == 3


def test_the_gpus_are_those_that_a_scheduler_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "gpu_problem", lambda: "")
    monkeypatch.setenv(VISIBLE, "1,3")
    assert visible_gpus() == ["1", "3"]
    monkeypatch.setattr(workers, "gpu_problem", lambda: "this machine has none")
    assert visible_gpus() == []
