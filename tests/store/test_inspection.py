"""A look at a whole store goes on whatever it finds, and moves only what is damaged."""

import errno
from pathlib import Path
from typing import Any

import pytest

from salsa.store import verification
from salsa.store.artifact import Store
from salsa.store.inspection import inspected, set_aside
from salsa.store.lock import StageLock
from tests.store.artifacts import numbered, place


def test_every_artifact_has_a_finding(store: Store) -> None:
    artifacts = [place(store, number) for number in range(1, 6)]
    (artifacts[1].path / "result").write_text("R")
    (artifacts[2].path / "manifest.json").write_text("{")
    (artifacts[3].path / "mine").write_text("m")
    (artifacts[4].path / "manifest.json").unlink()
    found = list(inspected(store, [*store.artifacts(), *store.headless()]))
    assert {finding.artifact.fingerprint: finding.damaged for finding in found} == {
        numbered(1): (),
        numbered(2): ("result",),
        numbered(3): ("manifest.json",),
        numbered(4): (),
        numbered(5): ("manifest.json",),
    }
    assert [finding.extra for finding in found] == [(), (), (), ("mine",), ()]


def test_what_is_removed_meanwhile_is_left_out(store: Store) -> None:
    listed = [place(store, 1), place(store, 2)]
    store.remove("sft", numbered(1))
    assert [finding.artifact for finding in inspected(store, listed)] == [listed[1]]


def test_what_may_not_be_read_is_unknown_and_the_rest_is_judged(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts = [place(store, 1), place(store, 2)]
    digest = verification.file_digest

    def refuse(path: Path, *more: Any) -> str:
        if numbered(1) in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return digest(path, *more)

    monkeypatch.setattr(verification, "file_digest", refuse)
    first, second = inspected(store, artifacts)
    assert first.unjudged == f"{artifacts[0].path / 'result'}: Permission denied"
    assert first.damaged == ()
    assert second.unjudged is None


def test_what_is_damaged_is_set_aside_under_its_lock(store: Store) -> None:
    artifact = place(store, 1)
    (artifact.path / "result").write_text("R")
    with StageLock(store.lock_path("sft", numbered(1))):
        with pytest.raises(BlockingIOError, match="is being worked on"):
            set_aside(store, artifact, ["result"])
        assert store.find("sft", numbered(1)) is not None
    place_ = set_aside(store, artifact, ["result"])
    assert place_ == store.root / "broken" / f"sft-{numbered(1)}-1"
    assert "damaged: result" in place_.with_name(f"{place_.name}.json").read_text()
    assert set_aside(store, artifact, ["result"]) is None


def test_what_another_process_has_mended_stays(store: Store) -> None:
    artifact = place(store, 1)
    assert set_aside(store, artifact, ["result"]) is None
    assert store.find("sft", numbered(1)) is not None
