"""Copying a model out of a store, for programs that know nothing of it."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from salsa.store.artifact import Artifact
from salsa.store.fingerprint import PIECE_BYTES
from salsa.store.manifest import MANIFEST, check
from salsa.store.selection import SHORT, described
from salsa.store.verification import Advance

CONFIGURATION = "config.json"
WEIGHTS = ".safetensors"
POINTER = "pointer.json"
ADAPTER = "adapter_config.json"
_SUFFIXES = frozenset({WEIGHTS, ".json", ".jinja", ".model", ".txt"})
_OWN = frozenset({"reward.json", POINTER})
"""Files that look as if they were part of a model and are read by stages only."""


class ExportError(RuntimeError):
    """A model that cannot be copied; the message says why and what to do."""


def model_files(files: Iterable[str]) -> list[str]:
    """Return which of an artifact's files `from_pretrained` reads, `config.json` last; none if there is no model."""
    names = [name for name in files if "/" not in name and name not in _OWN]
    chosen = [name for name in names if PurePosixPath(name).suffix in _SUFFIXES]
    if CONFIGURATION not in chosen or not any(name.endswith(WEIGHTS) for name in chosen):
        return []
    return [*sorted(name for name in chosen if name != CONFIGURATION), CONFIGURATION]


def kinds_with_models(artifacts: Iterable[Artifact]) -> list[str]:
    """Return the kinds of artifacts in which there is a model; artifacts with broken manifests tell nothing."""
    kinds = set()
    for artifact in artifacts:
        try:
            files = artifact.manifest["files"]
            if artifact.kind not in kinds and (ADAPTER in files or model_files(files)):
                kinds.add(artifact.kind)
        except (OSError, ValueError):
            continue
    return sorted(kinds)


def chosen_files(artifact: Artifact, others: Iterable[Artifact]) -> dict[str, dict[str, Any]]:
    """Return the entries of an artifact's model files in its manifest.

    Raises `ExportError` if it has no model, naming the kinds of the `others` that have one; `ManifestError` if its
    manifest is broken.
    """
    files = check(artifact.path, artifact.kind, artifact.fingerprint)["files"]
    names = model_files(files)
    if names:
        return {name: files[name] for name in names}
    if POINTER in files:
        raise ExportError(
            f"{described(artifact)} only points to published weights; {artifact.file(POINTER)} names them"
        )
    kinds = kinds_with_models(others)
    those = f"artifacts of these kinds have one: {', '.join(kinds)}" if kinds else "no artifact in this store has one"
    raise ExportError(f"there is no model in {described(artifact)}; {those}")


def copy_model(
    artifact: Artifact, files: Mapping[str, Mapping[str, Any]], folder: Path, advance: Advance | None = None
) -> None:
    """Copy files of an artifact into a folder that is new or empty, comparing their digests on the way.

    `config.json`, without which no program loads a model, comes last, and what was copied is removed again if anything
    fails. Raises `ExportError` if the folder holds something or a file is damaged.
    """
    _check_empty(folder)
    existed = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for name, entry in files.items():
            _copy(artifact, name, entry["sha256"], folder / name, advance)
    except BaseException:
        for name in files:
            (folder / name).unlink(missing_ok=True)
        if not existed:
            folder.rmdir()
        raise


def is_adapter(artifact: Artifact) -> bool:
    """Return whether an artifact is a LoRA adapter; raises `ManifestError` if its manifest is broken."""
    return ADAPTER in check(artifact.path, artifact.kind, artifact.fingerprint)["files"]


def merge_model(artifact: Artifact, known: Iterable[Artifact], folder: Path) -> list[str]:
    """Write the full model that an adapter and its base make into a folder that is new or empty; return its files.

    Raises `ExportError` if the folder holds something, adapter or base is damaged, or the base is gone.
    """
    _check_empty(folder)
    inputs = set(artifact.manifest.get("inputs", {}).values())
    for needed in (artifact, *(other for other in known if other.kind == "base" and other.fingerprint in inputs)):
        for name in needed.verify():
            raise ExportError(_damaged(needed, name))
    # This takes seconds, which no other action needs.
    from salsa.models.families import load_causal, load_scalar, load_tokenizer, save
    from salsa.models.source import UnavailableModelError

    try:
        scalar = artifact.json(ADAPTER)["task_type"] == "SEQ_CLS"
        model = (load_scalar if scalar else load_causal)(artifact.path)
        save(model, load_tokenizer(artifact.path), folder)
    except UnavailableModelError as error:
        raise ExportError(str(error)) from error
    return sorted(path.name for path in folder.iterdir())


def copy_manifest(artifact: Artifact, folder: Path) -> None:
    """Put the artifact's manifest beside its model."""
    (folder / MANIFEST).write_bytes(artifact.file(MANIFEST).read_bytes())


def _copy(artifact: Artifact, name: str, sha256: str, target: Path, advance: Advance | None) -> None:
    digest = hashlib.sha256()
    with artifact.file(name).open("rb") as source, target.open("xb") as copy:
        while piece := source.read(PIECE_BYTES):
            digest.update(piece)
            copy.write(piece)
            if advance is not None:
                advance(len(piece))
    if digest.hexdigest() != sha256:
        raise ExportError(_damaged(artifact, name))


def _damaged(artifact: Artifact, name: str) -> str:
    return (
        f"{artifact.path / name} is damaged; run `salsa store verify --set-aside {artifact.fingerprint[:SHORT]}` "
        "and the experiment again"
    )


def _check_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(f"{folder} is not an empty folder; give one that is, or a new one")
