"""Sealing: how a folder that was written becomes one that may be published."""

import errno
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from salsa.store.durability import sync
from salsa.store.fingerprint import file_digest
from salsa.store.manifest import MANIFEST, written


def seal(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Make everything in `folder` readable and durable, then write its manifest, with all digests, as the last file."""
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "there is no folder to publish", str(folder))
    if (folder / MANIFEST).exists():
        raise ValueError(f"{folder} already holds {MANIFEST}; the store writes this file: give it another name")
    readable = _readable_bits(folder)
    folders = [folder, *sorted(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())]
    files = {}
    for path in sorted(files_below(folder)):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            raise ValueError(f"{path} is a link or a special file; an artifact holds plain files only: copy it")
        path.chmod(stat.S_IMODE(mode) | readable)
        files[path.relative_to(folder).as_posix()] = {"sha256": file_digest(path), "bytes": path.stat().st_size}
        sync(path)
    for path in folders:
        path.chmod(stat.S_IMODE(path.stat().st_mode) | readable | readable >> 2)  # r-- and --x of the same people
    manifest_path = folder / MANIFEST
    manifest_path.write_text(written(manifest, files), encoding="utf-8")
    sync(manifest_path)
    for path in folders:
        sync(path)


def files_below(folder: Path) -> Iterator[Path]:
    """Iterate over everything below `folder` that is not a folder; links are not followed."""
    return (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _readable_bits(folder: Path) -> int:
    """Return which of r--r--r-- the umask leaves a new file.

    Read from a new file because asking `os.umask` means changing it for all threads for a moment.
    """
    probe = folder / ".permissions"
    probe.touch(exist_ok=False)
    try:
        return stat.S_IMODE(probe.stat().st_mode) & 0o444
    finally:
        probe.unlink()
