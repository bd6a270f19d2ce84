"""A study as one Markdown page: the verdicts, its tables, how to read them, and what is behind them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from salsa.report.grid import Grid, to_markdown
from salsa.report.markup import escape
from salsa.report.study import arms, claims, gaps, reading, tables
from salsa.report.study.schema import NAME, leading, others
from salsa.report.tables import settings_grid


def page(study: Mapping[str, Any]) -> str:
    """Return the page of a printable study."""
    shown, chosen = tables.tables(study), tables.selection(study)
    parts = [f"# {_text(study['title'])}", *(f"**{_text(each['sentence'])}**" for each in leading(study))]
    parts += [_text(study["question"]), _text(reading.about(study)) + "."]
    parts += ["\n".join(f"> **Missing:** {_text(gap)}  " for gap in gaps.sentences(study)), _arms(study)]
    smaller = others(study)
    parts += [_bullets("## Other verdicts", (verdict["sentence"] for verdict in smaller))] if smaller else []
    parts += map(_text, reading.decided(study))
    parts += [f"**Warning:** {_text(warning)}" for warning in study["warnings"]]
    parts += [_grid(grid) for table in shown[:1] for grid in table.blocks()]
    parts += list(_paper(study))
    parts += [_grid(grid) for table in shown[1:] for grid in table.blocks()]
    how = [*reading.sentences(study, shown), *reading.marks(study, shown, coloured=False)]
    parts.append(_bullets("## How to read it", how))
    parts += [_grid(chosen.grid)] if chosen else []
    parts += [_bullets("## Notes", study["notes"])] if study["notes"] else []
    settings = settings_grid(study)
    parts += [_grid(settings)] if settings.rows else []
    parts.append(_text(behind(study)))
    return "\n\n".join(part for part in parts if part) + "\n"


def behind(study: Mapping[str, Any]) -> str:
    """Return which study this is, where the fingerprints of its artifacts are, and what it took."""
    took = reading.cost(study)
    return f"Study {study['fingerprint']}; {NAME} has the artifacts behind every cell{f'; {took}' if took else ''}."


def _arms(study: Mapping[str, Any]) -> str:
    """Return what the arms are as a list, if the study tells."""
    told = arms.arms(study)
    lines = (f"* {_text(arm)}: {'; '.join(map(_part, parts))}" for arm, parts in told.items())
    return "\n".join([f"**{arms.TITLE}**", "", *lines]) if told else ""


def _part(part: arms.Part) -> str:
    return f"`{part.text}`" if part.code and "`" not in part.text else _text(part.text)


def _paper(study: Mapping[str, Any]) -> Iterator[str]:
    """Yield the box of what the paper reports, if the study names it."""
    if study["paper"] is None:
        return
    yield f"## {claims.TITLE}"
    yield "\n".join(f"> {line}" for line in _box(study))


def _box(study: Mapping[str, Any]) -> Iterator[str]:
    yield _text(claims.about(study))
    for each in claims.claims(study):
        yield ""
        yield f"* Paper: {_text(each.claim)}  "
        yield f"  Here: {_text(each.here)} (**{each.verdict}**)" if each.here else f"  Here: {each.verdict}"


def _grid(grid: Grid) -> str:
    """Return a table; a group that all of its columns have stands once over it instead of in every heading."""
    columns = grid.columns[grid.keys :]
    groups = {column.group for column in columns}
    if len(columns) < 2 or len(groups) > 1 or not columns[0].group:
        return _lean(to_markdown(grid)).rstrip()
    bare = [replace(column, group="") for column in grid.columns]
    lines = _lean(to_markdown(replace(grid, columns=bare))).rstrip().split("\n")
    return "\n".join([*lines[:2], f"Columns: {_text(columns[0].group)}.", "", *lines[2:]])


def _bullets(heading: str, sentences: Iterable[str]) -> str:
    return "\n".join([heading, "", *(f"* {_text(sentence)}" for sentence in sentences)])


def _text(text: str) -> str:
    return _lean(escape(text))


def _lean(markup: str) -> str:
    """Return Markdown without the escapes that change nothing: brackets around numbers, a sign before a blank."""
    bare = re.sub(r"\\\[([-+−–\d.,\s]+)\\\](?![\[(:])", r"[\1]", markup)
    return bare.replace(" &lt; ", " < ")
