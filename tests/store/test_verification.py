"""Damage of every kind is found, by name, and never ends the look for it."""

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salsa.store import verification
from salsa.store.artifact import Artifact, Store
from salsa.store.verification import extra_files
from tests.store.artifacts import FP, again, place, publish, written

FILES = {"a": "a" * 50, "b/c": "c" * 30, "d": "", "e": "e"}


@pytest.fixture
def artifact(store: Store) -> Artifact:
    return store.publish("sft", FP, written(store, FILES), {"metrics": {"loss": 0.5}})


def flip(path: Path, position: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def test_what_was_published_is_whole(artifact: Artifact) -> None:
    assert artifact.verify() == []


def test_changed_and_missing_files_are_found_by_name(artifact: Artifact) -> None:
    flip(artifact.path / "b" / "c", 7)
    (artifact.path / "d").unlink()
    (artifact.path / "e").write_text("ee")
    assert artifact.verify() == ["b/c", "d", "e"]


def test_a_file_that_became_a_folder_is_damaged(artifact: Artifact) -> None:
    (artifact.path / "a").unlink()
    (artifact.path / "a").mkdir()
    assert artifact.verify() == ["a"]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_found_unless_it_changes_nothing(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        metrics = {"loss": 0.25, "steps": 10, "said": "ü"}
        artifact = place(Store(folder), 1, {"base": 2}, files=FILES, metrics=metrics, config={"lr": 1e-05})
        before = again(artifact).manifest
        path = artifact.path / data.draw(st.sampled_from(["a", "b/c", "e", "manifest.json", "manifest.json"]))
        flip(path, data.draw(st.integers(0, path.stat().st_size - 1)), data.draw(st.integers(0, 7)))
        damaged = artifact.verify()
        unchanged = (
            path.name == "manifest.json" and not damaged and again(artifact).manifest == before
        )  # 1e-05 is 1E-05
        assert unchanged or damaged == [path.relative_to(artifact.path).as_posix()]


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_truncated_manifest_is_damage_wherever_it_ends(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        artifact = place(Store(folder), 1)
        path = artifact.path / "manifest.json"
        size = len(path.read_text().rstrip())
        os.truncate(path, data.draw(st.integers(0, size - 1)))
        assert artifact.verify() == ["manifest.json"]


def test_a_manifest_that_is_gone_is_damage_also_if_it_was_read_before(artifact: Artifact) -> None:
    assert artifact.manifest["kind"] == "sft"
    (artifact.path / "manifest.json").unlink()
    assert artifact.verify() == ["manifest.json"]


def test_an_artifact_that_is_gone_is_damaged(store: Store) -> None:
    assert Artifact("sft", FP, store.root / "store" / "sft" / FP).verify() == ["manifest.json"]


def test_files_of_another_size_are_not_read(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    digest = verification.file_digest

    def noted(path: Path, *more: Any) -> str:
        read.append(path.name)
        return digest(path, *more)

    monkeypatch.setattr(verification, "file_digest", noted)
    (artifact.path / "a").write_text("short")
    assert artifact.verify() == ["a"]
    assert sorted(read) == ["c", "d", "e"]


def test_progress_adds_up_to_the_sizes_in_the_manifest(artifact: Artifact) -> None:
    total = sum(map(len, FILES.values()))
    for _ in range(2):
        counted: list[int] = []
        artifact.verify(counted.append)
        assert sum(counted) == total
        (artifact.path / "a").unlink(missing_ok=True)
        (artifact.path / "b" / "c").write_text("another size")


def test_large_files_are_counted_while_they_are_read(store: Store) -> None:
    big = place(store, 1, files={"big": "x" * (5 * 2**20)})
    counted: list[int] = []
    assert big.verify(counted.append) == []
    assert sum(counted) == 5 * 2**20
    assert max(counted) <= 2**20


def raising(number: int) -> Any:
    def fail(*_: Any) -> str:
        raise OSError(number, os.strerror(number))

    return fail


def test_bytes_that_the_disk_cannot_give_back_are_damage(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "file_digest", raising(errno.EIO))
    assert artifact.verify() == ["a", "b/c", "d", "e"]


def test_files_that_may_not_be_read_are_no_damage_but_an_error(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "file_digest", raising(errno.EACCES))
    with pytest.raises(PermissionError):
        artifact.verify()


def test_what_was_added_later_is_no_damage_and_can_be_listed(store: Store) -> None:
    artifact = publish(store)
    (artifact.path / "notes").mkdir()
    (artifact.path / "notes" / "mine.txt").write_text("n")
    assert artifact.verify() == []
    assert extra_files(artifact.path) == ["notes/mine.txt"]


def test_the_metrics_of_the_manifest_are_part_of_it(artifact: Artifact) -> None:
    path = artifact.path / "manifest.json"
    path.write_text(path.read_text().replace("0.5", "0.4"))
    assert json.loads(path.read_text())["metrics"] == {"loss": 0.4}
    assert artifact.verify() == ["manifest.json"]
