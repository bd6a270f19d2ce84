"""Digests of large files, remembered as long as nothing betrays a change."""

import hashlib
import os
from pathlib import Path

import pytest

from salsa.store import digests
from salsa.store.digests import Digests


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that counts as large and as changed long ago."""
    monkeypatch.setattr(digests, "LARGE_BYTES", 4)
    monkeypatch.setattr(digests, "SETTLED_NANOSECONDS", -1)
    path = tmp_path / "weights"
    path.write_bytes(b"first")
    return path


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_large_file_is_read_once_for_all_commands(large: Path, tmp_path: Path) -> None:
    read: list[Path] = []
    for _ in range(2):
        digest = Digests(tmp_path / "memory" / "digests.json", read.append)
        assert [digest(large), digest(large)] == [sha256(b"first")] * 2
    assert read == [large]


def test_a_small_file_leaves_no_trace(tmp_path: Path) -> None:
    small = tmp_path / "config.json"
    small.write_bytes(b"{}")
    assert Digests(tmp_path / "digests.json")(small) == sha256(b"{}")
    assert not (tmp_path / "digests.json").exists()


def test_other_content_of_the_same_size_and_modification_time_is_noticed(large: Path, tmp_path: Path) -> None:
    digest = Digests(tmp_path / "digests.json")
    digest(large)
    before = large.stat()
    large.write_bytes(b"other")
    os.utime(large, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digest(large) == sha256(b"other")


def test_what_has_just_been_written_is_not_remembered(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "SETTLED_NANOSECONDS", 10**12)
    Digests(tmp_path / "digests.json")(large)
    assert not (tmp_path / "digests.json").exists()


@pytest.mark.parametrize("damage", ["", "no json", "[1]", '{"x": "y"}'])
def test_a_damaged_memory_costs_time_only(large: Path, tmp_path: Path, damage: str) -> None:
    memory = tmp_path / "digests.json"
    memory.write_text(damage)
    assert Digests(memory)(large) == sha256(b"first")
    read: list[Path] = []
    Digests(memory, read.append)(large)
    assert read == []


def test_two_commands_keep_each_others_digests(large: Path, tmp_path: Path) -> None:
    other = tmp_path / "more"
    other.write_bytes(b"second")
    first, second = Digests(tmp_path / "digests.json"), Digests(tmp_path / "digests.json")
    second(large)
    first(other)
    read: list[Path] = []
    third = Digests(tmp_path / "digests.json", read.append)
    assert [third(large), third(other)] == [sha256(b"first"), sha256(b"second")]
    assert read == []
