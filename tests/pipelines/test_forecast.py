"""What is still to do, and how long it takes."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.forecast import Outlook, State, disk_bytes, survey, unknown_kinds, wall_seconds, work_seconds
from pipelines.plan import Plan, Stage
from salsa.store.artifact import Store
from salsa.store.lock import StageLock
from tests.pipelines.test_runner import FakeStages, diamond, run, stages

__all__ = ["stages"]


def outlook(name: str, seconds: float, *needs: str, state: State = State.waiting) -> Outlook:
    return Outlook(Stage("fake", name, {}, {need: need for need in needs}, {}, name), state, seconds, 10)


def test_a_chain_takes_as_long_with_any_number_of_workers() -> None:
    chain = [outlook("a", 1), outlook("b", 2, "a"), outlook("c", 3, "b")]
    assert wall_seconds(chain, 1) == wall_seconds(chain, 5) == work_seconds(chain) == 6


def test_what_does_not_depend_on_each_other_is_shared_out() -> None:
    independent = [outlook(name, 2) for name in "abcde"]
    assert [wall_seconds(independent, workers) for workers in (1, 2, 5, 9)] == [10, 6, 2, 2]


def test_what_is_stored_costs_nothing_and_frees_what_needs_it() -> None:
    plan = [outlook("a", 100, state=State.stored), outlook("b", 2, "a")]
    assert (wall_seconds(plan, 1), work_seconds(plan), disk_bytes(plan)) == (2, 2, 10)


@given(st.data())
def test_the_time_lies_between_its_bounds(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    workers = data.draw(st.integers(1, 4))
    graph = []
    longest: dict[str, float] = {}
    for index in range(count):
        needs = data.draw(st.lists(st.sampled_from(range(index)), unique=True)) if index else []
        seconds = data.draw(st.floats(0, 10))
        names = [str(need) for need in needs]
        graph.append(outlook(str(index), seconds, *names))
        longest[str(index)] = seconds + max((longest[name] for name in names), default=0.0)
    wall = wall_seconds(graph, workers)
    total = work_seconds(graph)
    assert max(max(longest.values()), total / workers) <= wall + 1e-9
    assert wall <= total + 1e-9


def test_states_and_usual_times_come_from_the_store(stages: FakeStages, tmp_path: Path) -> None:
    store = Store(tmp_path)
    names: dict[str, Any] = {}

    def states(plan: Plan) -> dict[str, State]:
        found = survey(plan, store)
        names.update({each.stage.name: each for each in found})
        return {each.stage.name: each.state for each in found}

    assert set(states(diamond()).values()) == {State.waiting}
    assert unknown_kinds(survey(diamond(), store)) == ["fake"]
    stages.errors["left"] = ValueError("no")
    run(diamond(), tmp_path)
    assert states(diamond()) == {
        "top": State.stored,
        "left": State.failed,
        "right": State.stored,
        "bottom": State.waiting,
    }
    assert names["left"].note == "ValueError: no"
    assert names["bottom"].seconds >= 0
    assert names["bottom"].size > 0
    bottom = next(stage for stage in diamond() if stage.name == "bottom")
    with StageLock(store.lock_path("fake", bottom.fingerprint)):
        assert states(diamond())["bottom"] is State.running
    assert states(diamond())["bottom"] is State.waiting


def test_a_stage_of_the_same_sizes_tells_more_than_any_of_its_kind(stages: FakeStages, tmp_path: Path) -> None:
    plan = Plan()
    stages.seconds = 0.2
    plan.add("fake", "long", {"steps": 100, "seed": 1})
    run(plan, tmp_path)
    stages.seconds = 0.0
    plan = Plan()
    plan.add("fake", "short", {"steps": 1, "seed": 1})
    run(plan, tmp_path)
    asked = Plan()
    asked.add("fake", "another short", {"steps": 1, "seed": 2})
    asked.add("fake", "another long", {"steps": 100, "seed": 2})
    short, long = survey(asked, Store(tmp_path))
    assert short.seconds is not None
    assert long.seconds is not None
    assert short.seconds < 0.1 < long.seconds


def test_damaged_manifests_are_no_history(stages: FakeStages, tmp_path: Path) -> None:
    run(diamond(), tmp_path)
    top = next(iter(diamond()))
    (tmp_path / "store" / "fake" / top.fingerprint / "manifest.json").write_text("{")
    assert survey(diamond(), Store(tmp_path))[0].state is State.stored


@pytest.mark.parametrize("workers", [0, 1])
def test_without_workers_of_its_own_a_command_is_one(workers: int) -> None:
    assert wall_seconds([outlook("a", 1), outlook("b", 1)], workers) == 2
