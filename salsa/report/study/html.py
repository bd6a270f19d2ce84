"""Tables of a study as HTML that screen readers can follow: captions, scopes, groups as headings of their rows."""

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import groupby

from salsa.report.grid import Cell, Column, scrollable
from salsa.report.study import looks
from salsa.report.study.arms import TITLE, Part
from salsa.report.study.reading import ROLES
from salsa.report.study.tables import Table

Looks = Mapping[tuple[str, str], looks.Look]
_ARROWS = {"better": "▲", "worse": "▼"}
_IN_WORDS = {"better": "above even", "worse": "below even"}
POLICY = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
)
"""What a page may do, whatever is on it: load nothing and run nothing."""
_INTERVAL = re.compile(r"(?:[+−-]?[\d.,]+ %? ?)?\[[\d.,+−\s%-]{1,40}\]")


def whole(sentence: str) -> str:
    """Return a sentence as HTML in which no interval is torn by the end of a line."""
    return _INTERVAL.sub(r'<span class="whole">\g<0></span>', escape(sentence))


def table(shown: Table, roles: bool = True, looked: Looks | None = None) -> str:
    """Return a table with its caption and notes; `roles` marks each row, by `looked` as its series are in figures.

    The tip of a cell names how many values and which artifacts are behind it. All text is escaped.
    """
    grid, names = shown.grid, 1 if shown.grouped else 0
    columns = grid.columns[names:]
    parts = [f"{scrollable(grid.title)}<table><caption>{escape(grid.caption or grid.title)}</caption>"]
    parts += ["<thead>", *_headings(columns, shown.paper), "</thead>"]
    groups = groupby(range(len(grid.rows)), key=lambda index: grid.rows[index][0].text if names else "")
    for group, indices in groups:
        parts.append("<tbody>")
        if names:
            parts.append(f'<tr><th scope="rowgroup" class="family" colspan="{len(columns)}">{escape(group)}</th></tr>')
        parts += [_row(shown, index, names, roles, looked or {}) for index in indices]
        parts.append("</tbody>")
    parts.append("</table></div>")
    parts += [f'<p class="caption">{escape(note)}</p>' for note in grid.notes]
    return "".join(parts)


def arms(told: Mapping[str, Sequence[Part]]) -> str:
    """Return what the arms are as a list of definitions; nothing without one."""
    items = (f"<div><dt>{escape(arm)}</dt><dd>{'; '.join(map(_part, parts))}</dd></div>" for arm, parts in told.items())
    return f'<section class="arms"><h2>{TITLE}</h2><dl>{"".join(items)}</dl></section>' if told else ""


def _part(part: Part) -> str:
    return f"<code>{escape(part.text)}</code>" if part.code else escape(part.text)


def _headings(columns: Sequence[Column], paper: int) -> Iterator[str]:
    """Yield the rows of headings: a group spans its columns, a column without group has one heading over both rows."""
    first = len(columns) - paper
    if not any(column.group for column in columns):
        yield f"<tr>{''.join(_heading(column, '', 1) for column in columns)}</tr>"
        return
    upper, lower = [], []
    for group, span in groupby(enumerate(columns), key=lambda each: each[1].group):
        inside = list(span)
        kind = "paper" if inside[0][0] >= first else ""
        if group:
            upper.append(
                f'<th scope="colgroup" colspan="{len(inside)}" class="{f"group {kind}".strip()}">{escape(group)}</th>'
            )
            lower += [_heading(column, kind, 1) for _, column in inside]
        else:
            upper += [_heading(column, kind, 2) for _, column in inside]
    yield f"<tr>{''.join(upper)}</tr>"
    yield f"<tr>{''.join(lower)}</tr>"


def _heading(column: Column, kind: str, rows: int) -> str:
    classes = _classes(kind, "left" if column.left else "")
    span = f' rowspan="{rows}"' if rows > 1 else ""
    return f'<th scope="col"{span}{classes}>{escape(column.heading)}</th>'


def _row(shown: Table, index: int, names: int, roles: bool, looked: Looks) -> str:
    row = shown.grid.rows[index][names:]
    first = len(row) - shown.paper
    line = ' class="section"' if index in shown.grid.sections and not _last_of_group(shown, index) else ""
    role = shown.roles[index]
    mark = looks.mark(role, looked.get((role, row[0].text))) if roles else ""
    tip = f' title="{escape(ROLES[role])}"' if roles else ""
    head = f'<th scope="row"{_classes(row[0].tone)}{tip}>{mark}{escape(row[0].text)}</th>'
    cells = (_cell(cell, "paper" if place >= first else "") for place, cell in enumerate(row[1:], 1))
    return f"<tr{line}>{head}{''.join(cells)}</tr>"


def _last_of_group(shown: Table, index: int) -> bool:
    rows = shown.grid.rows
    return shown.grouped and index + 1 < len(rows) and rows[index][0].text != rows[index + 1][0].text


def _cell(cell: Cell, kind: str) -> str:
    classes = _classes(cell.tone, kind, "best" if cell.best else "")
    tip = f' title="{escape(cell.source)}"' if cell.source else ""
    arrow = ""
    if cell.tone in _ARROWS:
        arrow = f'<span class="arrow" role="img" aria-label="{_IN_WORDS[cell.tone]}">{_ARROWS[cell.tone]}</span>'
    interval = f' <span class="interval">{escape(cell.interval)}</span>' if cell.interval else ""
    return f"<td{classes}{tip}>{arrow}{escape(cell.text)}{interval}</td>"


def _classes(*names: str) -> str:
    found = " ".join(name for name in names if name)
    return f' class="{found}"' if found else ""
