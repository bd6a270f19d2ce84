"""Why a stage is not in the store: the differences to its nearest relative."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.store.artifact import Store
from salsa.store.comparison import ABSENT, Difference, differences, leaves, nearest
from tests.store.artifacts import FP, OTHER, again, numbered, place

CONFIG = {"steps": 10, "optimiser": {"learning_rate": 1e-3, "betas": [0.9, 0.95]}, "data": {"source": "zoo"}}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 2.5]) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)
CONFIGS = st.dictionaries(st.text("abc", min_size=1, max_size=2), VALUES, max_size=4)


def test_each_leaf_that_differs_is_named() -> None:
    theirs = {"steps": 20, "optimiser": {"learning_rate": 1e-3, "betas": [0.9, 0.99]}, "seed": 0}
    found = differences(CONFIG, {"base": FP, "data": OTHER}, theirs, {"base": OTHER, "extra": FP})
    assert found == [
        Difference("steps", 10, 20),
        Difference("optimiser.betas[1]", 0.95, 0.99),
        Difference("data.source", "zoo", ABSENT),
        Difference("inputs.base", FP, OTHER),
        Difference("inputs.data", OTHER, ABSENT),
        Difference("seed", ABSENT, 0),
        Difference("inputs.extra", ABSENT, FP),
    ]
    assert str(found[2]) == "data.source: 'zoo', there absent"


@pytest.mark.parametrize(
    ("ours", "theirs", "differ"),
    [
        (1, 1.0, True),
        (1, True, True),
        ("1", 1, True),
        (0.0, -0.0, False),
        ((1, 2), [1, 2], False),
        ((), [], False),
        ({}, [], True),
        ({}, None, True),
        ([1], [1, 2], True),
    ],
)
def test_values_differ_as_they_do_in_a_fingerprint(ours: Any, theirs: Any, differ: bool) -> None:
    assert bool(differences({"key": ours}, {}, {"key": theirs}, {})) is differ


@given(ours=CONFIGS, theirs=CONFIGS)
def test_differences_are_the_same_from_both_sides_and_none_to_oneself(ours: Any, theirs: Any) -> None:
    assert differences(ours, {"base": FP}, ours, {"base": FP}) == []
    there = {each.key: (each.ours, each.theirs) for each in differences(ours, {}, theirs, {})}
    back = {each.key: (each.theirs, each.ours) for each in differences(theirs, {}, ours, {})}
    assert there == back


@given(ours=CONFIGS, theirs=CONFIGS)
def test_putting_their_values_in_place_of_ours_gives_theirs(ours: Any, theirs: Any) -> None:
    merged = dict(leaves(ours)) if ours else {}
    for each in differences(ours, {}, theirs, {}):
        merged.pop(each.key, None)
        if each.theirs is not ABSENT:
            merged[each.key] = each.theirs
    expected = dict(leaves(theirs)) if theirs else {}
    assert {key: repr(value + 0.0 if type(value) is float else value) for key, value in merged.items()} == {
        key: repr(value + 0.0 if type(value) is float else value) for key, value in expected.items()
    }


def test_the_nearest_artifact_has_the_fewest_differences(store: Store) -> None:
    far = place(store, 1, {"base": 9}, config=CONFIG | {"steps": 20, "data": {"source": "files"}})
    near = place(store, 2, {"base": 9}, config=CONFIG | {"steps": 30})
    found = nearest([far, near], CONFIG, {"base": numbered(9)})
    assert found == (near, [Difference("steps", 10, 30)])
    both = CONFIG | {"steps": 20, "data": {"source": "hub"}}
    assert nearest([far, near], both, {"base": numbered(9)}) == (far, [Difference("data.source", "hub", "files")])


def test_of_several_that_are_as_near_the_newest_is_taken(store: Store) -> None:
    artifacts = [
        place(store, number, config=CONFIG | {"steps": number}, started=float(t))
        for number, t in ((1, 100), (2, 300), (3, 200))
    ]
    found = nearest(artifacts, CONFIG, {})
    assert found is not None
    assert found[0] == artifacts[1]


def test_a_stage_that_only_its_version_tells_apart_has_no_differences(store: Store) -> None:
    artifact = place(store, 1, config=CONFIG, version=1)
    assert nearest([artifact], CONFIG, {}) == (artifact, [])


def test_broken_manifests_are_passed_over(store: Store) -> None:
    artifacts = [place(store, number, config=CONFIG) for number in range(1, 7)]
    manifests = [artifact.path / "manifest.json" for artifact in artifacts]
    manifests[0].write_text("{")
    manifests[1].unlink()
    manifests[2].write_text('{"files": {}}')
    manifests[3].write_text('{"files": {}, "config": 1, "inputs": {}}')
    manifests[4].write_text('{"files": {}, "config": {}, "inputs": null}')
    found = nearest(map(again, artifacts), CONFIG, {})
    assert found is not None
    assert found[0] == artifacts[5]
    assert nearest(map(again, artifacts[:5]), CONFIG, {}) is None
    assert nearest([], CONFIG, {}) is None


def test_folders_without_a_manifest_are_not_searched_for_one(tmp_path: Path) -> None:
    assert nearest(Store(tmp_path).artifacts("sft"), CONFIG, {}) is None
