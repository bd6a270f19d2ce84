"""A hub that is not there: an empty cache, a port of this machine where nobody answers, and folders laid as a cache."""

import shutil
from pathlib import Path

import pytest

from salsa import hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def without_network(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Make the hub out of reach and its cache the empty folder `home`, whatever this machine has."""
    unset = (
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HF_HUB_CACHE",
        "http_proxy",
        "HTTP_PROXY",
        "all_proxy",
        "ALL_PROXY",
    )
    for name in unset:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    hub.ask.cache_clear()
    hub._connection.cache_clear()


def put_into_cache(home: Path, kind: str, name: str, files: Path, reference: str | None = "main") -> Path:
    """Copy a folder's files into the hub's cache as the commit `COMMIT`, which `reference` names; return its folder."""
    folder = home / "hub" / f"{kind}s--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    shutil.copytree(files, snapshot)
    if reference:
        (folder / "refs").mkdir()
        (folder / "refs" / reference).write_text(COMMIT)
    return snapshot
