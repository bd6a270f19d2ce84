"""What a person sees of a report, and the files that it is written to."""

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from salsa.report.grid import to_markdown
from salsa.report.markup import escape
from salsa.report.terminal import TerminalTable
from salsa.report.winrate.notes import COUNTS, Found, heading, notes, remarks
from salsa.report.winrate.tables import grids

CSV_HEADER = ("suite", "judge", "category", "baseline", "prompts", "model", "metric", "value", "low", "high", "n")


def show(found: Found) -> None:
    """Print a report; made for 120 columns, which files and pipes get."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    for line in notes(found):
        console.print(Text(line), soft_wrap=True)
    for section in found["sections"]:
        console.print()
        console.print(Text(heading(section), "bold underline"), soft_wrap=True)
        for line in remarks(section, found):
            console.print(Text(line), soft_wrap=True)
        for grid in grids(section, found):
            console.print(TerminalTable(grid))


def write(found: Found, folder: Path) -> None:
    """Write winrate.md, winrate.csv and winrate.json into a folder, which is made if need be. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)
    for name, content in (("json", text + "\n"), ("md", markdown(found)), ("csv", to_csv(found))):
        (folder / f"winrate.{name}").write_text(content, encoding="utf-8", newline="\n")


def markdown(found: Found) -> str:
    """Return the whole report as Markdown."""
    parts = ["# Win rates", *(escape(line) for line in notes(found))]
    for section in found["sections"]:
        parts.append(f"# {escape(heading(section))}")
        parts += [escape(line) for line in remarks(section, found)]
        parts += [to_markdown(grid).rstrip() for grid in grids(section, found)]
    return "\n\n".join(parts) + "\n"


def to_csv(found: Found) -> str:
    """Return the figures as tidy CSV: scores in points, win rates and shares from 0 to 1, Arena-Hard's in percent."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_HEADER, lineterminator="\n")
    writer.writeheader()
    for section in found["sections"]:
        place = {key: section[key] for key in ("suite", "judge", "category")}
        place["baseline"] = section.get("baseline")
        place["prompts"] = " and ".join(section["prompts"])
        for row in section["models"]:
            for metric, estimate in _figures(section, row):
                told = {key: (estimate or {}).get(key) for key in ("value", "low", "high", "n")}
                writer.writerow(place | {"model": row["model"], "metric": metric} | told)
    return text.getvalue()


def _figures(section: Found, row: Found) -> Iterator[tuple[str, Found | None]]:
    if section["kind"] == "single":
        yield "score", row["score"]
        yield from _parts("score", row)
    elif section["kind"] == "pair":
        for rule in ("fastchat", "half_votes"):
            yield f"adjusted_{rule}", row[rule]
            yield from _parts(f"adjusted_{rule}", row[rule] or {})
    else:
        for name in ("battles", "questions"):
            yield f"score_{name}", {**(row.get(name) or {}), "value": row["score"]}
        yield from _parts("score", row)
    for name in COUNTS:
        yield name, {"value": (row["counts"] or {}).get(name)}


def _parts(metric: str, row: Found) -> Iterator[tuple[str, Found | None]]:
    sources: Sequence[tuple[str, Mapping[str, Any]]] = (("turn", row.get("turns", {})), ("", row.get("categories", {})))
    for prefix, found in sources:
        for name, estimate in found.items():
            yield f"{metric} {prefix}{name}", estimate
