"""The sweeps of an outputs folder: what each varied, and how many of its experiments have a result."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from salsa.report.compendium import elements
from salsa.report.compendium.contents import DAMAGED, FLAWS, Contents, Problem
from salsa.report.sweep import folder as sweeps


@dataclass(frozen=True)
class Sweep:
    """A sweep: when it was started (seconds since 1970), the keys that it varied, its cells and how many are done."""

    folder: Path
    title: str
    started: float
    keys: tuple[str, ...]
    cells: int
    done: int


def read(contents: Contents) -> tuple[list[Sweep], list[Problem]]:
    """Return the sweeps, the newest first, and those that cannot be read."""
    found, problems = [], []
    for path in sorted((contents.outputs / sweeps.FOLDERS).glob(f"*/{sweeps.RECORD}")):
        try:
            found.append(_sweep(path.parent, contents))
        except FLAWS as error:
            problems.append(Problem(DAMAGED, f"sweep {path.parent.name}", str(error)))
    return sorted(found, key=lambda sweep: -sweep.started), problems


def _sweep(folder: Path, contents: Contents) -> Sweep:
    record = sweeps.read(folder)
    cells = record["cells"]
    done = sum(cell["fingerprint"] in contents.lineage.artifacts for cell in cells)
    keys = dict.fromkeys(key for cell in cells for key in cell["keys"])
    return Sweep(folder, str(record["title"]), float(record["started"]), tuple(keys), len(cells), done)


def section(found: list[Sweep], page: Path) -> str:
    """Return the table of sweeps."""
    heads = ("sweep", "varied", "experiments done", "started")
    rows = (list(_row(sweep, page)) for sweep in found)
    return elements.listing("Sweeps, the newest first; salsa sweep collects one at any time.", heads, rows, "plain")


def _row(sweep: Sweep, page: Path) -> Iterator[str]:
    table = sweep.folder / "table.md"
    yield elements.link(table, page, sweep.title) if table.is_file() else elements.line(sweep.title)
    yield elements.line(", ".join(sweep.keys) or "nothing")
    yield f"{sweep.done:,} of {sweep.cells:,}"
    yield elements.day(sweep.started)
