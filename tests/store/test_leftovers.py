"""What the dead left is removed, and nothing else."""

import os

import pytest

from salsa.store.artifact import Store
from salsa.store.leftovers import ABANDONED, CHECKPOINTS, found, sweep
from salsa.store.lock import StageLock
from tests.store.artifacts import FP, OTHER, dead_pid, publish


def test_cleaning_removes_what_the_dead_left_and_nothing_else(store: Store) -> None:
    host, pid = os.uname().nodename, dead_pid()
    base = store.root / "temporary"
    dead = base / f"sft-{FP}-{host}-{pid}-0a1b2c3d"
    kept = [
        store.temporary("sft", FP),
        base / f"sft-{FP}-another-host-{pid}-0a1b2c3d",
        base / f"sft-{OTHER}-{host}-{pid}-0a1b2c3d",
        base / "notes",
    ]
    for folder in (dead, *kept[1:]):
        folder.mkdir()
    lock = StageLock(store.lock_path("sft", OTHER))
    with lock:  # somebody works there, whatever its process number seems to say
        assert store.clean_temporary() == [dead]
        assert sorted(base.iterdir()) == sorted(kept)
    assert store.clean_temporary() == [kept[2]]


def test_cleaning_removes_checkpoints_of_published_artifacts_only(store: Store) -> None:
    publish(store)
    needless, needed = store.unfinished("sft", FP), store.unfinished("sft", OTHER)
    assert store.clean_temporary() == [needless]
    assert needed.exists()


def test_failure_notes_of_published_stages_go_and_others_stay(store: Store) -> None:
    kept = store.record_failure("sft", OTHER, {"error": "e"})
    publish(store)
    needless = store.record_failure("sft", FP, {"error": "e"})  # as a kill in the middle of publish leaves it
    assert store.clean_temporary() == [needless]
    assert kept.exists()


def test_checkpoints_stay_while_somebody_works_on_the_stage(store: Store) -> None:
    publish(store)
    folder = store.unfinished("sft", FP)
    with StageLock(store.lock_path("sft", FP)):
        assert store.clean_temporary() == []
        assert folder.exists()
    assert store.clean_temporary() == [folder]


def test_checkpoints_of_what_is_set_aside_between_look_and_sweep_stay(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store)
    checkpoints = store.unfinished("sft", FP)
    acquire = StageLock.try_acquire

    def late(lock: StageLock) -> bool:
        store.set_aside("sft", FP, "another process was here")
        return acquire(lock)

    monkeypatch.setattr(StageLock, "try_acquire", late)
    assert store.clean_temporary() == []
    assert checkpoints.exists()


def test_each_leftover_has_a_reason_and_a_size(store: Store) -> None:
    publish(store)
    folder = store.unfinished("sft", FP)
    (folder / "deep").mkdir()
    (folder / "deep" / "last.ckpt").write_text("x" * 100)
    (folder / "note").write_text("x")
    (leftover,) = found(store)
    assert (leftover.what, leftover.bytes) == (CHECKPOINTS, 101)
    assert (leftover.kind, leftover.fingerprint) == ("sft", FP)


def test_checkpoints_that_nobody_has_touched_for_long_are_leftovers_only_if_asked(store: Store) -> None:
    old, new = store.unfinished("sft", FP), store.unfinished("sft", OTHER)
    (old / "last.ckpt").write_text("x")
    for path in (old / "last.ckpt", old):
        os.utime(path, (1e9, 1e9))
    assert found(store) == []
    assert [leftover.path for leftover in found(store, 86400.0)] == [old]
    with StageLock(store.lock_path("sft", FP)):
        assert sweep(store, 86400.0) == []
    assert [leftover.what for leftover in sweep(store, 86400.0)] == [ABANDONED]
    assert not old.exists()
    assert new.exists()
