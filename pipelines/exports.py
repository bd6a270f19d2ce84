"""Results where people look for them: copies of reports, landscapes and studies. Imports no torch."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from salsa.store.artifact import Artifact, Store
from salsa.store.durability import sync
from salsa.store.garbage import EXPERIMENT_DIGITS, RESULTS
from salsa.store.inspection import set_aside
from salsa.store.manifest import MANIFEST

EXPORT = "export"
"""What the temporary folders of exports are named after; no kind of stage."""
COMPLETE = {"report": "experiment.json", "landscape": "landscape.json", "study": "study.json"}
"""The main file of each kind of result."""
POLL_SECONDS = 0.2


def exported(result: Artifact, root: Path) -> Path:
    """Return the folder where people look for a result."""
    return root / RESULTS[result.kind] / result.fingerprint[:EXPERIMENT_DIGITS]


def export(result: Artifact, store: Store) -> Path:
    """Copy a result out of the store, durably and in one step, to `experiments/` or the like; return its folder."""
    folder, complete = exported(result, store.root), COMPLETE[result.kind]
    if (folder / complete).is_file():
        return folder
    # A temporary folder of the store: what a kill leaves of it is removed by the next run.
    partial = store.temporary(EXPORT, result.fingerprint)
    shutil.copytree(result.path, partial, ignore=shutil.ignore_patterns(MANIFEST), dirs_exist_ok=True)
    for path in (*partial.rglob("*"), partial):
        sync(path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.is_dir() and not (folder / complete).is_file():
        # Somebody has taken the main file out of it; what else lies there may be theirs. With that file it is what
        # another process has copied meanwhile, and the rename below leaves it alone.
        folder.rename(_free(folder))
    try:
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial)
        if not (folder / complete).is_file():
            raise
    sync(folder.parent)
    return folder


def sound(store: Store, kind: str, fingerprint: str, say: Callable[[str], None]) -> Artifact | None:
    """Return a result if it is in the store with the bytes that were published; set a damaged one aside."""
    while True:
        result = store.find(kind, fingerprint)
        if result is None or not (damaged := result.verify()):
            return result
        try:
            place = set_aside(store, result, damaged)
        except BlockingIOError:
            time.sleep(POLL_SECONDS)  # Another process sets it aside, or only looks at it.
            continue
        if place is not None:
            shutil.rmtree(exported(result, store.root), ignore_errors=True)
            say(f"the {kind} is damaged and is made again; what is left of it: {place}")
            return None


def _free(folder: Path) -> Path:
    number = 1
    while (place := folder.with_name(f"{folder.name}.incomplete-{number}")).exists():
        number += 1
    return place
