"""Is an artifact still what was published?"""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

from salsa.store.fingerprint import file_digest
from salsa.store.manifest import MANIFEST, ManifestError, check, read
from salsa.store.sealing import files_below

Advance = Callable[[int], None]
"""Is told how many more bytes are done; over a whole artifact they add up to the sizes in its manifest."""

_LOST = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EIO})
"""Errors that say that the bytes are gone. Others, such as a missing permission, say nothing about them."""


def damaged_files(folder: Path, kind: str, fingerprint: str, advance: Advance | None = None) -> list[str]:
    """Return which of an artifact's files are missing or changed; `manifest.json` alone if that one is.

    Sizes are compared before anything is read. Raises OSError only where the files cannot be judged, for lack of a
    permission, say.
    """
    try:
        files = check(folder, kind, fingerprint)["files"]
    except ManifestError:
        return [MANIFEST]
    except OSError as error:
        if error.errno not in _LOST:
            raise
        return [MANIFEST]
    advance = advance or _ignore
    right_size = {name: _has_size(folder / name, entry["bytes"]) for name, entry in files.items()}
    advance(sum(entry["bytes"] for name, entry in files.items() if not right_size[name]))
    return [name for name, entry in files.items() if not (right_size[name] and _same(folder / name, entry, advance))]


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _same(path: Path, entry: dict[str, Any], advance: Advance) -> bool:
    try:
        return file_digest(path, advance) == entry["sha256"]
    except OSError as error:
        if error.errno not in _LOST:
            raise
        return False


def _ignore(_: int) -> None:
    """Show no progress."""


def extra_files(folder: Path) -> list[str]:
    """Return the files in an artifact's folder that are not part of it; raises `ManifestError` or OSError."""
    published = read(folder)["files"].keys() | {MANIFEST}
    there = (path.relative_to(folder).as_posix() for path in files_below(folder))
    return sorted(name for name in there if name not in published)
