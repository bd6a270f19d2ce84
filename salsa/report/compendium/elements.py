"""Pieces of the page: text that shows as itself, links, foldable parts, tables. Whatever is given is escaped."""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from urllib.parse import quote

from salsa.report.grid import Grid, scrollable
from salsa.report.markup import one_line, shorten, visible
from salsa.report.study import html, minus
from salsa.report.study.html import Looks
from salsa.report.study.tables import Table
from salsa.store.selection import SHORT


def line(text: object) -> str:
    """Return text on one line as HTML."""
    return escape(one_line(str(text)))


def sentence(text: object) -> str:
    """Return a sentence on one line as HTML: with minus signs, and no interval torn by the end of a line."""
    return html.whole(minus.typeset(one_line(str(text))))


def block(text: str, limit: int) -> str:
    """Return text of about so many characters as HTML, with its line breaks (the style keeps them)."""
    return escape(shorten(visible(text.strip()), limit))


def link(target: Path, page: Path, text: str) -> str:
    """Return a link to a file, relative to the folder of the page, so that both can be moved together."""
    return f'<a href="{escape(quote(Path(os.path.relpath(target, page)).as_posix()))}">{line(text)}</a>'


def fold(summary: str, inside: str, opened: bool = False) -> str:
    """Return a part that unfolds; the summary and what is inside are HTML."""
    return f"<details{' open' if opened else ''}><summary>{summary}</summary>{inside}</details>"


def warnings(said: Iterable[tuple[str, str]]) -> str:
    """Return a box of sentences, each with its kind in front; nothing without one."""
    items = "".join(f"<li><strong>{line(kind)}:</strong> {sentence(text)}</li>" for kind, text in said)
    return f'<ul class="warning" role="note">{items}</ul>' if items else ""


def short(fingerprint: str) -> str:
    """Return the beginning of a fingerprint, as long as the store's commands show it."""
    return f"<code>{escape(fingerprint[:SHORT])}</code>"


def day(seconds: float | None) -> str:
    """Return a time in seconds since 1970 as a date."""
    return "unknown" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def of_grid(grid: Grid, roles: Sequence[str], looked: Looks) -> str:
    """Return a grid as a table with caption and scopes; its rows are marked as the lines of the figures."""
    rows = [[minus.cell(cell) for cell in row] for row in grid.rows]
    return html.table(Table("", replace(grid, rows=rows), roles), looked=looked)


def listing(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Return a table of texts whose first column names the row; its cells are HTML."""
    parts = [f'<div class="list {kind}">{scrollable(caption)}<table><caption>{escape(caption)}</caption><thead><tr>']
    parts += [f'<th scope="col">{escape(head)}</th>' for head in heads]
    parts.append("</tr></thead><tbody>")
    for first, *others in rows:
        cells = "".join(f"<td>{cell}</td>" for cell in others)
        parts.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    return "".join([*parts, "</tbody></table></div></div>"])


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"
