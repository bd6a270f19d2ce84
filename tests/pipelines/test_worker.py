"""Workers as real processes that get real signals; their stages are fakes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipelines.plan import VERSIONS, Plan
from pipelines.pool import Pool, WorkerDied
from salsa.store.artifact import Store
from salsa.store.lock import StageLock
from tests.pipelines.executions import execution

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "tests.pipelines.fake_worker")


def job(folder: Path, *does: str) -> dict[str, Any]:
    VERSIONS["fake"] = 1
    plan = Plan()
    for what in does:
        plan.add("fake", what, {"does": what})
    return {"plan": plan.to_json(), "execution": execution(folder).to_json()}


@contextmanager
def at_work(folder: Path, what: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a worker and wait until it is in the middle of a stage."""
    process = subprocess.Popen(COMMAND, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(job(folder, what)) + "\n")
        process.stdin.flush()
        while json.loads(process.stdout.readline())["event"] != "progress":
            pass
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def assert_nothing_is_blamed(folder: Path) -> None:
    """No failure is noted, nothing is left in the way of the next run."""
    assert not (folder / "failures").exists()
    assert not list((folder / "temporary").iterdir())
    for lock in (folder / "locks").glob("*.lock"):
        assert StageLock(lock).try_acquire()


def test_sigterm_ends_a_stage_at_once(tmp_path: Path) -> None:
    with at_work(tmp_path, "sleep") as process:
        process.terminate()
        assert process.wait(timeout=5) == 143
    assert_nothing_is_blamed(tmp_path)


def test_sigterm_ends_a_training_after_it_has_saved(tmp_path: Path) -> None:
    with at_work(tmp_path, "train") as process:
        process.terminate()
        assert process.wait(timeout=5) == 143
    assert len(list(tmp_path.glob("unfinished/fake/*/saved"))) == 1
    assert_nothing_is_blamed(tmp_path)


def test_ctrl_c_is_left_to_the_command(tmp_path: Path) -> None:
    with at_work(tmp_path, "train") as process:
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)


def test_an_orphan_stops_at_once_and_saves(tmp_path: Path) -> None:
    with at_work(tmp_path, "train") as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=5) == 143
    assert len(list(tmp_path.glob("unfinished/fake/*/saved"))) == 1
    assert_nothing_is_blamed(tmp_path)


def test_a_broken_pipe_is_not_the_failure_of_a_stage(tmp_path: Path) -> None:
    with at_work(tmp_path, "talk") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=5) == 143
    assert_nothing_is_blamed(tmp_path)


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Pool]:
    monkeypatch.setattr("pipelines.pool.COMMAND", COMMAND)
    pool = Pool([{}, {}], tmp_path / "logs")
    yield pool
    pool.close()


def processes(pool: Pool) -> "list[subprocess.Popen[str]]":
    return [worker.process for worker in pool._workers]


def run(pool: Pool, job: dict[str, Any]) -> tuple[dict[str, str], list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    given_up: list[str] = []

    def give_up(started: dict[str, Any], reason: str, step: int | None) -> None:
        given_up.append(f"{started['stage']} at {step}: {reason}")
        store = Store(Path(job["execution"]["outputs"]))
        store.record_failure(started["kind"], started["fingerprint"], {"error": reason, "run": job["execution"]["run"]})

    state = pool.run(job, events.append, lambda: None, give_up)
    return state, [*events, *({"event": "given up", "says": text} for text in given_up)]


def test_a_stage_of_a_killed_worker_is_done_by_another(pool: Pool, tmp_path: Path) -> None:
    state, events = run(pool, job(tmp_path, "die_once", "nothing"))
    assert set(state.values()) <= {"computed", "stored"}
    assert len(state) == 2
    assert [event["event"] for event in events].count("died") == 1
    # The next job of a sweep does without it.
    assert run(pool, job(tmp_path, "nothing"))[0].keys() <= state.keys()


def test_a_stage_that_kills_its_workers_fails_and_the_others_are_done(pool: Pool, tmp_path: Path) -> None:
    state, events = run(pool, job(tmp_path, "die", "nothing"))
    assert sorted(state.values()) in (["computed", "failed"], ["failed", "stored"])
    told = [event["says"] for event in events if event["event"] == "given up"]
    assert told[0] == "die at 1: the worker process died 2 times at the same place: signal 9 (out of memory?)"
    assert all(process.poll() is None for process in processes(pool)), "the next job must find workers"


def test_a_stage_that_gets_further_each_time_is_resumed_as_often_as_it_takes(pool: Pool, tmp_path: Path) -> None:
    state, events = run(pool, job(tmp_path, "die_at_each_step"))
    assert set(state.values()) <= {"computed", "stored"}
    assert [event["event"] for event in events].count("died") == 4


def test_what_ends_a_worker_outside_of_stages_is_told(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "locks").touch()
    with pytest.raises(WorkerDied, match=r"File exists: .*/locks.*; logs: .*worker_1\.log"):
        run(pool, job(tmp_path, "nothing"))


def test_a_worker_that_cannot_be_written_to_counts_as_dead(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = processes(pool)[0]
    dead.kill()
    dead.wait()
    monkeypatch.setattr(dead, "poll", lambda: None)  # as it is in the moment before the death is known
    state, _ = run(pool, job(tmp_path, "nothing"))
    assert set(state.values()) <= {"computed", "stored"}


def test_closing_ends_the_workers_side_by_side_and_lets_them_save(pool: Pool, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    begun = []

    def until_both_work(event: dict[str, Any]) -> None:
        begun.append(event["event"])
        if begun.count("progress") == 2:
            raise Stopped

    with pytest.raises(Stopped):
        pool.run(job(tmp_path, "train", "sleep"), until_both_work, lambda: None, lambda *_: None)
    started = time.monotonic()
    pool.close()
    assert time.monotonic() - started < 5
    assert [process.returncode for process in processes(pool)] == [143, 143]
    assert len(list(tmp_path.glob("unfinished/fake/*/saved"))) == 1
    assert_nothing_is_blamed(tmp_path)


COMMAND_THAT_IS_KILLED = """
import os, signal, sys
from pathlib import Path
import pipelines.pool
from pipelines.pool import Pool
from tests.pipelines.test_worker import COMMAND, job, processes

def handle(event):
    if event["event"] == "progress":
        print(*(process.pid for process in processes(pool)), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

pipelines.pool.COMMAND = COMMAND
pool = Pool([{}, {}], Path(sys.argv[1]) / "logs")
pool.run(job(Path(sys.argv[1]), "train"), handle, lambda: None, print)
"""


def test_the_workers_of_a_killed_command_end(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COMMAND_THAT_IS_KILLED, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    workers = [int(number) for number in done.stdout.split()]
    deadline = time.monotonic() + 5
    while any(_running(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_running(worker) for worker in workers)
    assert_nothing_is_blamed(tmp_path)


def _running(pid: int) -> bool:
    """Return whether a process is there and has not ended; one that nobody has waited for yet has."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
