"""Bytes and names that survive a power cut."""

import errno
import os
from pathlib import Path

from salsa.store.lock import this_process


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync folders and say so with EINVAL; their names are durable by themselves.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def replace_text(path: Path, text: str) -> None:
    """Write a file so that whoever reads it, also after a power cut, finds all of the old text or all of the new.

    Its folder is made if needed; no draft is left behind where writing fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    process = this_process()
    draft = path.with_name(f".{path.name}-{process['host']}-{process['pid']}-{os.urandom(4).hex()}")
    try:
        draft.write_text(text, encoding="utf-8")
        sync(draft)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync(path.parent)
