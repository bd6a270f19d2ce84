"""Writes the page over an outputs folder."""

from pathlib import Path

from salsa.report.compendium import contents, page
from salsa.report.compendium.contents import Advance, nothing
from salsa.store.durability import replace_text

PAGE = "report.html"


class EmptyError(ValueError):
    """There is nothing to report; the message names the folder and what fills it."""


def write(outputs: Path, file: Path | None = None, advance: Advance = nothing) -> Path:
    """Write one self-contained page over everything in an outputs folder, in one step, and return its path.

    `file` is by default `report.html` in that folder. Runs may go on in it: nothing is locked, and of the store nothing
    is changed. `advance` is told what is read, how much of it is done, and of how much. Raises `EmptyError`
    where there is nothing to report, `salsa.store.format.StoreFormatError` for a newer version's store, and OSError
    where the page cannot be written.
    """
    found = contents.read(outputs, advance)
    if not found.lineage.artifacts and not any(found.results.values()) and not found.problems:
        raise EmptyError(f"{outputs}: there are no results; `python run.py` and `python run.py study=...` make them")
    target = (outputs / PAGE if file is None else file).absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    replace_text(target, page.page(found, target.parent, advance))
    return target
