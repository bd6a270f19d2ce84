"""The tables of a study as tidy CSV: a line for each cell, with its interval and where its fingerprints are."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from salsa.report.study.tables import metric, note, paper

HEADER = (
    "table",
    "group",
    "row",
    "role",
    "column_group",
    "column",
    "unit",
    "value",
    "low",
    "high",
    "level",
    "n",
    "note",
    "paper",
    "paper_source",
    "sources",
    "sources_at",
)
_DIGITS = 12
"""Of a number in the unit of its column: one more, and 100 times 0.57 would not read 57."""


def tidy(study: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a record with the keys of `HEADER` for each cell that has a meaning; a missing one has no value.

    Numbers are in the unit of their column; the paper's figure stands in a column of its own, with its source.
    `sources` is how many artifacts are behind a cell, `sources_at` the place in `study.json` that has their
    fingerprints, as a JSON pointer (RFC 6901).
    """
    for place, table in enumerate(study["tables"]):
        for number, row in enumerate(table["rows"]):
            for column in table["columns"]:
                if column["key"] in row["cells"]:
                    key = column["key"].replace("~", "~0").replace("/", "~1")
                    at = f"/tables/{place}/rows/{number}/cells/{key}/fingerprints"
                    yield _record(study, table, row, column) | _sources(row["cells"][column["key"]], at)


def _sources(cell: Mapping[str, Any] | None, at: str) -> dict[str, Any]:
    count = len((cell or {}).get("fingerprints") or [])
    return {"sources": count, "sources_at": at if count else None}


def _record(
    study: Mapping[str, Any], table: Mapping[str, Any], row: Mapping[str, Any], column: Mapping[str, Any]
) -> dict[str, Any]:
    cell, figure = row["cells"][column["key"]] or {}, paper(row, column["key"], table)
    numbers = {name: _scaled(cell.get(name), metric(column).scale) for name in ("value", "low", "high")}
    return {
        "table": table["name"],
        "group": row.get("group"),
        "row": row["label"],
        "role": row["role"],
        "column_group": column.get("group"),
        "column": column["label"],
        "unit": column["unit"],
        **numbers,
        "level": study["level"] if numbers["low"] is not None else None,
        "n": cell.get("n"),
        "note": _plain(note(study, row, column)),
        "paper": figure,
        "paper_source": None if figure is None else table["paper"]["label"],
    }


def _plain(text: str | None) -> str | None:
    """Return text with hyphens for minus signs, as programs read numbers."""
    return text.replace("−", "-") if text else text


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else float(f"{value * scale:.{_DIGITS}g}")


def to_csv(study: Mapping[str, Any]) -> str:
    """Return the cells as CSV; what is not there is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HEADER, lineterminator="\n")
    writer.writeheader()
    writer.writerows(tidy(study))
    return text.getvalue()
