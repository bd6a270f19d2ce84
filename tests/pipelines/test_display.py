"""What a person reads while an experiment runs and where it fails."""

import io
from typing import Any

import pytest
from rich.console import Console

from pipelines import display as display_module
from pipelines.display import Display
from pipelines.plan import Plan


def shown(*events: dict[str, Any], terminal: bool = False) -> str:
    """Return what is printed where the output goes to a file, or what is left of it on a terminal."""
    plan = Plan()
    for index in range(10):
        plan.add("data", f"stage {index}", {"index": index})
    console = Console(file=io.StringIO(), width=60, force_terminal=terminal)
    with Display(plan, console) as display:
        for event in events:
            stage = list(plan)[event["stage"]]
            display.handle(event | {"stage": stage.name, "fingerprint": stage.fingerprint})
        bars = [task.description for task in display._bars.tasks]
        assert len(bars) == len(set(bars))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def failed(stage: int, error: str) -> dict[str, Any]:
    return {"event": "failed", "stage": stage, "error": error, "record": f"/somewhere/{'x' * 60}/{stage}.json"}


def blocked(stage: int) -> dict[str, Any]:
    return {"event": "blocked", "stage": stage}


def test_what_failed_is_told_in_one_piece_with_the_place_of_its_traceback() -> None:
    text = shown(failed(0, "DataError: pairs.jsonl:12 is [bad], and this is a long line that is not wrapped by us"))
    assert "DataError: pairs.jsonl:12 is [bad], and this is a long line that is not wrapped by us\n" in text
    assert f"/somewhere/{'x' * 60}/0.json\n" in text


def test_the_same_error_is_told_once() -> None:
    text = shown(failed(0, "too long"), failed(1, "too long"), failed(2, "other"))
    assert text.count("too long") == 1
    assert "for the same reason as stage 0" in text
    assert text.count("traceback and details") == 2


def test_blocked_stages_are_summed_up_in_one_line() -> None:
    text = shown(failed(0, "no"), *(blocked(stage) for stage in (1, 2, 3, 4, 5, 5, 5)))
    assert text.count("blocked") == 1
    assert "5 stages" in text
    assert "stage 1, stage 2, stage 3, stage 4, ..." in " ".join(text.split())


def test_a_failure_told_by_two_workers_is_told_once() -> None:
    text = shown(failed(0, "no"), failed(0, "no"))
    assert text.count("failed") == 1
    assert "for the same reason" not in text


WAITING = {"event": "waiting", "stage": 0, "owner": {"pid": 7, "host": "here"}}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display_module, "WAIT_NOTICE_SECONDS", 0.0)


@pytest.mark.usefixtures("impatient")
def test_only_the_work_of_other_commands_is_waited_for() -> None:
    started = {"event": "started", "stage": 0, "worker": 1}
    assert "process 7 on here" in shown(WAITING)
    assert "process 7 on here" not in shown(started, WAITING)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("terminal", [False, True])
def test_a_stage_taken_over_from_a_dead_worker_is_shown_once(terminal: bool) -> None:
    first, second = ({"event": "started", "stage": 0, "worker": worker} for worker in (1, 2))
    died = {"event": "died", "stage": 0, "during": "stage 0", "worker": 1, "log": "worker_1.log", "why": "signal 9"}
    assert "worker 1 ended early" in shown(first, died, second, WAITING, terminal=terminal)
    assert "process 7 on here" in shown(first, died, WAITING, terminal=terminal)
    # The news may come in another order: what counts is that there is one bar.
    assert "process 7 on here" not in shown(first, second, died, WAITING, terminal=terminal)
