"""Reading data sets of the Hugging Face hub, or local folders of their Parquet files, with pinned columns."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salsa.data.ingestion import IngestSettings, TableSet, ingest_tables
from salsa.data.rows import DataError, FileTable, Row, Table
from salsa.data.sets import HubSet, HubSets, cached_split, check_sets, split_files
from salsa.data.tally import Progress
from salsa.hub import obstacle


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
    check_sets(sets)
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


def open_set(hub_set: HubSet) -> Table:
    """Return the table of a hub set: its local folder, its cached files, or else what `datasets` fetches.

    A cached copy serves if its commit is pinned or the hub is out of reach. Raises DataError if the columns are not
    those that are pinned.
    """
    folder = hub_set.folder
    if folder is None and (hub_set.revision or obstacle()):
        folder = cached_split(hub_set)
    if folder:
        parts: tuple[Table, ...] = tuple(map(FileTable, split_files(folder, hub_set.split)))
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
