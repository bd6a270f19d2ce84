"""Bad days of one worker: errors that pass, errors that do not, inputs that are damaged on the disk."""

import errno
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipelines import runner
from pipelines.failure import hopeless, out_of_memory, passing, repeated
from pipelines.tracking import TrackedRun
from pipelines.work import Work
from salsa.store.artifact import Artifact, Store
from tests.pipelines.test_runner import FakeStages, diamond, run, stages

__all__ = ["stages"]


@pytest.fixture(autouse=True)
def _no_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "BACK_OFF_SECONDS", 0.0)


class Failing:
    """Raises errors one after the other at a stage's tries, then lets it be."""

    def __init__(self, stages: FakeStages, name: str, *errors: BaseException) -> None:
        self.left, self.name, self.run = list(errors), name, stages.run
        self.tries: list[Work] = []

    def __call__(self, work: Work) -> tuple[str, dict[str, Any]]:
        if work.stage.name == self.name:
            self.tries.append(work)
            if self.left:
                raise self.left.pop(0)
        return self.run(work)


def install(stages: FakeStages, monkeypatch: pytest.MonkeyPatch, *errors: BaseException, name: str = "left") -> Failing:
    failing = Failing(stages, name, *errors)
    monkeypatch.setattr(sys.modules["pipelines.stages.fake"], "run", failing)
    return failing


def told(events: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == name]


