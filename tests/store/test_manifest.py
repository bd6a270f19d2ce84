"""A manifest shows by itself that it was changed."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.store.artifact import Store
from salsa.store.manifest import ManifestError, check, completed, read
from salsa.store.manifest import written as manifest_text
from tests.store.artifacts import FP, OTHER, edit_manifest, publish

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(config=VALUES)
def test_whatever_is_published_passes_its_own_check(tmp_path_factory: pytest.TempPathFactory, config: object) -> None:
    folder = tmp_path_factory.mktemp("artifact")
    text = manifest_text(completed("sft", FP, {"config": config}), {})
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    assert check(folder, "sft", FP)["config"] == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ('{"files": {', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "does not list the artifact's files"),
        ("{}", "does not list the artifact's files"),
        ('{"files": []}', "does not list the artifact's files"),
        ('{"files": {"a": 1}}', "does not list the artifact's files"),
        ('{"files": {"a": {"sha256": "x", "bytes": 1}}}', "does not list the artifact's files"),
        (f'{{"files": {{"a": {{"sha256": "{FP}", "bytes": -1}}}}}}', "does not list the artifact's files"),
        (f'{{"files": {{"../a": {{"sha256": "{FP}", "bytes": 1}}}}}}', "does not list the artifact's files"),
        (f'{{"files": {{"/a": {{"sha256": "{FP}", "bytes": 1}}}}}}', "does not list the artifact's files"),
        (f'{{"files": {{"": {{"sha256": "{FP}", "bytes": 1}}}}}}', "does not list the artifact's files"),
    ],
)
def test_what_is_no_manifest_is_refused_by_its_path(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ManifestError, match=rf"{tmp_path}/manifest\.json .*{message}"):
        read(tmp_path)


def test_text_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b'{"files": {}, "name": "\xff"}')
    with pytest.raises(ManifestError, match="not valid JSON"):
        read(tmp_path)


def test_a_changed_value_or_a_wrong_place_is_noticed(store: Store) -> None:
    artifact = publish(store, metrics={"loss": 1.0})
    check(artifact.path, "sft", FP)
    for kind, fingerprint in (("reward", FP), ("sft", OTHER)):
        with pytest.raises(ManifestError, match="is not that of"):
            check(artifact.path, kind, fingerprint)
    edit_manifest(artifact, metrics={"loss": 0.9})
    with pytest.raises(ManifestError, match="has changed since its publication"):
        check(artifact.path, "sft", FP)
    edit_manifest(artifact, metrics={"loss": float("nan")})
    with pytest.raises(ManifestError, match="has changed since its publication"):
        check(artifact.path, "sft", FP)


def test_manifests_from_before_they_had_a_digest_are_taken(store: Store) -> None:
    artifact = publish(store)
    path = artifact.path / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["digest"]
    path.write_text(json.dumps(manifest))
    assert check(artifact.path, "sft", FP) == manifest
