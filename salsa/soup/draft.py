"""A folder that appears whole: it is made in a hidden folder beside its place, and moved there by one rename."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from salsa.store.lock import StageLock

_CONFIGURATIONS = ("config.json", "adapter_config.json")
_WEIGHTS = ("*.safetensors", "*.bin")
_ATTEMPTS = 3


class DraftError(RuntimeError):
    """A folder that cannot be made where it is asked for; the message says why and what to do."""


class Draft:
    """The making of one folder.

    While it is made, `.NAME.unfinished` beside it holds `made` (to be filled), `scratch` (for what is not kept), a
    `lock` that ends with its process, and for a moment `replaced`, what was there before. What a killed process left of
    it, the next one that makes the same folder removes; it puts back what was there before if the kill came between two
    renames.
    """

    def __init__(self, out: Path, *, replace: bool) -> None:
        self.out = Path(os.path.realpath(out))
        self.shown = out
        self.replace = replace
        self.place = self.out.parent / f".{self.out.name}.unfinished"
        self.folder = self.place / "made"
        self.scratch = self.place / "scratch"
        self._replaced = self.place / "replaced"

    def check(self) -> None:
        """Raise DraftError if something is in the way; changes nothing."""
        if not self.out.name:
            raise DraftError(f"--out {self.shown} is no folder that can be made; give another one")
        if not os.path.lexists(self.out):
            self._check_writable()
            return
        if not self.out.is_dir():
            raise DraftError(f"--out {self.shown} is a file; give a folder")
        if any(self.out.iterdir()):
            if not self.replace:
                raise DraftError(f"--out {self.shown} is not empty; give another folder, or --force to replace it")
            if not _holds_model(self.out):
                raise DraftError(
                    f"--out {self.shown} holds no model ({' or '.join(_CONFIGURATIONS)}, and weights), and --force "
                    "replaces nothing else; give another folder, or remove it yourself"
                )
        self._check_writable()

    @contextmanager
    def making(self) -> Iterator[Path]:
        """Give the empty folder to fill, and put it into its place at the end; on any exception, remove it.

        Raises:
            DraftError: if something is in the way, at the beginning or at the end, or another process makes the same
                folder.
        """
        with self._alone():
            self._clear()
            self.check()
            self.folder.mkdir()
            self.scratch.mkdir()
            yield self.folder
            self.check()
            self._publish()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock; leave nothing beside the folder."""
        lock = StageLock(self.place / "lock")
        if not self._acquired(lock):
            owner = lock.owner()
            by = f"process {owner['pid']} on {owner['host']}" if owner else "another process"
            raise DraftError(f"--out {self.shown} is just being made by {by}; wait for it, or give another folder")
        try:
            yield
        finally:
            self._clear()
            # Before the lock is free: afterwards it may be another's.
            lock.path.unlink(missing_ok=True)
            lock.release()
            with suppress(OSError):  # another one may be in it by now
                self.place.rmdir()

    def _acquired(self, lock: StageLock) -> bool:
        for _ in range(_ATTEMPTS):
            try:
                if lock.try_acquire():
                    return True
            except FileNotFoundError:
                continue  # who was here before removed the folder between two steps of ours
        return False

    def _clear(self) -> None:
        if self._replaced.is_dir() and not self.out.exists():
            self._replaced.rename(self.out)
        for folder in (self.folder, self.scratch, self._replaced):
            if folder.exists():
                shutil.rmtree(folder)

    def _publish(self) -> None:
        if self.replace and self.out.is_dir() and any(self.out.iterdir()):
            self.out.rename(self._replaced)
        self.folder.rename(self.out)

    def _check_writable(self) -> None:
        place = standing(self.out.parent)
        if not place.is_dir():
            raise DraftError(f"--out {self.shown}: {place} is a file, not a folder; give another one")
        if not os.access(place, os.W_OK | os.X_OK):
            raise DraftError(f"--out {self.shown}: nothing can be written to {place}; give another folder")


def _holds_model(folder: Path) -> bool:
    configured = any((folder / name).is_file() for name in _CONFIGURATIONS)
    return configured and any(True for pattern in _WEIGHTS for _ in folder.glob(pattern))


def standing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return next(place for place in (folder, *folder.parents) if place.exists())
