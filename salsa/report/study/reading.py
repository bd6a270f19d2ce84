"""How to read a study, in a few sentences that every medium shows, and what it took."""

from collections.abc import Iterator, Mapping
from typing import Any

from salsa.report.grid import BLANK, MISSING
from salsa.report.study.tables import Table

ROLES: Mapping[str, str] = {
    "sft": "fine-tuned model, before RL",
    "soup": "weight average, before RL",
    "ppo": "PPO",
    "salsa": "SALSA",
    "control": "control",
    "other": "other",
}
REPLICATE = "everything from fine-tuning upwards again, from its own seeds"


def about(study: Mapping[str, Any]) -> str:
    """Return in one line what was run: replicates, scale, regime, and the level of the intervals if there are any."""
    parts = [replicates(study), f"scale {study['scale']}", f"regime {study['regime']}"]
    cells = (cell for table in study["tables"] for row in table["rows"] for cell in row["cells"].values() if cell)
    if any(cell["low"] is not None for cell in cells):
        parts.append(f"{study['level']:.0%} intervals")
    return "  ·  ".join(parts)


def replicates(study: Mapping[str, Any]) -> str:
    """Return the number of replicates with its noun."""
    count = study["replicates"]
    return f"{count:,} {'replicate' if count == 1 else 'replicates'}"


def marks(study: Mapping[str, Any], shown: list[Table], coloured: bool) -> Iterator[str]:
    """Yield what the marks of cells are, for a medium that gives full intervals and may colour them."""
    cells = [cell for table in shown for row in table.grid.rows for cell in row]
    if any(cell.interval for cell in cells):
        yield f"In brackets: the {study['level']:.0%} interval of each number by itself."
    if coloured and any(cell.tone in ("better", "worse") for cell in cells):
        yield "Coloured: the whole interval lies above (green, ▲) or below (red, ▼) 50 %, where neither is better."


def sentences(study: Mapping[str, Any], shown: list[Table]) -> Iterator[str]:
    """Yield how to read the tables that are shown, in any medium; only what they have is explained."""
    cells = [cell for table in shown for row in table.grid.rows for cell in row]
    intervals = any(cell.interval for cell in cells)
    if study["replicates"] == 1:
        yield (
            f"One replicate, so this is an illustration: another one ({REPLICATE}) gives other models and can turn "
            f"the order round.{' The intervals hold for these trained models only.' if intervals else ''}"
        )
    else:
        yield f"Numbers are means over {replicates(study)}; a replicate is {REPLICATE}."
    if any(table.paper for table in shown):
        yield (
            "The paper's figures stand in columns of their own, as their heading says where they come from: they are "
            "of other models and another judge, so directions may be compared, not values."
        )
    if any(cell.tone == "missing" and cell.text.startswith(MISSING.text) for cell in cells):
        yield f"{MISSING.text}: belongs here, and there is no result (yet)."
    if BLANK in cells:
        yield f"{BLANK.text}: has no meaning here."


def cost(study: Mapping[str, Any]) -> str:
    """Return what the study took; what is not known is left out."""
    known = {key: value for key, value in (study["cost"] or {}).items() if value is not None}
    words = {"stages": "{:,} stages", "distinct": "{:,} of them distinct", "computed_now": "{:,} computed now"}
    parts = [words[key].format(known[key]) for key in words if key in known]
    parts += [f"{duration(known['cpu_seconds'])} of CPU time"] if "cpu_seconds" in known else []
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return CPU seconds in the unit that a reader grasps."""
    for size, unit in ((3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
