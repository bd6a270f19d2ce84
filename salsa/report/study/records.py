"""The tables of a study as tidy CSV: a line for each cell, with its interval and the fingerprints behind it."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from salsa.report.study.tables import metric, paper

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
    "fingerprints",
)
_DIGITS = 12
"""Of a number in the unit of its column: one more, and 100 times 0.57 would not read 57."""


def tidy(study: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a record with the keys of `HEADER` for each cell that has a meaning; a missing one has no value.

    Numbers are in the unit of their column; the paper's figure stands in a column of its own, with its source.
    """
    for table in study["tables"]:
        for row in table["rows"]:
            for column in table["columns"]:
                if column["key"] in row["cells"]:
                    yield _record(study, table, row, column)


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
        "note": cell.get("note"),
        "paper": figure,
        "paper_source": None if figure is None else table["paper"]["label"],
        "fingerprints": " ".join(cell.get("fingerprints") or []),
    }


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else float(f"{value * scale:.{_DIGITS}g}")


def to_csv(study: Mapping[str, Any]) -> str:
    """Return the cells as CSV; what is not there is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HEADER, lineterminator="\n")
    writer.writeheader()
    writer.writerows(tidy(study))
    return text.getvalue()
