"""The log of verdicts: JSON lines, written as they arrive by one process, and never lost once written."""

import errno
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from salsa.judging import verdict
from salsa.judging.verdict import Verdict, VerdictError
from salsa.store.durability import replace_text, sync
from salsa.store.lock import StageLock

SYNC_SECONDS = 1.0
"""A kill loses nothing that was appended; a power cut at most what came in this time."""


def known(path: Path) -> dict[str, Verdict]:
    """Return the verdicts of a log by key without opening it for writing; none if there is no such file."""
    return verdict.counting(verdict.lines(path)) if path.exists() else {}


class LogError(Exception):
    """A log that cannot be written; the message says why and what to do."""


class LogBusy(LogError):
    """Another process writes the log."""


def lock_of(path: Path) -> Path:
    """Return the lock of a log; who holds it writes the log (`StageLock`)."""
    return path.with_name(f".{path.name}.lock")


class VerdictLog:
    """A file of verdicts that this process alone may write, used as `with VerdictLog(path) as log`.

    `verdicts` are those that count, by key; `calls` and `spent` are those of all lines. A last line that a kill tore
    is removed when it is opened. Raises LogBusy while another process writes it, LogError for a gzipped file, OSError
    where it cannot be written at all, and VerdictError if it is no log.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.verdicts: dict[str, Verdict] = {}
        self.calls = 0
        self.spent = 0.0
        self._lock = StageLock(lock_of(path))
        self._descriptor = -1
        self._end = 0
        self._synced = 0.0

    def __enter__(self) -> "VerdictLog":
        if not self._lock.try_acquire():
            owner = self._lock.owner() or {}
            raise LogBusy(
                f"{self.path} is being written by another process ({owner.get('pid', 'unknown')} on "
                f"{owner.get('host', 'an unknown host')}); wait for it or name another file"
            )
        try:
            self._open()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._descriptor >= 0:
                descriptor, self._descriptor = self._descriptor, -1
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        finally:
            self._lock.release()

    def append(self, found: Verdict) -> None:
        """Write a verdict.

        Raises:
            LogError: if it could not be written; the file then ends with the one before.
        """
        line = json.dumps(found.as_json()).encode("ascii") + b"\n"
        try:
            self._write(line)
        except OSError as error:
            self._cut(self._end)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            why = "no room is left" if full else str(error.strerror)
            raise LogError(
                f"{self.path}: {why}; its verdicts so far ({len(self.verdicts)}) are safe. "
                "Make room, and run the same command: it asks for what is missing"
            ) from error
        self._end += len(line)
        self._count(found)

    def rewrite(self, verdicts: Iterable[Verdict]) -> None:
        """Replace all lines, in one step that no kill can tear; for those that were parsed anew."""
        found = list(verdicts)
        replace_text(self.path, "".join(json.dumps(each.as_json()) + "\n" for each in found))
        os.close(self._descriptor)
        self._descriptor = -1
        self._open()

    def _open(self) -> None:
        new = not self.path.exists()
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        if new:
            sync(self.path.parent)
        self.verdicts, self.calls, self.spent = {}, 0, 0.0
        try:
            for found in verdict.lines(self.path):  # before anything is cut: it may be a file of something else
                self._count(found)
        except VerdictError as error:
            raise VerdictError(
                f"{error}; if this is a log of verdicts, delete that line (what it said is asked again); "
                "if it is not, name another file"
            ) from error
        self._repair()

    def _repair(self) -> None:
        """End the file behind its last whole line."""
        text = self.path.read_bytes()
        if text.startswith(b"\x1f\x8b"):
            raise LogError(f"{self.path} is gzipped; unpack it, or name another file")
        torn = text.rpartition(b"\n")[2]
        if torn and text == torn and not text.startswith(b"{"):
            raise LogError(f"{self.path} is no log of verdicts; name another file")
        self._end = len(text) - len(torn)
        if not torn:
            return
        try:
            json.loads(torn)
        except ValueError:
            self._cut(self._end)
        else:  # only its newline is missing
            self._write(b"\n")
            self._end = len(text) + 1

    def _count(self, found: Verdict) -> None:
        verdict.count(found, self.verdicts)
        self.calls += found.attempt
        self.spent += found.price or 0.0

    def _write(self, line: bytes) -> None:
        left = memoryview(line)
        while left:
            left = left[os.write(self._descriptor, left) :]
        now = time.monotonic()
        if now - self._synced >= SYNC_SECONDS:
            os.fsync(self._descriptor)
            self._synced = now

    def _cut(self, length: int) -> None:
        os.ftruncate(self._descriptor, length)
