"""One worker at a time on one stage, also after `kill -9`, without a server.

The lock is the operating system's (`flock`, through filelock), so it ends with the process that holds it: there is no
stale lock to break and no time-out to guess. Who holds it is written to a file beside it, which serves people who
wait and is never consulted to decide anything.
"""

import errno
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from filelock import BaseFileLock

POLL_SECONDS = 0.1
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP})


def this_process() -> dict[str, Any]:
    """Return `host` and `pid` of this process, which together name it in owner, failure and temporary files."""
    return {"host": os.uname().nodename, "pid": os.getpid()}


def gone(host: str, pid: int) -> bool:
    """Return whether the process surely no longer runs; of processes on other hosts nothing is known: False.

    One that has ended and that nobody has waited for counts as gone: in a container it may stay listed for ever.
    """
    if host != os.uname().nodename:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # it exists and belongs to another user
    try:
        # After the name, which is in brackets and may hold any character, comes the state.
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False  # no /proc here, or it has just ended: the next one to ask will know
    return state in ("Z", "X")


class StageLock:
    """The exclusive right to work on one stage: held by one object in one process, freed by its death.

    A forked child does not hold its parent's lock. The lock belongs to this object, not to a thread: threads that
    compete for a stage need an object each. `with lock:` waits until the lock is free, or keeps it if `try_acquire`
    got it before, and releases it at the end.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._file_lock: BaseFileLock | None = None
        self._holder_pid: int | None = None

    def __repr__(self) -> str:
        return f"StageLock({str(self.path)!r}, held={self.held})"

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._file_lock is not None and self._holder_pid == os.getpid()

    def try_acquire(self) -> bool:
        """Take the lock if it is free and return whether this object now holds it (also if it did before).

        Never waits. Raises OSError if the file system has no locks.
        """
        # Imported here because filelock takes longer to import than the rest of the store, and plans take no locks.
        from filelock import FileLock, SoftFileLock, Timeout

        if self.held:
            return True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path, thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
        except NotImplementedError as error:  # how older releases of filelock report ENOSYS
            raise self._unsupported() from error
        except OSError as error:
            if error.errno in _NO_LOCKS:
                raise self._unsupported() from error
            raise
        if isinstance(lock, SoftFileLock):
            # Newer releases fall back to a file whose existence is the lock; it would outlive a killed holder.
            lock.release()
            raise self._unsupported()
        try:
            self._owner_path.write_text(json.dumps({**this_process(), "since": time.time()}), encoding="utf-8")
        except BaseException:
            lock.release()
            raise
        self._file_lock, self._holder_pid = lock, os.getpid()
        return True

    def release(self) -> None:
        """Give the lock back; does nothing if this object does not hold it."""
        if self._file_lock is None or not self.held:
            return
        lock, self._file_lock = self._file_lock, None
        try:
            self._owner_path.unlink(missing_ok=True)  # while still holding it: later it would be the next owner's file
        finally:
            lock.release()

    def owner(self) -> dict[str, Any] | None:
        """Return who holds the lock, for messages: `host`, `pid`, `since` (seconds since 1970); None if nobody does.

        A file left by a process that is gone from this host counts as nobody. The answer is a moment old when it
        arrives and must not replace `try_acquire`.
        """
        try:
            owner = json.loads(self._owner_path.read_text(encoding="utf-8"))
            host, pid = str(owner["host"]), int(owner["pid"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None  # free, or the owner is just writing the file
        return None if gone(host, pid) else owner

    def __enter__(self) -> "StageLock":
        while not self.try_acquire():
            time.sleep(POLL_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    @property
    def _owner_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.owner.json")

    def _unsupported(self) -> OSError:
        return OSError(
            errno.ENOLCK,
            "file locks do not work on this file system, so two workers could do the same work; "
            "put the outputs on a local disk or mount the file system with locks",
            str(self.path),
        )


def working(folder: Path | str) -> bool:
    """Return whether locks in `folder` exclude, tried with two descriptors on one file; asked once before work starts.

    It finds file systems without locks and those that pretend to lock. A network file system that locks within each
    machine only cannot be found out from one machine. Raises OSError if `folder` cannot be made or written to.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    process = this_process()
    probe = folder / f"probe-{process['host']}-{process['pid']}-{os.urandom(4).hex()}.lock"
    first, second = StageLock(probe), StageLock(probe)
    try:
        if not first.try_acquire() or second.try_acquire():
            return False
        first.release()
        return second.try_acquire()
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    finally:
        first.release()
        second.release()
        probe.unlink(missing_ok=True)
