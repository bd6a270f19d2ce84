"""Reads offline W&B runs back: 32 KiB blocks of records in the log format of LevelDB, each a protocol buffer."""

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

WAIT_SECONDS = 60.0
HEADER, BLOCK, RECORD_HEADER = 7, 32 * 1024, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class OfflineRun:
    """What a run's file says."""

    file: Path
    id: str = ""
    started: float = 0.0
    name: str = ""
    group: str = ""
    job_type: str = ""
    project: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, str] = field(default_factory=dict)
    """What each metric is drawn over."""
    alerts: list[tuple[str, str, str]] = field(default_factory=list)
    """Title, text and level of each."""
    exit_code: int | None = None

    def table(self, key: str) -> dict[str, Any]:
        """Return the columns and data of a table that was logged."""
        (path,) = [row[f"{key}/path"] for row in self.history if row.get(f"{key}/_type") == "table-file"]
        content: dict[str, Any] = json.loads((self.file.parent / "files" / path).read_text())
        return content


def read_runs(folder: Path) -> list[OfflineRun]:
    """Return the offline runs under a folder, in the order of their starts: the names of files tell seconds only.

    W&B's service writes a file to its end after the run is finished, so a busy machine needs a moment.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        runs = [_read(path) for path in sorted(folder.rglob("run-*.wandb"))]
        if all(run.exit_code is not None for run in runs) or time.monotonic() > deadline:
            return sorted(runs, key=lambda run: run.started)
        time.sleep(0.05)


def _read(path: Path) -> OfflineRun:
    run = OfflineRun(path)
    for data in _records(path.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            described = record.run
            run.started = described.start_time.ToNanoseconds() / 1e9
            run.id, run.name, run.group = described.run_id, described.display_name, described.run_group
            run.job_type, run.project = described.job_type, described.project
            run.config |= _values(described.config.update)
        elif kind == "config":
            run.config |= _values(record.config.update)
        elif kind == "history":
            run.history.append(_values(record.history.item))
        elif kind == "summary":
            run.summary |= _values(record.summary.update)
        elif kind == "metric":
            run.axes[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "alert":
            run.alerts.append((record.alert.title, record.alert.text, record.alert.level))
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def _values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def _records(data: bytes) -> Iterator[bytes]:
    place, parts = HEADER, b""
    while place + RECORD_HEADER <= len(data):
        left = BLOCK - place % BLOCK
        if left < RECORD_HEADER:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + RECORD_HEADER])
        place += RECORD_HEADER
        if place + length > len(data):
            return  # still being written
        parts = data[place : place + length] if kind in (FULL, FIRST) else parts + data[place : place + length]
        place += length
        if kind in (FULL, LAST):
            yield parts
