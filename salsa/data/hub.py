"""Data sets of the Hugging Face hub, or local folders of their Parquet files, with pinned splits and columns."""

import os
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from salsa.data.ingestion import IngestSettings, TableSet, ingest_tables
from salsa.data.rows import DataError, FileTable, Row, Table
from salsa.data.tally import Progress

ULTRACHAT = "HuggingFaceH4/ultrachat_200k"
ULTRACHAT_REVISION = "8049631c405ae6576f93f445c6b8166f76f5505a"
ULTRAFEEDBACK = "HuggingFaceH4/ultrafeedback_binarized"
ULTRAFEEDBACK_REVISION = "3949bf5f8c17c394422ccfab0c31ea9c20bdeb85"

_CONNECT_SECONDS = 0.5
_TRUE = ("1", "ON", "YES", "TRUE")


@dataclass(frozen=True)
class HubSet:
    """One split of a hub set (or of a local folder with its Parquet files) and the columns that are read of it."""

    name: str
    split: str
    columns: tuple[str, ...]
    revision: str | None = None

    @property
    def folder(self) -> Path | None:
        """The local folder, if the name is one."""
        path = Path(self.name).expanduser()
        return path if path.is_dir() else None


@dataclass(frozen=True)
class HubSets:
    """Hub sets by what they hold; prompts by the name of the suite that they become."""

    demonstrations: tuple[HubSet, ...] = ()
    preferences: tuple[HubSet, ...] = ()
    prompts: Mapping[str, HubSet] = field(default_factory=dict)

    def named(self) -> Iterator[HubSet]:
        """Yield every set."""
        yield from self.demonstrations
        yield from self.preferences
        yield from self.prompts.values()


def ultra_sets(
    demonstrations: str = ULTRACHAT,
    demonstrations_revision: str | None = ULTRACHAT_REVISION,
    preferences: str = ULTRAFEEDBACK,
    preferences_revision: str | None = ULTRAFEEDBACK_REVISION,
) -> HubSets:
    """Return UltraChat as demonstrations, UltraFeedback as preferences, and their test splits as suites."""
    asked = ("prompt", "prompt_id")
    pair = ("prompt", "chosen", "rejected")
    return HubSets(
        demonstrations=(HubSet(demonstrations, "train_sft", ("messages",), demonstrations_revision),),
        preferences=(HubSet(preferences, "train_prefs", pair, preferences_revision),),
        prompts={
            "ultrachat": HubSet(demonstrations, "test_sft", asked, demonstrations_revision),
            "ultrafeedback": HubSet(preferences, "test_prefs", asked, preferences_revision),
        },
    )


