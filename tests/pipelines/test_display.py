"""What a person reads while an experiment runs and where it fails."""

import io
from typing import Any

from rich.console import Console

from pipelines.display import Display
from pipelines.plan import Plan


def shown(*events: dict[str, Any]) -> str:
    """Return what is printed where the output goes to a file."""
    plan = Plan()
    for index in range(10):
        plan.add("data", f"stage {index}", {"index": index})
    console = Console(file=io.StringIO(), width=60)
    with Display(plan, console) as display:
        for event in events:
            stage = list(plan)[event["stage"]]
            display.handle(event | {"stage": stage.name, "fingerprint": stage.fingerprint})
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
