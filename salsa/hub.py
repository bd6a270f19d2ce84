"""The Hugging Face hub from outside its client: which names are the hub's, what is cached, whether it can be asked.

Answers within a second and imports nothing but the standard library, so that it can be called before any work; only
`ask`, which is for a hub within reach, loads the hub's client.
"""

import os
import re
import socket
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

ENDPOINT = "https://huggingface.co"
CONNECT_SECONDS = 0.5
ASK_SECONDS = 5.0
REMEMBERED_SECONDS = 10.0

_TRUE = ("1", "ON", "YES", "TRUE")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class HubError(RuntimeError):
    """What the hub has answered, in the user's terms: what is missing and what to do."""


@dataclass(frozen=True)
class Repository:
    """A model, data set or space of the hub, at a commit, branch or tag (None: the newest commit)."""

    kind: Literal["model", "dataset", "space"]
    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.name + (f" at revision {self.revision}" if self.revision else "")


@dataclass(frozen=True)
class Answer:
    """What the hub says of a repository that the user may read: the commit of the revision, and its files."""

    commit: str
    files: tuple[str, ...]


def is_local(name: str) -> bool:
    """Return whether a name means a folder: it looks like a path or is one; hub names have the form `owner/name`."""
    return name.startswith((".", "/", "~")) or name.count("/") != 1 or Path(name).exists()


def cache_folder() -> Path:
    """Return the hub's cache, by the variables that its own client reads."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    home = Path(os.environ.get("HF_HOME") or caches / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()


def cached(repository: Repository) -> Path | None:
    """Return the folder of the cached commit that the revision means, complete or not; None if there is none.

    Without a revision it is the commit that was the newest when it was fetched last.
    """
    commit = _cached_commit(repository)
    snapshot = _folder(repository) / "snapshots" / (commit or "none")
    return snapshot if commit and snapshot.is_dir() else None


def commit(repository: Repository) -> str | None:
    """Return the commit that a revision means: pinned, cached, or else asked for; None if it cannot be known."""
    if repository.revision and _COMMIT.fullmatch(repository.revision):
        return repository.revision
    known = _cached_commit(repository)
    if known is None and not obstacle():
        try:
            known = ask(repository).commit
        except HubError:
            return None
    return known


def obstacle() -> str:
    """Return why the hub cannot be asked, "" if it can; decided within about half a second, for some seconds."""
    if _offline():
        return "HF_HUB_OFFLINE forbids to ask the hub"
    return _connection(*_address(), int(time.monotonic() / REMEMBERED_SECONDS))


@cache
def _connection(host: str, port: int, moment: int) -> str:
    """Return why a host cannot be reached, "" if it can; tried once in each moment."""
    outcome = [f"{host} does not answer within {CONNECT_SECONDS} s"]

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            outcome.append(f"{host} cannot be reached ({error})")
        else:
            outcome.append("")

    # In a thread, because looking up a name has no time limit of its own.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS + 0.1)
    return outcome[-1]


@cache
def ask(repository: Repository) -> Answer:
    """Ask the hub, once a process, for the commit and the files of a repository that the user may read.

    Raises:
        HubError: if there is no such repository or revision, its licence is not accepted, or the hub does not answer.
    """
    from huggingface_hub import HfApi  # takes a third of a second

    try:
        api = HfApi()
        describe: dict[str, Any] = {"model": api.model_info, "dataset": api.dataset_info, "space": api.space_info}
        found = describe[repository.kind](repository.name, revision=repository.revision, timeout=ASK_SECONDS)
        # Anyone may read what a gated repository holds, but not its files.
        if found.gated:
            api.auth_check(repository.name, repo_type=repository.kind)
    except Exception as error:
        raise HubError(explain(repository, error)) from error
    return Answer(found.sha or "", tuple(sibling.rfilename for sibling in found.siblings or []))


def explain(repository: Repository, error: Exception) -> str:
    """Return what an error of the hub's client means for the user, and what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    kind, name = {"dataset": "data set"}.get(repository.kind, repository.kind), repository.name
    page = f"{ENDPOINT}/{'' if repository.kind == 'model' else f'{repository.kind}s/'}{name}"
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    if isinstance(error, GatedRepoError):
        return f"the hub's {kind} {name} is gated: accept its licence on {page}, then {log_in}"
    if isinstance(error, RevisionNotFoundError):
        return f"the hub's {kind} {name} has no revision {repository.revision}; null takes the newest"
    if isinstance(error, RepositoryNotFoundError):
        return f"the hub has no {kind} {name} that you may read; check the name, or {log_in} if it is private"
    if isinstance(error, HfHubHTTPError):
        return f"the hub did not hand out the {kind} {repository}: {error}"
    return f"the {kind} {repository} could not be had from the hub ({type(error).__name__}: {error}); try again"


def _folder(repository: Repository) -> Path:
    return cache_folder() / f"{repository.kind}s--{repository.name.replace('/', '--')}"


def _cached_commit(repository: Repository) -> str | None:
    folder, revision = _folder(repository), repository.revision
    if revision and (folder / "snapshots" / revision).is_dir():
        return revision
    reference = folder / "refs" / (revision or "main")
    return reference.read_text(encoding="utf-8").strip() if reference.is_file() else None


def _offline() -> bool:
    return (os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or "").upper() in _TRUE


def _address() -> tuple[str, int]:
    """Return the host and port that a request to the hub connects to: the hub's own, or a proxy's."""
    endpoint = urlsplit(os.environ.get("HF_ENDPOINT") or ENDPOINT)
    proxy = getproxies().get(endpoint.scheme)
    if proxy and not proxy_bypass(endpoint.hostname or ""):
        endpoint = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return endpoint.hostname or "", endpoint.port or (443 if endpoint.scheme == "https" else 80)
