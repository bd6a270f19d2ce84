"""Artifacts for tests: published as stages do it, or written in bulk."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from salsa.store.artifact import Artifact, Store
from salsa.store.fingerprint import file_digest
from salsa.store.manifest import MANIFEST, completed
from salsa.store.manifest import written as manifest_text

FP = "0123456789abcdef" * 4
OTHER = "f" * 64


def written(store: Store, files: Mapping[str, str], kind: str = "sft", fingerprint: str = FP) -> Path:
    """Return a temporary folder of the store with these files."""
    folder = store.temporary(kind, fingerprint)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def publish(store: Store, kind: str = "sft", fingerprint: str = FP, **manifest: Any) -> Artifact:
    """Publish an artifact with one file."""
    return store.publish(kind, fingerprint, written(store, {"result": "r"}, kind, fingerprint), manifest)


def place(
    store: Store,
    number: int,
    inputs: Mapping[str, int] = {},
    kind: str = "sft",
    files: Mapping[str, str] = {"result": "r"},
    **manifest: Any,
) -> Artifact:
    """Put an artifact into the store that is as if published, without waiting for the disk."""
    fingerprint = numbered(number)
    folder = store.root / "store" / kind / fingerprint
    entries = {}
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        entries[name] = {"sha256": file_digest(path), "bytes": path.stat().st_size}
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"name": f"{kind} {number}", "started": 1e9 + number, "seconds": 2.0, "config": {}} | manifest
    whole["inputs"] = {role: numbered(other) for role, other in inputs.items()}
    (folder / MANIFEST).write_text(manifest_text(completed(kind, fingerprint, whole), entries))
    return Artifact(kind, fingerprint, folder)


def numbered(number: int) -> str:
    """Return a fingerprint that begins with three digits of a number, so that it can be asked for by them."""
    return f"{number:03x}".ljust(64, "0")


def again(artifact: Artifact) -> Artifact:
    """Return an artifact that has not read its manifest yet."""
    return Artifact(artifact.kind, artifact.fingerprint, artifact.path)


def edit_manifest(artifact: Artifact, **changes: Any) -> None:
    """Change a manifest behind the store's back."""
    path = artifact.path / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def dead_pid() -> int:
    """Return the number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait(10)
    return process.pid
