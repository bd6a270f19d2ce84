import errno
import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipelines import plan as plan_module
from pipelines.ending import Terminated
from pipelines.plan import Plan
from pipelines.provenance import code_digest
from pipelines.runner import work
from pipelines.work import Work
from salsa.store.artifact import Store
from salsa.store.lock import StageLock
from salsa.training.interruption import Interrupted
from tests.pipelines.executions import execution


class FakeStages:
    """A kind of stage whose work is a function of the test; counts how often each name ran."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.seconds = 0.0
        self.errors: dict[str, BaseException] = {}

    def run(self, work: Work) -> tuple[str, dict[str, Any]]:
        name = work.stage.name
        self.runs[name] += 1
        time.sleep(self.seconds)
        if name in self.errors:
            raise self.errors[name]
        (work.folder / "out.txt").write_text(
            name + "".join(a.file("out.txt").read_text() for a in work.inputs.values())
        )
        work.progress(1, 1, "written")
        return f"wrote {name}", {"length": len(name)}


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> FakeStages:
    fake = FakeStages()
    module = ModuleType("pipelines.stages.fake")
    module.run = fake.run
    module.__file__ = __file__
    monkeypatch.setitem(sys.modules, "pipelines.stages.fake", module)
    monkeypatch.setitem(plan_module.VERSIONS, "fake", 1)
    return fake


def diamond() -> Plan:
    plan = Plan()
    top = plan.add("fake", "top", {"x": 1})
    left = plan.add("fake", "left", {"x": 2}, {"up": top})
    right = plan.add("fake", "right", {"x": 3}, {"up": top})
    plan.add("fake", "bottom", {"x": 4}, {"left": left, "right": right})
    return plan


def run(plan: Plan, folder: Path, **changes: Any) -> tuple[Counter[str], list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    state = work(plan, Store(folder), execution(folder, **changes), events.append)
    return Counter(state.values()), events


def test_every_stage_is_computed_once_and_then_found(stages: FakeStages, tmp_path: Path) -> None:
    assert run(diamond(), tmp_path)[0] == Counter(computed=4)
    assert run(diamond(), tmp_path)[0] == Counter(stored=4)
    assert set(stages.runs.values()) == {1}
    bottom = next(stage for stage in diamond() if stage.name == "bottom")
    artifact = Store(tmp_path).find("fake", bottom.fingerprint)
    assert artifact is not None
    assert artifact.file("out.txt").read_text() == "bottomlefttoprighttop"
    assert artifact.metrics == {"length": 6}
    assert artifact.verify() == []
    assert artifact.manifest["made_by"]["code_digest"] == code_digest()
    assert 1 < artifact.manifest["worker_peak_memory_mib"] < 2**20


def test_a_failure_blocks_what_depends_on_it_and_nothing_else(stages: FakeStages, tmp_path: Path) -> None:
    stages.errors["left"] = ValueError("left is broken")
    states, events = run(diamond(), tmp_path)
    assert states == Counter(computed=2, failed=1, blocked=1)
    failure = next(event for event in events if event["event"] == "failed")
    assert failure["error"] == "ValueError: left is broken"
    assert "Traceback" in Path(failure["record"]).read_text()
    stages.errors.clear()
    assert run(diamond(), tmp_path)[0] == Counter(stored=2, computed=2)


def test_a_stage_that_exits_is_a_failure_too(stages: FakeStages, tmp_path: Path) -> None:
    stages.errors["top"] = SystemExit(0)
    assert run(diamond(), tmp_path)[0] == Counter(failed=1, blocked=3)


def test_workers_side_by_side_share_the_stages_out(stages: FakeStages, tmp_path: Path) -> None:
    stages.seconds = 0.05
    plan = Plan()
    for index in range(8):
        plan.add("fake", f"stage {index}", {"index": index})
    threads = [threading.Thread(target=run, args=(plan, tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(stages.runs.values()) == {1}
    assert len(stages.runs) == 8


def test_what_one_worker_failed_at_another_of_the_command_does_not_try_again_but_tells(
    stages: FakeStages, tmp_path: Path
) -> None:
    stages.errors["top"] = ValueError("no")
    together = execution(tmp_path)
    told: list[list[dict[str, Any]]] = [[], []]
    for events in told:
        work(diamond(), Store(tmp_path), together, events.append)
    assert stages.runs["top"] == 1
    first, second = (next(event for event in events if event["event"] == "failed") for events in told)
    assert {key: second[key] for key in first} == first


def test_the_failure_of_one_command_is_not_that_of_another(stages: FakeStages, tmp_path: Path) -> None:
    """Two commands at the same time: the second one waits for the stage that the first one fails at."""
    first, second = execution(tmp_path), execution(tmp_path)
    stages.errors["top"] = ValueError("no")
    work(diamond(), Store(tmp_path), first, lambda event: None)
    stages.errors.clear()
    state = work(diamond(), Store(tmp_path), second, lambda event: None)
    assert Counter(state.values()) == Counter(computed=4)


@pytest.mark.parametrize("ending", [Terminated(), Interrupted("training was interrupted"), KeyboardInterrupt()])
def test_an_interruption_is_not_a_failure(stages: FakeStages, tmp_path: Path, ending: BaseException) -> None:
    stages.errors["left"] = ending
    with pytest.raises(type(ending)):
        run(diamond(), tmp_path)
    assert not (tmp_path / "failures").exists()
    assert not list((tmp_path / "temporary").iterdir())
    stages.errors.clear()
    assert run(diamond(), tmp_path)[0] == Counter(stored=1, computed=3)


def test_a_failure_that_cannot_be_noted_is_told_all_the_same(
    stages: FakeStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Store, "record_failure", full)
    stages.errors["top"] = ValueError("no")
    states, events = run(diamond(), tmp_path)
    assert states == Counter(failed=1, blocked=3)
    failure = next(event for event in events if event["event"] == "failed")
    assert failure["error"] == "ValueError: no"
    assert "could not be written" in failure["record"]


def test_what_a_stage_needs_for_itself_is_waited_for_without_an_attempt(stages: FakeStages, tmp_path: Path) -> None:
    """Another process has the judge: this one does what else there is, and takes the stage when the judge is free."""
    plan = Plan()
    judged = plan.add("fake", "judged", {"x": 1}, execution={"alone": "verdicts/.judge.lock"})
    plan.add("fake", "other", {"x": 2})
    events: list[dict[str, Any]] = []

    def emit(event: dict[str, Any]) -> None:
        events.append(event)
        if event["event"] == "waiting":
            lock.release()

    lock = StageLock(tmp_path / "verdicts" / ".judge.lock")
    with lock:
        state = work(plan, Store(tmp_path), execution(tmp_path), emit)
    assert Counter(state.values()) == Counter(computed=2)
    said = [(event["event"], event["stage"]) for event in events if event["event"] in ("started", "waiting")]
    assert said == [("started", "other"), ("waiting", "judged"), ("started", "judged")]
    assert next(event for event in events if event["event"] == "waiting")["owner"]["pid"] == os.getpid()
    artifact = Store(tmp_path).find("fake", judged.fingerprint)
    assert artifact is not None
    assert artifact.manifest["attempts"] == 1
    assert not (tmp_path / "failures").exists()


def test_what_a_process_that_died_elsewhere_had_is_not_waited_for(stages: FakeStages, tmp_path: Path) -> None:
    plan = Plan()
    plan.add("fake", "judged", {"x": 1}, execution={"alone": ".judge.lock"})
    (tmp_path / ".judge.lock.owner.json").write_text(json.dumps({"host": "elsewhere", "pid": 1, "since": 0}))
    states, events = run(plan, tmp_path)
    assert states == Counter(computed=1)
    assert "waiting" not in {event["event"] for event in events}