def test_an_error_that_passes_is_tried_again(
    stages: FakeStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = install(stages, monkeypatch, OSError(errno.EIO, "Input/output error"), OSError(errno.ESTALE, "stale"))
    states, events = run(diamond(), tmp_path)
    assert states == Counter(computed=4)
    assert len(failing.tries) == 3
    assert [event["error"].split("]")[0] for event in told(events, "retry")] == [
        "OSError: [Errno 5",
        "OSError: [Errno 116",
    ]
    assert not list(tmp_path.glob("failures/*/*"))


def test_tries_are_bounded(stages: FakeStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = install(stages, monkeypatch, *(OSError(errno.EIO, "Input/output error") for _ in range(9)))
    assert run(diamond(), tmp_path, retries=2)[0] == Counter(computed=2, failed=1, blocked=1)
    assert len(failing.tries) == 3


def test_what_runs_out_of_memory_is_tried_with_smaller_passes(
    stages: FakeStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = install(stages, monkeypatch, MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert run(diamond(), tmp_path, micro_batch_tokens=64)[0] == Counter(computed=4)
    assert [work.execution.micro_batch_tokens for work in failing.tries] == [64, 32, 16]
    left = next(stage for stage in diamond() if stage.name == "left")
    artifact = Store(tmp_path).find("fake", left.fingerprint)
    assert artifact is not None
    assert artifact.manifest["made_by"]["micro_batch_tokens"] == 16
    assert artifact.manifest["attempts"] == 3


@pytest.mark.parametrize("error", [ValueError("no"), OSError(errno.ENOSPC, "No space left on device"), SystemExit(3)])
def test_an_error_that_will_not_pass_is_not_tried_again(
    stages: FakeStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    failing = install(stages, monkeypatch, error)
    assert run(diamond(), tmp_path)[0] == Counter(computed=2, failed=1, blocked=1)
    assert len(failing.tries) == 1


def test_a_stage_that_fails_twice_alike_is_left_alone_until_it_is_asked_for(
    stages: FakeStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = install(stages, monkeypatch, ValueError("no"), ValueError("no"))
    for _ in range(2):
        assert run(diamond(), tmp_path)[0]["failed"] == 1
    states, events = run(diamond(), tmp_path)
    assert states["failed"] == 1
    assert len(failing.tries) == 2
    (failed,) = told(events, "failed")
    assert failed["error"].startswith("ValueError: no (failed 2 times alike at the same step, not tried again; ")
    assert "compute.retry_failed=true" in failed["error"]
    assert run(diamond(), tmp_path, retry_failed=True)[0] == Counter(stored=2, computed=2)


def test_another_code_or_another_failure_is_another_try() -> None:
    first = {"error": "ValueError: no", "step": 7, "code_digest": "a", "times": 2}
    assert hopeless(first, "a")
    assert not hopeless(first, "b")
    assert not hopeless(first | {"passing": True}, "a")
    assert not hopeless(None, "a")
    assert repeated(first, "ValueError: no", 7, "a") == 3
    for error, step, code in (("ValueError: other", 7, "a"), ("ValueError: no", 8, "a"), ("ValueError: no", 7, "b")):
        assert repeated(first, error, step, code) == 1


def test_errors_are_known_through_what_wraps_them() -> None:
    wrapped = RuntimeError("while reading")
    wrapped.__cause__ = OSError(errno.EIO, "Input/output error")
    assert passing(wrapped)
    assert not passing(OSError(errno.ENOSPC, "full"))
    assert out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not out_of_memory(ValueError("out of memory"))


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [damage, Path.unlink, lambda path: damage(path.with_name("manifest.json"))])
def test_a_damaged_input_is_set_aside_and_made_again(stages: FakeStages, tmp_path: Path, harm: Any) -> None:
    run(diamond(), tmp_path)
    store = Store(tmp_path)
    by_name = {stage.name: stage for stage in diamond()}
    bottom, left = (store.find("fake", by_name[name].fingerprint) for name in ("bottom", "left"))
    assert bottom is not None
    assert left is not None
    content = left.file("out.txt").read_bytes()
    store.set_aside("fake", bottom.fingerprint, "as if it had never been")
    harm(left.path / "out.txt")
    states, events = run(diamond(), tmp_path)
    assert states == Counter(stored=2, computed=2)
    (broken,) = told(events, "broken")
    assert broken["stage"] == "left"
    assert Path(broken["place"]).is_dir(), "what is left of it is kept"
    again = store.find("fake", left.fingerprint)
    assert again is not None
    assert again.verify() == []
    assert again.file("out.txt").read_bytes() == content
    assert stages.runs == Counter(top=1, left=2, right=1, bottom=2)


def test_damage_that_nobody_reads_costs_nothing(stages: FakeStages, tmp_path: Path) -> None:
    run(diamond(), tmp_path)
    top = next(iter(diamond()))
    damage(tmp_path / "store" / "fake" / top.fingerprint / "out.txt")
    assert run(diamond(), tmp_path)[0] == Counter(stored=4)


def test_what_fails_after_publication_is_no_failure_of_the_stage(
    stages: FakeStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def breaking(*_: Any) -> Iterator[TrackedRun]:
        yield TrackedRun()
        raise ConnectionResetError(errno.ECONNRESET, "the tracker is gone")

    monkeypatch.setattr(runner, "track", breaking)
    assert run(diamond(), tmp_path)[0] == Counter(computed=4)
    assert set(stages.runs.values()) == {1}
    assert not list(tmp_path.glob("failures/*/*"))


def test_a_disk_that_damages_whatever_it_stores_is_a_failure(
    stages: FakeStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Artifact, "verify", lambda self, advance=None: ["out.txt"])
    states, events = run(diamond(), tmp_path)
    assert states == Counter(computed=1, failed=2, blocked=1)
    assert "is the disk in order?" in told(events, "failed")[0]["error"]


def test_a_hiccup_outside_of_the_stages_is_waited_for(
    stages: FakeStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [OSError(errno.ESTALE, "Stale file handle") for _ in range(3)]
    find = Store.find

    def flaky(self: Store, kind: str, fingerprint: str) -> Artifact | None:
        if left:
            raise left.pop()
        return find(self, kind, fingerprint)

    monkeypatch.setattr(Store, "find", flaky)
    assert run(diamond(), tmp_path)[0] == Counter(computed=4)


def test_an_unreadable_note_of_a_failure_stops_nobody(stages: FakeStages, tmp_path: Path) -> None:
    top = next(iter(diamond()))
    note = tmp_path / "failures" / "fake" / f"{top.fingerprint}.json"
    note.parent.mkdir(parents=True)
    note.write_text("{")
    assert run(diamond(), tmp_path)[0] == Counter(computed=4)
