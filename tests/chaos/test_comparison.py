"""The comparison finds what it is there to find, and finds nothing where nothing is wrong."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from salsa.store.artifact import Store
from salsa.store.lock import StageLock
from tests.chaos import comparison

ONE, TWO = "1" * 64, "2" * 64


def publish(outputs: Path, fingerprint: str, content: str, **manifest: Any) -> None:
    store = Store(outputs)
    folder = store.temporary("align", fingerprint)
    (folder / "weights").write_text(content)
    store.publish("align", fingerprint, folder, {"metrics": {"loss": 1.5}, "seconds": 1.0, **manifest})


@pytest.fixture
def outputs(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders with equal artifacts, made at other times."""
    for name, seconds in (("reference", 1.0), ("disturbed", 2.0)):
        for fingerprint in (ONE, TWO):
            publish(tmp_path / name, fingerprint, f"weights {fingerprint}", seconds=seconds)
    return tmp_path / "reference", tmp_path / "disturbed"


def fact(what: str, fingerprint: str = ONE, **values: Any) -> dict[str, Any]:
    return {"what": what, "kind": "align", "fingerprint": fingerprint, **values}


def test_equal_outputs_have_no_findings(outputs: tuple[Path, Path]) -> None:
    reference, disturbed = outputs
    assert comparison.differences(reference, disturbed) == []
    assert comparison.damages(disturbed) == []
    assert comparison.left_overs(disturbed) == []
    assert comparison.blocking_locks(disturbed) == []
    assert comparison.duplicates(disturbed, []) == []


def test_one_other_byte_at_publication_is_a_difference(outputs: tuple[Path, Path]) -> None:
    reference, disturbed = outputs
    shutil.rmtree(disturbed / "store/align" / ONE)
    publish(disturbed, ONE, f"Weights {ONE}")
    assert comparison.differences(reference, disturbed) == ["align 111111111111: files differs: weights"]


def test_another_metric_is_a_difference_and_another_time_is_none(outputs: tuple[Path, Path]) -> None:
    reference, disturbed = outputs
    shutil.rmtree(disturbed / "store/align" / ONE)
    publish(disturbed, ONE, f"weights {ONE}", metrics={"loss": 1.25}, started=5.0)
    assert comparison.differences(reference, disturbed) == ["align 111111111111: metrics differs: loss"]


def test_a_missing_and_a_foreign_artifact_are_differences(outputs: tuple[Path, Path]) -> None:
    reference, disturbed = outputs
    (disturbed / "store/align" / ONE).rename(disturbed / "store/align" / ("3" * 64))
    assert comparison.differences(reference, disturbed) == [
        "align 111111111111 is missing",
        "align 333333333333 is not in the undisturbed run",
    ]


def test_files_for_people_are_compared_but_for_the_start_of_a_sweep(outputs: tuple[Path, Path]) -> None:
    for folder, started in zip(outputs, (1.0, 2.0), strict=True):
        for path, text in (("experiments/a/table.md", "| 1 |"), ("sweeps/b/sweep.json", f'{{"started": {started}}}')):
            (folder / path).parent.mkdir(parents=True)
            (folder / path).write_text(text)
    assert comparison.shown_differences(*outputs) == []
    (outputs[1] / "experiments/a/table.md").write_text("| 2 |")
    (outputs[1] / "sweeps/b/sweep.json").write_text('{"started": 1, "jobs": 4}')
    assert comparison.shown_differences(*outputs) == ["experiments/a/table.md differs", "sweeps/b/sweep.json differs"]


def test_a_byte_changed_after_publication_is_damage(outputs: tuple[Path, Path]) -> None:
    disturbed = outputs[1]
    (disturbed / "store/align" / ONE / "weights").write_text("weightz")
    (disturbed / "store/align" / TWO / "more").write_text("")
    (disturbed / "store/align" / ("4" * 64)).mkdir()
    assert comparison.damages(disturbed) == [
        "align 111111111111: weights is damaged",
        "align 222222222222: more is in no manifest",
        f"store/align/{'4' * 64} has no manifest.json",
    ]


def test_a_second_publication_is_a_duplicate(outputs: tuple[Path, Path]) -> None:
    disturbed = outputs[1]
    facts = [fact("published", manifest="other"), fact("refused", TWO, manifest="more")]
    assert comparison.duplicates(disturbed, facts) == [
        "align 111111111111 was published 2 times",
        "align 222222222222 was computed again although it was stored",
    ]


def test_what_was_taken_for_damaged_is_told() -> None:
    facts = [fact("published", manifest="some"), fact("set aside", path="broken/x")]
    assert comparison.set_aside(facts) == ["align 111111111111: broken/x"]


def test_what_killed_processes_leave_is_found(outputs: tuple[Path, Path]) -> None:
    disturbed = outputs[1]
    for path in ("temporary/x", "unfinished/align/empty", "experiments/.draft-17"):
        (disturbed / path).mkdir(parents=True)
    for path in (f"unfinished/align/{ONE}/last.ckpt", f"failures/align/{ONE}.json", "locks/probe-host-17-ab.lock"):
        (disturbed / path).parent.mkdir(parents=True, exist_ok=True)
        (disturbed / path).write_text("")
    assert sorted(comparison.left_overs(disturbed)) == [
        "experiments/.draft-17",
        f"failures/align/{ONE}.json",
        "locks/probe-host-17-ab.lock",
        "temporary/x",
        f"unfinished/align/{ONE}/last.ckpt",
    ]


def test_a_lock_that_somebody_holds_blocks_and_the_note_of_a_dead_owner_does_not(outputs: tuple[Path, Path]) -> None:
    disturbed = outputs[1]
    store = Store(disturbed)
    dead = store.lock_path("align", TWO)
    dead.parent.mkdir()
    dead.write_text("")
    dead.with_name(f"{dead.name}.owner.json").write_text(json.dumps({"host": "here", "pid": 2**30}))
    with StageLock(store.lock_path("align", ONE)):
        assert comparison.blocking_locks(disturbed) == [f"align-{ONE}.lock"]
    assert comparison.blocking_locks(disturbed) == []


def test_work_may_be_begun_again_once_a_kill_and_no_more() -> None:
    facts = [fact("began"), fact("began"), fact("began"), fact("began", TWO), fact("began", TWO)]
    kills: list[dict[str, Any]] = [{"fingerprint": ONE}, {"fingerprint": "3" * 64, "also": [ONE, TWO]}]
    assert comparison.needless(facts, kills) == []
    assert comparison.needless(facts, kills[:1]) == [
        "align 111111111111 was begun 3 times and hit by 1 kills",
        "align 222222222222 was begun 2 times and hit by 0 kills",
    ]


def test_lost_work_is_counted_and_must_not_reach_behind_a_checkpoint() -> None:
    facts = [
        fact("trains", time=10.0),
        fact("resumed", time=20.0, steps=0, repeated=3, last=11.0),
        fact("trains", time=20.5),
        fact("saved", time=21.0, steps=5),
        fact("saved", TWO, time=22.0, steps=9),
        fact("resumed", time=30.0, steps=5, repeated=2, last=23.5),
        fact("trains", time=31.0),
        fact("resumed", time=40.0, steps=5, repeated=0, last=31.0),
    ]
    lost = comparison.lost_work(facts)
    assert (lost.resumed, lost.steps, lost.most_steps, lost.most_seconds, lost.beyond) == (3, 5, 3, 2.5, [])
    facts.append(fact("resumed", TWO, time=50.0, steps=8, repeated=1, last=45.0))
    assert comparison.lost_work(facts).beyond == ["align 222222222222 had a checkpoint of step 9 and went on from 8"]
