"""The graph of artifacts: what is needed, what is affected, and in which order things can go."""

import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st

from salsa.store.artifact import Store
from salsa.store.lineage import Lineage
from tests.store.artifacts import again, edit_manifest, numbered, place

NODES = 8


@st.composite
def graphs(draw: st.DrawFn) -> dict[int, dict[str, int]]:
    """Return the inputs of each number: only smaller ones, as what is made comes later; some not in the store."""
    present = draw(st.sets(st.integers(0, NODES - 1), min_size=1))
    return {
        number: draw(st.dictionaries(st.sampled_from("abc"), st.integers(0, number - 1), max_size=3)) if number else {}
        for number in sorted(present)
    }


def reachable(graph: dict[int, dict[str, int]], number: int) -> set[int]:
    """Return a number and its ancestors in the graph, as the definition says it."""
    inputs = [other for other in graph[number].values() if other in graph]
    return {number}.union(*(reachable(graph, other) for other in inputs))


def filled(store: Store, graph: dict[int, dict[str, int]]) -> Lineage:
    for number, inputs in graph.items():
        place(store, number, inputs)
    return Lineage(store.artifacts())


@settings(max_examples=60, deadline=None)
@given(graph=graphs(), data=st.data())
def test_needed_and_affected_are_ancestors_and_descendants(
    graph: dict[int, dict[str, int]], data: st.DataObject
) -> None:
    starts = data.draw(st.sets(st.sampled_from(sorted(graph))))
    with tempfile.TemporaryDirectory() as folder:
        lineage = filled(Store(folder), graph)
    ancestors = set().union(*(reachable(graph, number) for number in starts))
    descendants = {number for number in graph if starts & reachable(graph, number)}
    names = [numbered(number) for number in starts]
    assert lineage.needed(names) == {numbered(number) for number in ancestors}
    assert lineage.affected(names) == {numbered(number) for number in descendants}
    for number in graph:
        direct = {other for other in graph if number in graph[other].values()}
        assert set(lineage.dependents(numbered(number))) == {numbered(other) for other in direct}


@settings(max_examples=60, deadline=None)
@given(graph=graphs(), data=st.data())
def test_what_depends_comes_before_what_it_depends_on(graph: dict[int, dict[str, int]], data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.sampled_from(sorted(graph))))
    with tempfile.TemporaryDirectory() as folder:
        lineage = filled(Store(folder), graph)
    order = [artifact.fingerprint for artifact in lineage.dependents_first(numbered(number) for number in chosen)]
    assert sorted(order) == sorted(numbered(number) for number in chosen)
    for number in chosen:
        for other in set(graph[number].values()) & chosen:
            assert order.index(numbered(number)) < order.index(numbered(other))


def test_a_manifest_that_claims_a_circle_ends_no_walk(store: Store) -> None:
    place(store, 1, {"a": 2})
    place(store, 2, {"a": 1})
    lineage = Lineage(store.artifacts())
    both = {numbered(1), numbered(2)}
    assert lineage.needed([numbered(1)]) == lineage.affected([numbered(1)]) == both
    assert {artifact.fingerprint for artifact in lineage.dependents_first(both)} == both
    assert lineage.family(numbered(1)) is None


def test_unreadable_manifests_are_in_the_graph_without_inputs(store: Store) -> None:
    place(store, 1)
    (place(store, 2, {"base": 1}).path / "manifest.json").write_text("{")
    edit_manifest(place(store, 3, {"base": 1}), inputs=["base"])
    place(store, 4, {"model": 2})
    lineage = Lineage(store.artifacts())
    assert set(lineage.unreadable) == {numbered(2), numbered(3)}
    assert lineage.inputs(numbered(2)) == {}
    assert lineage.needed([numbered(4)]) == {numbered(4), numbered(2)}
    assert lineage.family(numbered(4)) is None


def test_what_is_removed_while_it_is_listed_is_left_out(store: Store) -> None:
    listed = [again(place(store, 1)), again(place(store, 2))]
    (listed[0].path / "manifest.json").unlink()
    assert set(Lineage(listed).artifacts) == {numbered(2)}


def test_the_family_is_the_nearest_that_a_configuration_names(store: Store) -> None:
    place(store, 1, kind="base", config={"architecture": {"family": "gemma"}})
    place(store, 2, {"base": 1})
    place(store, 3, {"model": 2}, kind="judge")
    place(store, 4, {"judge": 3}, kind="report", config={"model": "mistral"})
    place(store, 5, kind="base", config={"source": "hub", "name": "owner/name"})
    place(store, 6, {"base": 7})
    lineage = Lineage(store.artifacts())
    families = [lineage.family(numbered(number)) for number in range(1, 7)]
    assert families == ["gemma", "gemma", "gemma", "mistral", None, None]
    store.set_aside("sft", numbered(2), "damaged")
    assert Lineage(store.artifacts(), store.broken()).family(numbered(3)) == "gemma"


def test_what_was_set_aside_still_needs_what_it_was_made_from(store: Store) -> None:
    place(store, 1)
    place(store, 2, {"base": 1})
    place(store, 3, {"model": 2})
    store.set_aside("sft", numbered(2), "damaged")
    assert Lineage(store.artifacts()).needed([numbered(3)]) == {numbered(3)}
    lineage = Lineage(store.artifacts(), store.broken())
    assert lineage.needed([numbered(3)]) == {numbered(3), numbered(1)}
    assert set(lineage.artifacts) == {numbered(1), numbered(3)}
    assert lineage.dependents(numbered(1)) == []
    (next(iter(store.broken())).path / "manifest.json").write_text("{")
    assert Lineage(store.artifacts(), store.broken()).needed([numbered(3)]) == {numbered(3)}


def test_what_was_made_again_counts_and_not_what_was_set_aside(store: Store) -> None:
    place(store, 1)
    place(store, 2, {"base": 1})
    store.set_aside("sft", numbered(2), "damaged")
    place(store, 2)
    assert Lineage(store.artifacts(), store.broken()).needed([numbered(2)]) == {numbered(2)}
