"""A journal: JSON lines that are appended durably and read back whatever a kill left of the last one."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from salsa.store.durability import sync


def read(path: Path) -> list[dict[str, Any]]:
    """Return the entries in order; none if there is no journal. What a kill or a power cut tore is left out."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return []
    return [entry for line in text.split(b"\n") if (entry := _entry(line)) is not None]


def append(path: Path, entry: Mapping[str, Any]) -> int:
    """Append an entry, wait until it is on the disk, and return how many entries there are now.

    A torn last line is removed first. What has no JSON is written as text. One process at a time may append.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    line = json.dumps(dict(entry), default=str).encode("ascii") + b"\n"
    with path.open("ab+") as file:
        _repair(file)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync(path.parent)
        sync(path.parent.parent)
    return len(read(path))


def _repair(file: Any) -> None:
    """End the file behind its last whole line, so that what is appended begins a line of its own."""
    file.seek(0)
    text = file.read()
    last = text.rpartition(b"\n")[2]
    if not last:
        return
    if _entry(last) is not None:  # only its newline is missing
        file.write(b"\n")
    else:
        file.truncate(len(text) - len(last))


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
