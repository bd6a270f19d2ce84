"""The manifest: what an artifact says of itself, written last, with the digests that show later damage."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from salsa.store.fingerprint import canonical

MANIFEST = "manifest.json"
_OWN_KEYS = ("kind", "fingerprint", "files", "digest")
_HEXADECIMAL = frozenset("0123456789abcdef")


class ManifestError(ValueError):
    """A manifest that cannot be what was published; the message names the file."""


def completed(kind: str, fingerprint: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest with the artifact's name; `written` adds the other keys of the store.

    Raises ValueError if it has the store's keys already with other values, and TypeError or ValueError if it has no
    canonical JSON.
    """
    canonical(dict(manifest), "manifest")
    own = {"kind": kind, "fingerprint": fingerprint}
    for key in _OWN_KEYS:
        if key in manifest and manifest[key] != own.get(key):
            raise ValueError(f"manifest.{key} is {manifest[key]!r:.80}; the store writes this key: leave it out")
    return {**own, **manifest}


def written(manifest: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the text of a completed manifest with its `files` and, as its last key, the digest of all others."""
    whole = {**manifest, "files": dict(files)}
    return json.dumps({**whole, "digest": _digest(whole)}, indent=2) + "\n"


def read(folder: Path) -> dict[str, Any]:
    """Return the manifest in an artifact's folder.

    Raises FileNotFoundError if there is none, and `ManifestError` if it is no JSON or its `files` make no sense.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path} is not valid JSON: {error}") from error
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or not all(_describes_a_file(name, entry) for name, entry in files.items()):
        raise ManifestError(f"{path} does not list the artifact's files with their sha256 and bytes")
    return manifest


def check(folder: Path, kind: str, fingerprint: str) -> dict[str, Any]:
    """Return the manifest in an artifact's folder if it is unchanged since its publication.

    Manifests without a digest of their own, from before there was one, need only have the right name. Raises
    FileNotFoundError or `ManifestError`.
    """
    manifest = read(folder)
    if (manifest.get("kind"), manifest.get("fingerprint")) != (kind, fingerprint):
        raise ManifestError(f"{folder / MANIFEST} is not that of {kind} {fingerprint}")
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    try:
        unchanged = manifest["digest"] == _digest(rest) if "digest" in manifest else _before_digests(manifest)
    except ValueError:  # NaN, which is never published
        unchanged = False
    if not unchanged:
        raise ManifestError(f"{folder / MANIFEST} has changed since its publication")
    return manifest


def _before_digests(manifest: Mapping[str, Any]) -> bool:
    """Return whether a manifest ends as they did before they had digests; one whose name has changed does not."""
    return list(manifest)[-1:] == ["files"]


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(dict(manifest), "manifest").encode("ascii")).hexdigest()


def _describes_a_file(name: str, entry: Any) -> bool:
    """Return whether an item of `files` is the plain name of a file in the folder, with a digest and a size."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name or not isinstance(entry, dict):
        return False
    digest, size = entry.get("sha256"), entry.get("bytes")
    return (
        type(size) is int
        and size >= 0
        and isinstance(digest, str)
        and len(digest) == 64
        and set(digest) <= _HEXADECIMAL
    )
