"""The beginning of a fingerprint names one artifact, or the answer lists those that could be meant."""

import pytest

from salsa.store.artifact import Artifact, Store
from salsa.store.selection import SelectionError, described, select
from tests.store.artifacts import again, numbered, place


@pytest.fixture
def artifacts(store: Store) -> list[Artifact]:
    return [place(store, number, kind="align" if number < 20 else "sft") for number in (1, 2, 0x10, 0x20, 0x21)]


def test_a_whole_fingerprint_or_a_beginning_of_one_is_enough(artifacts: list[Artifact]) -> None:
    assert select(artifacts, numbered(2)) == artifacts[1]
    assert select(artifacts, "001") == artifacts[0]
    assert select(artifacts, "010") == artifacts[2]


def test_capital_letters_are_taken_as_small_ones(store: Store) -> None:
    artifact = place(store, 0xABC)
    assert select([artifact], "ABC") == artifact


def test_a_beginning_of_several_lists_them(artifacts: list[Artifact]) -> None:
    with pytest.raises(SelectionError, match=r"02 is the beginning of 2 fingerprints; give more of it") as caught:
        select(artifacts, "02")
    assert str(caught.value).count("\n") == 2
    assert all(described(artifact) in str(caught.value) for artifact in artifacts[3:])


def test_long_lists_are_cut(store: Store) -> None:
    artifacts = [place(store, number) for number in range(15)]
    with pytest.raises(SelectionError, match=r"15 fingerprints(.|\n)*and 5 more"):
        select(artifacts, "00")


@pytest.mark.parametrize("prefix", ["", "fff", "../store", "zzz"])
def test_what_names_nothing_says_where_to_look(artifacts: list[Artifact], prefix: str) -> None:
    with pytest.raises(SelectionError, match="`salsa store list` shows what there is"):
        select(artifacts, prefix)


def test_a_name_instead_of_a_fingerprint_lists_what_is_named_so(artifacts: list[Artifact]) -> None:
    with pytest.raises(SelectionError, match=r"These are named so:(.|\n)*align 2 0020*") as caught:
        select(artifacts, "Align")
    assert "sft" not in str(caught.value)


def test_the_exact_name_comes_first(store: Store) -> None:
    artifacts = [place(store, 1, name="respond soup"), place(store, 2, kind="soup", name="soup")]
    with pytest.raises(SelectionError, match=r"named so:\n  soup 002"):
        select(artifacts, "soup")


def test_artifacts_with_broken_manifests_can_be_named(artifacts: list[Artifact]) -> None:
    (artifacts[0].path / "manifest.json").write_text("{")
    broken = again(artifacts[0])
    assert select([broken, *artifacts[1:]], "001") == broken
    assert described(broken) == f"align (its manifest is unreadable) {numbered(1)[:16]}"
