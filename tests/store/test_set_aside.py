"""A broken artifact is moved out of the way by one process, kept, and made anew."""

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from salsa.store.artifact import Store
from tests.store.artifacts import FP, OTHER, publish, written


def test_a_broken_artifact_is_kept_elsewhere_with_the_reason(store: Store) -> None:
    artifact = publish(store)
    (artifact.path / "result").write_text("R")
    place = store.set_aside("sft", FP, "damaged: result")
    assert place == store.root / "broken" / f"sft-{FP}-1"
    assert sorted(path.name for path in place.iterdir()) == ["manifest.json", "result"]
    assert (place / "result").read_text() == "R"
    note = json.loads((store.root / "broken" / f"sft-{FP}-1.json").read_text())
    assert (note["kind"], note["fingerprint"], note["reason"]) == ("sft", FP, "damaged: result")
    assert (note["host"], note["pid"]) == (os.uname().nodename, os.getpid())
    assert abs(note["time"] - time.time()) < 3600
    assert store.find("sft", FP) is None
    assert publish(store).verify() == []


def test_the_same_artifact_broken_again_takes_the_next_number(store: Store) -> None:
    for number in (1, 2, 3):
        (publish(store).path / "result").write_text(str(number))
        assert store.set_aside("sft", FP, "again") == store.root / "broken" / f"sft-{FP}-{number}"
    kept = [store.root / "broken" / f"sft-{FP}-{number}" / "result" for number in (1, 2, 3)]
    assert [path.read_text() for path in kept] == ["1", "2", "3"]


def test_what_is_not_there_cannot_be_set_aside(store: Store) -> None:
    assert store.set_aside("sft", FP, "why") is None
    publish(store)
    assert store.set_aside("sft", OTHER, "why") is None
    assert store.set_aside("reward", FP, "why") is None
    assert list((store.root / "broken").iterdir()) == []
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        store.set_aside("sft", "../x", "why")


def test_an_artifact_without_a_manifest_is_set_aside_as_well(store: Store) -> None:
    artifact = publish(store)
    (artifact.path / "manifest.json").unlink()
    place = store.set_aside("sft", FP, "no manifest")
    assert place is not None
    assert (place / "result").read_text() == "r"


def test_of_many_that_set_aside_at_once_one_moves_it(store: Store) -> None:
    for _ in range(20):
        publish(store)
        barrier = threading.Barrier(4)

        def one(_: int, barrier: threading.Barrier = barrier) -> Path | None:
            barrier.wait(10)
            return store.set_aside("sft", FP, "at once")

        with ThreadPoolExecutor(4) as pool:
            places = [place for place in pool.map(one, range(4)) if place is not None]
        assert len(places) == 1
        assert (places[0] / "result").read_text() == "r"


def test_a_place_that_another_process_takes_since_the_look_is_left_to_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store)
    theirs = store.root / "broken" / f"sft-{FP}-1"
    exists = os.path.lexists

    def overtaken(path: Path) -> bool:
        there = exists(path)
        if not exists(theirs):
            theirs.mkdir()
            (theirs / "result").write_text("theirs")
        return there

    monkeypatch.setattr(os.path, "lexists", overtaken)
    assert store.set_aside("sft", FP, "why") == store.root / "broken" / f"sft-{FP}-2"
    assert (theirs / "result").read_text() == "theirs"


def test_work_that_was_begun_does_not_mind(store: Store) -> None:
    publish(store)
    checkpoints = store.unfinished("sft", OTHER)
    left = written(store, {"result": "half"}, "sft", OTHER)
    store.set_aside("sft", FP, "why")
    assert checkpoints.is_dir()
    assert (left / "result").read_text() == "half"


def test_what_was_set_aside_is_listed_the_latest_last(store: Store) -> None:
    assert list(store.broken()) == []
    places = []
    for _ in range(11):
        publish(store)
        places.append(store.set_aside("sft", FP, "why"))
    publish(store, "align", OTHER)
    places.insert(0, store.set_aside("align", OTHER, "why"))
    (store.root / "broken" / "notes").mkdir()
    assert [artifact.path for artifact in store.broken()] == places
    assert {(artifact.kind, artifact.fingerprint) for artifact in store.broken()} == {("sft", FP), ("align", OTHER)}
