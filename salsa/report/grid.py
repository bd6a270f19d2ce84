"""A table as data, so that the terminal, Markdown and HTML show the same cells, marks and gaps."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from salsa.report.markup import escape
from salsa.report.schema import Metric

Tone = Literal["", "better", "worse", "missing", "blank", "name", "own"]


@dataclass(frozen=True)
class Cell:
    """One cell: its text, beside it the interval in a short (`spread`) and a full form, and the `source` behind it.

    `value` is the number that was rounded to `text`; `best` marks the best of a column; `tone` says what colour and
    HTML class it gets; `source` is the fingerprint of the artifact that the number comes from.
    """

    text: str
    spread: str = ""
    interval: str = ""
    value: float | None = None
    best: bool = False
    tone: Tone = ""
    source: str = ""


MISSING = Cell("missing", tone="missing")
# A cell that has no meaning (a model against itself, the KL coefficient of a model that no RL made).
BLANK = Cell("–", tone="blank")


@dataclass(frozen=True)
class Column:
    """A column's heading under the heading of its group, and whether its text is aligned to the left."""

    heading: str
    group: str = ""
    left: bool = False


@dataclass(frozen=True)
class Grid:
    """A titled table: the first `keys` columns name a row; a line is drawn after the rows numbered in `sections`.

    `notes` stand under the caption, each on a line of its own.
    """

    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    sections: frozenset[int] = frozenset()
    keys: int = 1
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.title!r}: a row has {len(row)} cells, there are {len(self.columns)} columns"
                )


def number(value: float, decimals: int) -> str:
    """Return a number with fixed decimals, or shorter where so large that decimals say nothing."""
    if abs(value) >= 1e6:
        return f"{value:.2e}"
    if abs(value) >= 1e3:
        return f"{value:,.0f}"
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def measured(estimate: Mapping[str, Any] | float | None, metric: Metric, source: str = "") -> Cell:
    """Return the cell of an estimate (a dictionary with value, low, high) or a bare number; None is missing."""
    if estimate is None:
        return MISSING
    given = estimate if isinstance(estimate, Mapping) else {"value": estimate, "low": None, "high": None}
    if given["value"] is None:
        return MISSING
    value, decimals = given["value"] * metric.scale, metric.decimals
    cell = Cell(number(value, decimals), value=value, source=source)
    if given["low"] is None or given["high"] is None:
        return cell
    low, high = given["low"] * metric.scale, given["high"] * metric.scale
    interval = f"[{number(low, decimals)}, {number(high, decimals)}]"
    return replace(cell, spread=f"±{number((high - low) / 2, decimals)}", interval=interval)


def mark_best(rows: Sequence[Sequence[Cell]], metrics: Sequence[Metric | None]) -> list[list[Cell]]:
    """Return the rows with the best cell of each column marked; cells that read the same are all marked.

    Nothing is marked in a column whose metric has no better direction, or whose cells all read the same.
    """
    marked = [list(row) for row in rows]
    for index, metric in enumerate(metrics):
        numbers = [row[index] for row in rows if row[index].value is not None]
        if metric is None or not metric.better or len({cell.text for cell in numbers}) < 2:
            continue
        choose = max if metric.better == "high" else min
        best = choose(numbers, key=lambda cell: cell.value or 0.0)
        for row in marked:
            if row[index].text == best.text:
                row[index] = replace(row[index], best=True)
    return marked


def caption(grid: Grid, *, half_widths: bool, coloured: bool) -> str:
    """Return the caption with what a medium adds to it: half-widths of intervals, and colours of win rates."""
    cells = [cell for row in grid.rows for cell in row]
    sentences = [grid.caption] if grid.caption else []
    if half_widths and any(cell.spread for cell in cells):
        sentences.append("±: half the width of the interval.")
    if coloured and any(cell.tone in ("better", "worse") for cell in cells):
        sentences.append("Green or red: the whole interval lies above or below 50 %.")
    return " ".join(sentences)


def _grouped(grid: Grid) -> bool:
    return any(column.group for column in grid.columns)


def to_markdown(grid: Grid) -> str:
    """Return the table as Markdown with its title as a heading and full intervals, the column's best in bold."""
    headings = [
        escape(f"{column.group}: {column.heading}" if column.group else column.heading) for column in grid.columns
    ]
    lines = [f"## {escape(grid.title)}", ""]
    lines.append(f"| {' | '.join(headings)} |")
    lines.append("|" + "|".join("---" if column.left else "---:" for column in grid.columns) + "|")
    for row in grid.rows:
        lines.append(f"| {' | '.join(_markdown_cell(cell) for cell in row)} |")
    if grid.caption:
        lines += ["", escape(caption(grid, half_widths=False, coloured=False))]
    for note in grid.notes:
        lines += ["", escape(note)]
    return "\n".join(lines) + "\n"


def _markdown_cell(cell: Cell) -> str:
    text = f"**{escape(cell.text)}**" if cell.best else escape(cell.text)
    return f"{text} {cell.interval}" if cell.interval else text


def to_html(grid: Grid) -> str:
    """Return the table as HTML; the tip of a cell is the fingerprint that it comes from. All text is escaped."""
    title = html.escape(grid.title)
    parts = [f"<section><h2>{title}</h2>{scrollable(grid.title)}", f'<table aria-label="{title}"><thead>']
    if _grouped(grid):
        parts.append(f"<tr>{''.join(_group_headings(grid.columns))}</tr>")
    parts.append("<tr>")
    for column in grid.columns:
        kind = ' class="left"' if column.left else ""
        parts.append(f'<th scope="col"{kind}>{html.escape(column.heading)}</th>')
    parts.append("</tr></thead><tbody>")
    for index, row in enumerate(grid.rows):
        line = ' class="section"' if index in grid.sections else ""
        cells = (_html_cell(cell, column) for cell, column in zip(row, grid.columns, strict=True))
        parts.append(f"<tr{line}>{''.join(cells)}</tr>")
    parts.append("</tbody></table></div>")
    below = caption(grid, half_widths=False, coloured=True)
    if below:
        parts.append(f'<p class="caption">{html.escape(below)}</p>')
    parts += [f"<p>{html.escape(note)}</p>" for note in grid.notes]
    return "".join([*parts, "</section>"])


def scrollable(label: str) -> str:
    """Return the start of a box for what may be wider than the page: reached by the keyboard, and named."""
    return f'<div class="wide" tabindex="0" role="region" aria-label="{html.escape(label)}">'


def _group_headings(columns: Sequence[Column]) -> list[str]:
    spans: list[tuple[str, int]] = []
    for column in columns:
        if spans and spans[-1][0] == column.group:
            spans[-1] = (column.group, spans[-1][1] + 1)
        else:
            spans.append((column.group, 1))
    # A heading of nothing would be read out as one.
    return [
        f'<th scope="colgroup" colspan="{count}" class="group">{html.escape(group)}</th>'
        if group
        else f'<td colspan="{count}"></td>'
        for group, count in spans
    ]


def _html_cell(cell: Cell, column: Column) -> str:
    classes = " ".join(name for name in (cell.tone, "left" if column.left else "", "best" if cell.best else "") if name)
    kind = f' class="{classes}"' if classes else ""
    tip = f' title="from {html.escape(cell.source)}"' if cell.source else ""
    interval = f' <span class="interval">{html.escape(cell.interval)}</span>' if cell.interval else ""
    if cell.tone in ("name", "own"):
        return f'<th scope="row"{kind}{tip}>{html.escape(cell.text)}</th>'
    return f"<td{kind}{tip}>{html.escape(cell.text)}{interval}</td>"
