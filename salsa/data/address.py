"""Addresses of single files: paths of this machine, and files of the Hugging Face hub written as `hf://...`.

`hf://datasets/OWNER/NAME/PATH` names a file of a data set, `hf://spaces/OWNER/NAME/PATH` one of a space and
`hf://OWNER/NAME/PATH` one of a model; `@REVISION` behind NAME is a commit, branch or tag, without it the newest commit
is meant. Nothing that is slow is imported until a file is fetched.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

from salsa.data.rows import DataError, FileTable
from salsa.hub import HubError, Repository, ask, cache_folder, cached, explain, obstacle

SCHEME = "hf://"
FORM = "hf://datasets/OWNER/NAME/PATH (or hf://spaces/OWNER/NAME/PATH, hf://OWNER/NAME/PATH; NAME@REVISION pins it)"

_KINDS: dict[str, Literal["dataset", "space"]] = {"datasets": "dataset", "spaces": "space"}
_CLOSE = 3  # names of files that are suggested for one that is not there


@dataclass(frozen=True)
class HubFile:
    """One file of a repository of the hub; as a string it is the address that `parse` reads."""

    repository: Repository
    path: str

    def __str__(self) -> str:
        folder = next((f"{folder}/" for folder, kind in _KINDS.items() if kind == self.repository.kind), "")
        revision = self.repository.revision
        at = f"@{quote(revision, safe='')}" if revision else ""
        return f"{SCHEME}{folder}{self.repository.name}{at}/{self.path}"

    def cached(self) -> Path | None:
        """Return where the file is in the hub's local cache, None if it is not."""
        snapshot = cached(self.repository)
        found = snapshot / self.path if snapshot else None
        return found if found and found.is_file() else None


def parse(address: str) -> Path | HubFile:
    """Return the file that an address means.

    Raises:
        DataError: if it begins like an address of the hub and is none.
    """
    if not address.startswith(SCHEME):
        return Path(address).expanduser()
    parts = address.removeprefix(SCHEME).split("/")
    kind: Literal["model", "dataset", "space"] = _KINDS.get(parts[0], "model")
    owner, _, rest = "/".join(parts if kind == "model" else parts[1:]).partition("/")
    name, _, path = rest.partition("/")
    name, at, revision = name.partition("@")
    steps = path.split("/")
    if not (owner and name and path) or "@" in owner or (at and not revision) or {"", ".", ".."} & set(steps):
        raise DataError(f"{address} is not the address of a file; write {FORM}")
    return HubFile(Repository(kind, f"{owner}/{name}", unquote(revision) or None), path)


def check(address: str) -> None:
    """Make sure that a file can be had, without fetching it: it is there, or the hub says that it has it.

    Raises:
        DataError: if it cannot; the message says why and what to do.
    """
    file = parse(address)
    if isinstance(file, Path):
        FileTable(file).check()
    elif file.cached() is None:
        if reason := obstacle():
            raise DataError(_out_of_reach(file, reason))
        try:
            names = ask(file.repository).files
        except HubError as error:
            raise DataError(str(error)) from error
        if file.path not in names:
            raise DataError(_no_such_file(file, difflib.get_close_matches(file.path, names, _CLOSE)))


def fetch(address: str) -> Path:
    """Return the path of a file on this machine; one of the hub is fetched unless the hub's cache has it.

    Raises:
        DataError: if it cannot be had; the message says why and what to do.
    """
    file = parse(address)
    if isinstance(file, Path):
        FileTable(file).check()
        return file
    return file.cached() or _download(file)


def _download(file: HubFile) -> Path:
    if reason := obstacle():
        raise DataError(_out_of_reach(file, reason))
    from huggingface_hub import hf_hub_download  # takes a third of a second
    from huggingface_hub.errors import RemoteEntryNotFoundError

    repository = file.repository
    try:
        found = hf_hub_download(repository.name, file.path, repo_type=repository.kind, revision=repository.revision)
    except RemoteEntryNotFoundError as error:
        raise DataError(_no_such_file(file, [])) from error
    except Exception as error:
        raise DataError(explain(repository, error)) from error
    return Path(found)


def _no_such_file(file: HubFile, close: list[str]) -> str:
    kind = file.repository.kind.replace("dataset", "data set")
    like = f"; names like it are {', '.join(close)}" if close else "; look for it on the page of its files"
    return f"the hub's {kind} {file.repository} has no file {file.path}{like}"


def _out_of_reach(file: HubFile, reason: str) -> str:
    return (
        f"{file} is not in the local cache ({cache_folder()}), and {reason}; give the path of a copy in place of the "
        "address, or run once with access to the hub (HF_HUB_OFFLINE unset), or set HF_HOME to a cache that has it"
    )
