"""What published weights, data sets and files are, whatever they are called and wherever they lie. Imports no torch.

Local folders are known by the digests of the files that are read of them: the same files at another place are the same
model, other files at the same place are another one. What the hub gives is known by its name and commit; a branch or
the newest commit is looked up (in the hub's local cache, else by asking the hub) and only taken as it stands where no
answer is to be had. A folder must stay as it is while a command works on it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pipelines.sources import FilesData, UltraData
from salsa.data import address as addresses
from salsa.data.rows import DataError, FileTable
from salsa.hub import Repository, commit, is_local
from salsa.store.fingerprint import file_digest

Read = TypeVar("Read")
Digest = Callable[[Path], str]
"""Gives the SHA-256 of a file as hexadecimal digits."""


def of_weights(key: str, name: str, revision: str | None, digest: Digest) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the identity of published weights, and where a stage finds them: their name and revision.

    `key` is the part of the configuration that names them. Raises FileNotFoundError where a folder is missing.
    """
    if not is_local(name):
        revision = commit(Repository("model", name, revision)) or revision
        return {"source": "hub", "name": name, "revision": revision}, {"name": name, "revision": revision}
    from salsa.models.source import model_files

    folder = _folder(f"{key}.name", name)
    identity = {"source": "folder", "files": _digests(folder, model_files(folder), digest)}
    return identity, {"name": str(folder), "revision": None}


def of_sets(data: UltraData, digest: Digest) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the identities of the sets by what they hold, and where a stage finds them: name and revision of each.

    Raises FileNotFoundError or DataError where a folder or one of its files is missing.
    """
    from salsa.data.sets import local_files, ultra_splits

    identities: dict[str, Any] = {}
    places: dict[str, Any] = {}
    for role in ("demonstrations", "preferences"):
        name, revision = getattr(data, f"{role}_set"), getattr(data, f"{role}_revision")
        if is_local(name):
            folder = _folder(f"data.{role}_set", name)
            files = [path for hub_set in ultra_splits(role, str(folder), None) for path in local_files(hub_set)]
            identities[role], places[role] = {"files": _digests(folder, files, digest)}, [str(folder), None]
        else:
            revision = commit(Repository("dataset", name, revision)) or revision
            identities[role], places[role] = {"name": name, "revision": revision}, [name, revision]
    return identities, places


def of_data(data: FilesData | UltraData, digest: Digest) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return identity, inputs (none) and places of the stage that reads local files or sets.

    Raises FileNotFoundError or DataError, which name the key and the file, where one is missing or empty.
    """
    shares = {
        "max_malformed": data.max_malformed,
        "train": data.split_train,
        "judge": data.split_judge,
        "validation": data.split_validation,
    }
    suites = {name: _existing(f"data.prompts.{name}", path) for name, path in data.prompts.items()}
    config: dict[str, Any] = {"shares": shares, "suites": {name: digest(path) for name, path in suites.items()}}
    places: dict[str, Any] = {"suites": {name: str(path) for name, path in suites.items()}}
    if isinstance(data, FilesData):
        for role in ("demonstrations", "preferences", "corpus"):
            named = enumerate(getattr(data, role))
            paths = [_existing(f"data.{role}[{index}]", path) for index, path in named]
            config[role] = [digest(path) for path in paths]
            places[role] = [str(path) for path in paths]
    else:
        config["sets"], places["sets"] = of_sets(data, digest)
    return config, {}, places


def of_file(key: str, address: str, digest: Digest) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the identity of a file of rows, and where a stage finds it; a file of the hub is not fetched.

    `key` is the key of the configuration that names it. Raises FileNotFoundError where a local file is missing, and
    DataError, both with the key, where it is no file of rows or `hf://...` is not an address.
    """
    try:
        file = addresses.parse(address)
    except DataError as error:
        raise DataError(f"{key}: {error}") from error
    if isinstance(file, Path):
        path = _existing(key, address, f", or an address of the hub: {addresses.FORM}")
        return {"sha256": digest(path)}, {"path": str(path)}
    repository = file.repository
    known = replace(repository, revision=commit(repository) or repository.revision)
    identity = {"kind": known.kind, "name": known.name, "commit": known.revision, "file": file.path}
    return identity, {"address": str(replace(file, repository=known))}


def read_planned(key: str, known: Mapping[str, Any], place: Mapping[str, str], read: Callable[[Path], Read]) -> Read:
    """Return what `read` makes of a file that a plan knows by `of_file`, wherever a stage finds it.

    Raises DataError, with the key and the file, where it cannot be had, or was edited since the plan was made.
    """
    path = addresses.fetch(place["path"] if "path" in place else place["address"])
    found = read(path)
    # Afterwards, so that what was read is what was planned with.
    if "sha256" in known and file_digest(path) != known["sha256"]:
        raise DataError(f"{key}={path}: edited since this command planned with it; run the same command again")
    return found


def file_problem(key: str, address: str) -> str:
    """Return why the file under a key cannot be had, "" if it can: it is here, or the hub says that it has it."""
    try:
        addresses.check(address)
    except DataError as error:
        return f"{key}: {error}"
    return ""


def _existing(key: str, path: str, fix: str = "") -> Path:
    found = Path(path).expanduser()
    if not found.is_file():
        raise FileNotFoundError(
            f"{key}: no file {path}; give a path that exists (JSON lines, gzipped or not, or Parquet){fix}"
        )
    try:
        FileTable(found).check()
    except DataError as error:
        raise DataError(f"{key}: {error}") from error
    return found.absolute()


def _folder(key: str, name: str) -> Path:
    folder = Path(name).expanduser().absolute()
    if not folder.is_dir():
        raise FileNotFoundError(f"{key}: no folder {name}; give a folder that exists, or a hub name like owner/name")
    return folder


def _digests(folder: Path, files: Iterable[Path], digest: Digest) -> Mapping[str, str]:
    return {path.relative_to(folder).as_posix(): digest(path) for path in files}
