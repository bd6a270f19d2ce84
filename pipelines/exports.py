"""Reports where people look for them: copies of artifacts under `experiments/`. Imports no torch."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from salsa.store.artifact import Artifact, Store
from salsa.store.durability import sync
from salsa.store.inspection import set_aside
from salsa.store.manifest import MANIFEST

FOLDER = "experiments"
EXPORT = "export"
"""What the temporary folders of exports are named after; no kind of stage."""
COMPLETE = "experiment.json"
POLL_SECONDS = 0.2


def exported(report: Artifact, root: Path) -> Path:
    """Return the folder where people look for a report."""
    return root / FOLDER / report.fingerprint[:16]


def export(report: Artifact, store: Store) -> Path:
    """Copy a report out of the store to `experiments/<fingerprint>`, durably and in one step; return that folder."""
    folder = exported(report, store.root)
    if (folder / COMPLETE).is_file():
        return folder
    # A temporary folder of the store: what a kill leaves of it is removed by the next run.
    partial = store.temporary(EXPORT, report.fingerprint)
    shutil.copytree(report.path, partial, ignore=shutil.ignore_patterns(MANIFEST), dirs_exist_ok=True)
    for path in (*partial.rglob("*"), partial):
        sync(path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.is_dir():
        # Somebody has taken the main file out of it; what else lies there may be theirs.
        folder.rename(_free(folder))
    try:
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial)
        if not (folder / COMPLETE).is_file():
            raise
    sync(folder.parent)
    return folder


def sound_report(store: Store, fingerprint: str, say: Callable[[str], None]) -> Artifact | None:
    """Return the report if it is in the store with the bytes that were published; set a damaged one aside."""
    while True:
        report = store.find("report", fingerprint)
        if report is None or not (damaged := report.verify()):
            return report
        try:
            place = set_aside(store, report, damaged)
        except BlockingIOError:
            time.sleep(POLL_SECONDS)  # Another process sets it aside, or only looks at it.
            continue
        if place is not None:
            shutil.rmtree(exported(report, store.root), ignore_errors=True)
            say(f"the report is damaged and is made again; what is left of it: {place}")
            return None


def _free(folder: Path) -> Path:
    number = 1
    while (place := folder.with_name(f"{folder.name}.incomplete-{number}")).exists():
        number += 1
    return place
