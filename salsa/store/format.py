"""The format of a store, so that code never works on files that a newer version of it wrote."""

import json
from pathlib import Path

from salsa.store.durability import replace_text

FORMAT = 1
"""Version of the store's folders and files. Manifests may get keys without a new one."""
FORMAT_FILE = "format.json"


class StoreFormatError(OSError):
    """A store that this version cannot work with; the message names the file and the fix."""


def check(root: Path) -> bool:
    """Return whether the store says that its format is one this version knows; False if it says nothing (yet).

    Raises `StoreFormatError` if the store is from a newer version or what it says is unreadable.
    """
    path = root / FORMAT_FILE
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))["format"]
        if type(stated) is not int or stated < 1:
            raise ValueError(f"format is {stated!r}")
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreFormatError(
            f"{path} should hold {json.dumps({'format': FORMAT})} and cannot be understood "
            f"({type(error).__name__}: {error}); restore it or choose another outputs.dir"
        ) from error
    if stated > FORMAT:
        raise StoreFormatError(
            f"{path}: this store was written by a newer version of salsa (store format {stated}, this version knows "
            f"{FORMAT}); update salsa or choose another outputs.dir"
        )
    return True


def state(root: Path) -> None:
    """Write the format of this version, in one step, making the store's root if needed."""
    replace_text(root / FORMAT_FILE, json.dumps({"format": FORMAT}) + "\n")
