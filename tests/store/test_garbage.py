"""Garbage is exactly what no kept result needs."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salsa.store.artifact import Store
from salsa.store.garbage import GarbageError, check_removable, collect, kept_results, warnings
from salsa.store.leftovers import ABANDONED
from salsa.store.lineage import Lineage
from salsa.store.lock import StageLock
from salsa.store.removal import removed
from tests.store.artifacts import numbered, place
from tests.store.test_lineage import graphs, reachable


def exported(store: Store, number: int) -> Path:
    folder = store.root / "experiments" / numbered(number)[:16]
    folder.mkdir(parents=True)
    return folder


def names(*numbers: int) -> set[str]:
    return {numbered(number) for number in numbers}


@settings(max_examples=60, deadline=None)
@given(graph=graphs(), data=st.data())
def test_all_that_roots_need_stays_and_all_else_goes(graph: dict[int, dict[str, int]], data: st.DataObject) -> None:
    reports = data.draw(st.sets(st.sampled_from(sorted(graph))))
    kept_reports = data.draw(st.sets(st.sampled_from(sorted(reports)))) if reports else set()
    named = data.draw(st.sets(st.sampled_from(sorted(graph))))
    read = data.draw(st.sets(st.sampled_from(sorted(graph))))
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        for number, inputs in graph.items():
            place(store, number, inputs, "report" if number in reports else "sft")
        for number in kept_reports:
            exported(store, number)
        store.record_attempt("align", "e" * 64, {"inputs": {str(number): numbered(number) for number in read}})
        lineage = Lineage(store.artifacts())
        garbage = collect(store, lineage, kept_results(store, lineage, map(numbered, named)))
        list(removed(store, garbage.removed))
        left = {artifact.fingerprint for artifact in store.artifacts()}
        assert all(artifact.verify() == [] for artifact in store.artifacts())
    needed = set().union(*(reachable(graph, number) for number in kept_reports | named | read))
    assert left == garbage.kept == names(*needed)


def test_reports_are_kept_while_their_experiment_is_there(store: Store) -> None:
    for number in (1, 2):
        place(store, number, kind="report")
    folder = exported(store, 1)
    lineage = Lineage(store.artifacts())
    assert kept_results(store, lineage) == {numbered(1): f"experiments/{numbered(1)[:16]} is there"}
    folder.rmdir()
    assert kept_results(store, lineage) == {}


def test_what_is_new_or_named_is_kept_with_what_it_needs(store: Store) -> None:
    place(store, 1)
    place(store, 2, {"base": 1}, started=2e9)
    place(store, 3)
    place(store, 4)
    lineage = Lineage(store.artifacts())
    roots = kept_results(store, lineage, [numbered(3)], published_after=1.5e9)
    assert roots == {numbered(2): "it is new", numbered(3): "it was named"}
    garbage = collect(store, lineage, roots)
    assert garbage.kept == names(1, 2, 3)
    assert [artifact.fingerprint for artifact in garbage.removed] == [numbered(4)]


def test_a_needed_manifest_that_is_unreadable_ends_the_collection(store: Store) -> None:
    place(store, 1)
    (place(store, 2, {"base": 1}).path / "manifest.json").write_text("{")
    place(store, 3, {"model": 2}, kind="report")
    exported(store, 3)
    lineage = Lineage(store.artifacts())
    with pytest.raises(GarbageError, match=rf"verify --set-aside {numbered(2)[:16]}"):
        collect(store, lineage, kept_results(store, lineage))


def test_an_unreadable_artifact_that_nothing_needs_is_left_alone(store: Store) -> None:
    (place(store, 1).path / "manifest.json").write_text("{")
    place(store, 2, kind="report")
    exported(store, 2)
    lineage = Lineage(store.artifacts())
    garbage = collect(store, lineage, kept_results(store, lineage))
    assert garbage.removed == []
    assert [artifact.fingerprint for artifact in garbage.unreadable] == [numbered(1)]
    assert any(numbered(1)[:16] in warning and "left alone" in warning for warning in warnings(garbage))


def test_a_store_without_a_kept_result_is_not_emptied(store: Store) -> None:
    place(store, 1)
    garbage = collect(store, Lineage(store.artifacts()), {})
    assert len(garbage.removed) == 1
    with pytest.raises(GarbageError, match=r"no result is kept.*--keep"):
        check_removable(garbage)


def test_nothing_is_removed_while_somebody_is_at_work(store: Store) -> None:
    place(store, 1)
    place(store, 2, kind="report")
    exported(store, 2)
    lineage = Lineage(store.artifacts())
    roots = kept_results(store, lineage)
    with StageLock(store.lock_path("align", "e" * 64)):
        garbage = collect(store, lineage, roots)
        with pytest.raises(GarbageError, match="align eeeeeeeeeeeeeeee is being worked on by process"):
            check_removable(garbage)
        assert any("is being worked on" in warning for warning in warnings(garbage))
    check_removable(collect(store, lineage, roots))


def test_unfinished_stages_keep_what_they_read_until_they_are_given_up(store: Store) -> None:
    place(store, 1)
    place(store, 2, kind="report")
    exported(store, 2)
    store.record_attempt("align", "e" * 64, {"inputs": {"init": numbered(1)}})
    lineage = Lineage(store.artifacts())
    roots = kept_results(store, lineage)
    assert collect(store, lineage, roots, idle_seconds=3600.0).kept == names(1, 2)
    given_up = collect(store, lineage, roots, idle_seconds=0.0)
    assert given_up.kept == names(2)
    assert [leftover.what for leftover in given_up.leftovers] == [ABANDONED]
    assert given_up.unfinished == []


def test_an_unfinished_stage_of_which_nothing_is_known_is_told(store: Store) -> None:
    place(store, 1)
    store.unfinished("align", "e" * 64)
    told = warnings(collect(store, Lineage(store.artifacts()), {}))
    assert any("align eeeeeeeeeeeeeeee is unfinished, and what it reads is not known" in line for line in told)
