"""Digests of large files, computed once: weights and data that are only read need not be hashed by every command."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from salsa.store.fingerprint import file_digest

LARGE_BYTES = 8 * 2**20
"""Smaller files are hashed each time: that takes no longer than looking them up."""
SETTLED_NANOSECONDS = 2 * 10**9
"""A file changed more recently than this could change again without a new time stamp: not remembered."""


class Digests:
    """SHA-256 of files; of large ones remembered in the JSON file `memory`, with what betrays a change.

    A remembered digest holds while path, size, modification time and inode change time (which no tool sets back) are
    the same. `notice` is called with a large file before it is read. A memory that is lost or damaged costs time only.
    """

    def __init__(self, memory: Path, notice: Callable[[Path], None] | None = None) -> None:
        self.memory = memory
        self._notice = notice
        self._known: dict[str, list[object]] | None = None

    def __call__(self, path: Path) -> str:
        """Return the digest of a file as 64 hexadecimal digits."""
        state = path.stat()
        if state.st_size < LARGE_BYTES:
            return file_digest(path)
        key, sign = str(path.resolve()), [state.st_size, state.st_mtime_ns, state.st_ctime_ns]
        if self._known is None:
            self._known = self._read()
        remembered = self._known.get(key)
        if remembered is not None and remembered[:-1] == sign:
            return str(remembered[-1])
        if self._notice is not None:
            self._notice(path)
        digest = file_digest(path)
        if time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) > SETTLED_NANOSECONDS:
            self._known = self._read() | {key: [*sign, digest]}
            self._write()
        return digest

    def _read(self) -> dict[str, list[object]]:
        try:
            known = json.loads(self.memory.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        rows = known.items() if isinstance(known, dict) else ()
        return {key: row for key, row in rows if isinstance(row, list) and len(row) == 4}

    def _write(self) -> None:
        self.memory.parent.mkdir(parents=True, exist_ok=True)
        draft = self.memory.with_name(f".{self.memory.name}-{os.getpid()}")
        draft.write_text(json.dumps(self._known, indent=1) + "\n", encoding="utf-8")
        draft.replace(self.memory)
