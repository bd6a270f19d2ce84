"""A study as one Markdown page: the verdicts, its tables, how to read them, and what is behind them."""

from collections.abc import Iterator, Mapping
from typing import Any

from salsa.report.grid import Cell, Column, Grid, to_markdown
from salsa.report.markup import escape
from salsa.report.study import reading, tables
from salsa.report.study.schema import full_name, headline
from salsa.report.tables import settings_grid


def page(study: Mapping[str, Any]) -> str:
    """Return the page of a printable study."""
    shown, chosen = tables.tables(study), tables.selection(study)
    main = headline(study)
    parts = [f"# {escape(study['title'])}", f"**{escape(main['sentence'])}**" if main else ""]
    parts += [escape(study["question"]), escape(reading.about(study)) + "."]
    parts += [f"Warning: {escape(warning)}" for warning in study["warnings"]]
    others = [verdict for verdict in study["verdicts"] if verdict is not main]
    parts += [_bullets("## Other verdicts", (verdict["sentence"] for verdict in others))] if others else []
    parts += [to_markdown(table.grid).rstrip() for table in shown]
    how = [*reading.sentences(study, shown), *reading.marks(study, shown, coloured=False)]
    parts.append(_bullets("## How to read it", how))
    parts += [to_markdown(chosen.grid).rstrip()] if chosen else []
    parts += [_bullets("## Notes", study["notes"])] if study["notes"] else []
    parts += [to_markdown(grid).rstrip() for grid in (settings_grid(study), fingerprints(study))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _bullets(heading: str, sentences: Iterator[str] | list[str]) -> str:
    return "\n".join([heading, "", *(f"* {escape(sentence)}" for sentence in sentences)])


def fingerprints(study: Mapping[str, Any]) -> Grid:
    """Return which artifacts each cell comes from, so that every figure can be traced; those without are left out."""
    rows = []
    for table in study["tables"]:
        for row in table["rows"]:
            for column in table["columns"]:
                found = (row["cells"].get(column["key"]) or {}).get("fingerprints")
                if found:
                    names = [tables.title(table), full_name(row), column["label"]]
                    rows.append([*(Cell(name, tone="name") for name in names), Cell(" ".join(found))])
    columns = [Column(name, left=True) for name in ("table", "row", "column", "fingerprints")]
    return Grid("Fingerprints", f"Study: {study['fingerprint']}. {reading.cost(study)}", columns, rows)