def ingest_hub(
    sets: HubSets,
    out: Path,
    settings: IngestSettings,
    progress: Progress | None = None,
    prompts: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """Read hub sets, and files of prompts as further suites, into canonical records; return the report.

    Raises DataError within a second where a set is not at hand and the hub cannot be reached.
    """
    check_hub(sets)
    files = {name: FileTable(path) for name, path in (prompts or {}).items()}
    for file in files.values():
        file.check()
    if repeated := sorted(set(files) & set(sets.prompts)):
        raise DataError(f"the suite {repeated[0]!r} is made of a hub set already; give the file's suite another name")
    tables = TableSet(
        demonstrations=tuple(map(open_set, sets.demonstrations)),
        preferences=tuple(map(open_set, sets.preferences)),
        prompts={name: open_set(hub_set) for name, hub_set in sets.prompts.items()} | files,
    )
    return ingest_tables(tables, out, settings, progress)


def check_hub(sets: HubSets) -> None:
    """Raise DataError, naming what is missing and what to do, unless every set is local, cached or within reach.

    Takes less than a second and imports no library, so that it can be called before any work.
    """
    missing = []
    for hub_set in sets.named():
        if hub_set.folder:
            _shards(hub_set.folder, hub_set.split)
        elif hub_set.name.startswith((".", "/", "~")) or hub_set.name.count("/") != 1:
            raise DataError(f"the folder {hub_set.name} does not exist, and it is not a hub name like owner/name")
        elif not _cached(hub_set):
            missing.append(f"{hub_set.name} (split {hub_set.split})")
    if not missing:
        return
    reason = "HF_HUB_OFFLINE forbids to fetch" if _offline() else _unreachable()
    if reason:
        raise DataError(
            f"not in the local cache ({_cache_folder()}): {', '.join(missing)}; and {reason}. Either give a local "
            "folder that holds the set's Parquet files in place of the name, or run once with access to the hub "
            "(HF_HUB_OFFLINE unset) and keep its cache, or set HF_HOME to a cache that has it"
        )


def open_set(hub_set: HubSet) -> Table:
    """Return the table of a hub set: its local folder, its cached files, or else what `datasets` fetches.

    A cached copy serves if its commit is pinned or the hub is out of reach. Raises DataError if the columns are not
    those that are pinned.
    """
    folder = hub_set.folder
    cached = None if folder else _cached(hub_set)
    if cached and (hub_set.revision or _offline() or _unreachable()):
        folder = cached
    if folder:
        parts: tuple[Table, ...] = tuple(map(FileTable, _shards(folder, hub_set.split)))
        table = _Columns(f"{folder} (split {hub_set.split})", parts, hub_set.columns)
    else:
        table = _Columns(*_fetched(hub_set), hub_set.columns)
    found = table.parts[0].columns()
    if lacking := [column for column in hub_set.columns if column not in found]:
        raise DataError(f"{table.name} lacks the columns {', '.join(lacking)}; found: {', '.join(found)}")
    return table


@dataclass(frozen=True)
class _Columns:
    """Some tables, one after the other, of which only the pinned columns are read."""

    name: str
    parts: tuple[Table, ...]
    pinned: tuple[str, ...]

    def columns(self) -> tuple[str, ...]:
        return self.pinned

    def rows(self, wanted: frozenset[str]) -> Iterator[Row]:
        for part in self.parts:
            yield from part.rows(wanted & frozenset(self.pinned))


@dataclass(frozen=True)
class _Fetched:
    """A split that `datasets` has fetched and maps into memory."""

    name: str
    dataset: Any

    def columns(self) -> tuple[str, ...]:
        return tuple(self.dataset.column_names)

    def rows(self, wanted: frozenset[str]) -> Iterator[Row]:
        chosen = self.dataset.select_columns([name for name in self.columns() if name in wanted])
        for number, values in enumerate(chosen, 1):
            yield Row(f"{self.name}, row {number}", values)


def _fetched(hub_set: HubSet) -> tuple[str, tuple[Table, ...]]:
    from datasets import load_dataset  # takes about a second, so only where something is fetched

    try:
        dataset = load_dataset(hub_set.name, split=hub_set.split, revision=hub_set.revision)
    except (OSError, ValueError, RuntimeError) as error:
        at = f" at {hub_set.revision}" if hub_set.revision else ""
        raise DataError(f"the hub set {hub_set.name} (split {hub_set.split}){at} could not be read: {error}") from error
    # The names of the fetched files tell the commit, also where the newest was asked for.
    commits = {
        match[1] for key in dataset.info.download_checksums or {} if (match := re.search(r"@([0-9a-f]{40})/", key))
    }
    commit = hub_set.revision or "+".join(sorted(commits)) or "newest"
    name = f"{hub_set.name}@{commit} (split {hub_set.split})"
    return name, (_Fetched(name, dataset),)


def _shards(folder: Path, split: str) -> list[Path]:
    """Return the Parquet files of a split; names are those of the hub, such as train_sft-00000-of-00003.parquet."""
    files = sorted(folder.rglob("*.parquet"))
    shards = [
        path for path in files if re.fullmatch(rf"{re.escape(split)}(-\d+.*)?", path.stem) or path.parent.name == split
    ]
    if not shards:
        found = ", ".join(path.name for path in files[:5]) or "no Parquet files"
        raise DataError(f"{folder} holds no Parquet files of the split {split} ({split}-*.parquet); found: {found}")
    for path in shards:
        count = re.search(r"-of-(\d+)", path.stem)
        if count and int(count[1]) != len(shards):
            raise DataError(f"{folder} holds {len(shards)} of the {int(count[1])} Parquet files of the split {split}")
    return shards


def _cache_folder() -> Path:
    """Return the hub's cache, by the variables that its own client reads."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    home = Path(os.environ.get("HF_HOME") or caches / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()


def _cached(hub_set: HubSet) -> Path | None:
    """Return the folder of a cached commit that holds the split completely: the pinned one, else the last fetched."""
    folder = _cache_folder() / ("datasets--" + hub_set.name.replace("/", "--"))
    commit = hub_set.revision
    if commit is None or not (folder / "snapshots" / commit).is_dir():
        reference = folder / "refs" / (commit or "main")
        if not reference.is_file():
            return None
        commit = reference.read_text(encoding="utf-8").strip()
    snapshot = folder / "snapshots" / commit
    try:
        _shards(snapshot, hub_set.split)
    except DataError:
        return None
    return snapshot


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def _unreachable() -> str:
    """Return why the hub cannot be reached, "" if it can; decided within about half a second.

    A connection in a thread, because looking up a name has no time limit of its own.
    """
    endpoint = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    proxy = getproxies().get(endpoint.scheme)
    via = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else endpoint
    port = via.port or (443 if via.scheme == "https" else 80)
    outcome = [f"{via.hostname} does not answer within {_CONNECT_SECONDS} s"]

    def connect() -> None:
        try:
            socket.create_connection((via.hostname, port), timeout=_CONNECT_SECONDS).close()
        except OSError as error:
            outcome.append(f"{via.hostname} cannot be reached ({error})")
        else:
            outcome.append("")

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_CONNECT_SECONDS + 0.1)
    return outcome[-1]
