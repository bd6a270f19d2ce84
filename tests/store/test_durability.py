"""A file that is replaced is the old one or the new one, never half of it."""

import os
from pathlib import Path
from typing import Any

import pytest

from salsa.store.durability import replace_text


def test_text_is_replaced_and_no_draft_stays(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.json"
    for text in ("one", "zwei ü"):
        replace_text(path, text)
        assert path.read_text(encoding="utf-8") == text
        assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_text_and_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    replace_text(path, "old")

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        replace_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
