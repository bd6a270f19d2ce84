"""Who is at work in a store, and what was begun there."""

from salsa.store.activity import holder, running, unfinished
from salsa.store.artifact import Store
from salsa.store.lock import StageLock
from tests.store.artifacts import FP, OTHER, publish


def test_nobody_is_at_work_in_an_empty_store(store: Store) -> None:
    assert running(store) == []
    assert holder(store, "sft", FP) is None
    assert list(unfinished(store)) == []
    assert not store.root.exists()


def test_a_held_lock_is_work_and_a_free_one_is_none(store: Store) -> None:
    with StageLock(store.lock_path("sft", FP)):
        (found,) = running(store)
        assert (found.kind, found.fingerprint) == ("sft", FP)
        assert str(found).startswith(f"sft {FP[:16]} is being worked on by process ")
        assert holder(store, "sft", FP) == found
        assert holder(store, "sft", OTHER) is None
    assert running(store) == []
    assert holder(store, "sft", FP) is None
    assert StageLock(store.lock_path("sft", FP)).try_acquire()


def test_a_note_that_a_killed_holder_left_is_no_work(store: Store) -> None:
    path = store.lock_path("sft", FP)
    path.parent.mkdir(parents=True)
    path.touch()
    path.with_name(f"{path.name}.owner.json").write_text('{"host": "elsewhere", "pid": 1, "since": 0}')
    assert running(store) == []


def test_what_was_begun_is_known_with_what_it_reads_if_an_attempt_noted_it(store: Store) -> None:
    publish(store, "sft", FP)
    store.unfinished("sft", FP)
    store.record_attempt("align", FP, {"name": "align SALSA", "inputs": {"init": OTHER}})
    store.record_attempt("align", FP, {})
    store.record_attempt("reward", OTHER, {"inputs": {"start": 3}})
    (store.root / "unfinished" / "notes").mkdir()
    (store.root / "unfinished" / "notes" / "mine").mkdir()
    align, reward = unfinished(store)
    assert (align.kind, align.fingerprint, align.name, align.inputs) == ("align", FP, "align SALSA", {"init": OTHER})
    assert (reward.kind, reward.name, reward.inputs) == ("reward", "reward", None)
    assert align.changed > 0
