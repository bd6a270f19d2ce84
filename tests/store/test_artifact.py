"""Artifacts are found, listed and read back; what is none is refused by name."""

import json
import os
from pathlib import Path

import pytest

from salsa.store.artifact import Store
from salsa.store.fingerprint import file_digest
from tests.store.artifacts import FP, OTHER, publish, written


def test_a_published_artifact_is_found_with_everything_in_it(store: Store) -> None:
    folder = written(store, {"model/weights": "weights", "lines.jsonl": ""})
    artifact = store.publish("sft", FP, folder, {"stage": "sft", "metrics": {"loss": 0.5}, "inputs": {"base": OTHER}})
    assert store.find("sft", FP) == artifact
    assert artifact.path == store.root / "store" / "sft" / FP
    assert artifact.metrics == {"loss": 0.5}
    digest = artifact.manifest.pop("digest")
    assert len(digest) == 64
    assert artifact.manifest == {
        "kind": "sft",
        "fingerprint": FP,
        "stage": "sft",
        "metrics": {"loss": 0.5},
        "inputs": {"base": OTHER},
        "files": {
            "lines.jsonl": {"sha256": file_digest(artifact.path / "lines.jsonl"), "bytes": 0},
            "model/weights": {"sha256": file_digest(artifact.path / "model" / "weights"), "bytes": 7},
        },
    }
    assert artifact.verify() == []
    assert not folder.exists()
    assert store.find("reward", FP) is None
    assert store.find("sft", OTHER) is None


def test_an_artifact_may_be_its_manifest_alone(store: Store) -> None:
    artifact = store.publish("judge", FP, store.temporary("judge", FP), {})
    assert artifact.metrics == {}
    assert artifact.manifest["files"] == {}


def test_looking_writes_nothing(store: Store) -> None:
    assert store.find("sft", FP) is None
    assert store.failure("sft", FP) is None
    assert list(store.artifacts()) == []
    assert store.clean_temporary() == []
    store.lock_path("sft", FP)
    assert not store.root.exists()


def test_a_relative_root_is_not_moved_by_a_change_of_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("outputs")
    publish(store)
    monkeypatch.chdir("/")
    assert store.find("sft", FP) is not None


def test_artifacts_are_listed_by_kind_and_fingerprint_without_the_unfinished(store: Store) -> None:
    for kind, fingerprint in (("sft", OTHER), ("reward", FP), ("sft", FP)):
        publish(store, kind, fingerprint)
    store.unfinished("sft", "a" * 64)
    written(store, {"result": ""}, "sft", "b" * 64)
    headless = store.root / "store" / "sft" / ("c" * 64)  # no manifest: not an artifact
    headless.mkdir()
    for stray in ("sft/notes", "Notes/" + FP, "sft/" + FP[:16]):
        (store.root / "store" / stray).mkdir(parents=True)
        (store.root / "store" / stray / "manifest.json").write_text("{}")
    listed = [(artifact.kind, artifact.fingerprint) for artifact in store.artifacts()]
    assert listed == [("reward", FP), ("sft", FP), ("sft", OTHER)]
    assert [artifact.fingerprint for artifact in store.artifacts("sft")] == [FP, OTHER]
    assert list(store.artifacts("soup")) == []
    assert [artifact.path for artifact in store.headless()] == [headless]


def test_an_artifact_knows_when_it_was_published(store: Store) -> None:
    assert publish(store, started=1000.0, seconds=5.5).published == 1005.5
    unsaid = publish(store, "reward")
    assert unsaid.published == (unsaid.path / "manifest.json").stat().st_mtime


@pytest.mark.parametrize("kind", ["", "../sft", "a/b", "Sft", "-sft", "sft\n"])
def test_kinds_that_are_no_names_are_refused(store: Store, kind: str) -> None:
    for call in (store.find, store.unfinished, store.temporary, store.lock_path, store.failure):
        with pytest.raises(ValueError, match="stage kind"):
            call(kind, FP)


@pytest.mark.parametrize("fingerprint", ["", "abc", FP.upper(), FP + "0", "../" * 21 + "x", FP + "\n"])
def test_fingerprints_that_are_none_are_refused(store: Store, fingerprint: str) -> None:
    for call in (store.find, store.unfinished, store.temporary, store.lock_path, store.failure):
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            call("sft", fingerprint)


def test_json_and_lines_read_back(store: Store) -> None:
    files = {"a.json": json.dumps({"x": [1, "ü"]}), "b.jsonl": '{"n": 1}\n\n"line \u2028 separator"\n[3]'}
    artifact = store.publish("respond", FP, written(store, files, "respond"), {})
    assert artifact.json("a.json") == {"x": [1, "ü"]}
    assert artifact.lines("b.jsonl") == [{"n": 1}, "line \u2028 separator", [3]]
    assert artifact.file("a.json") == artifact.path / "a.json"


def test_unreadable_files_are_named_with_their_line(store: Store) -> None:
    folder = written(store, {"a.json": "{", "b.jsonl": '{"n": 1}\n\n{"n":\n'}, "respond")
    (folder / "c.jsonl").write_bytes(b'1\n"\xff"\n')
    artifact = store.publish("respond", FP, folder, {})
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON"):
        artifact.json("a.json")
    with pytest.raises(ValueError, match=r"b\.jsonl, line 3 is not valid JSON"):
        artifact.lines("b.jsonl")
    with pytest.raises(ValueError, match=r"c\.jsonl, line 2 is not valid JSON"):
        artifact.lines("c.jsonl")
    with pytest.raises(FileNotFoundError, match=r"has no file d\.json; it has: a\.json, b\.jsonl, c\.jsonl, manifest"):
        artifact.json("d.json")


def test_failures_are_noted_until_the_stage_succeeds(store: Store) -> None:
    path = store.record_failure("sft", FP, {"traceback": "Traceback ...", "folder": Path("x")})
    note = store.failure("sft", FP)
    assert note is not None
    assert (note["host"], note["pid"]) == (os.uname().nodename, os.getpid())
    assert (note["traceback"], note["folder"]) == ("Traceback ...", "x")
    assert json.loads(path.read_text()) == note
    store.record_failure("sft", FP, {"traceback": "another", "time": 3.0})
    note = store.failure("sft", FP)
    assert note is not None
    assert (note["traceback"], note["time"]) == ("another", 3.0)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert store.find("sft", FP) is None
    publish(store)
    assert store.failure("sft", FP) is None
