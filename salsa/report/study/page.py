"""One self-contained HTML page of a study that is read in a minute: the verdict, a figure, the table, and the rest."""

import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

from salsa.report.figures import INK, to_svg
from salsa.report.grid import Grid, scrollable
from salsa.report.page import inline
from salsa.report.study import figures, html, markdown, panels, reading, style, tables
from salsa.report.study.schema import headline
from salsa.report.study.tables import Table
from salsa.report.tables import settings_grid

_DIGITS = 12


def page(study: Mapping[str, Any], drawings: Mapping[str, str] | None = None) -> str:
    """Return the page of a printable study; `drawings` are SVG documents by the names of `figures.named`.

    The page loads nothing and runs no script, and every text of the study is escaped.
    """
    if drawings is None:
        drawings = {name: to_svg(figures.draw(study, figure, False)) for name, figure in figures.named(study).items()}
    title = escape(study["title"])
    shown = tables.tables(study)
    pictures = [_figure(study, name, figure, drawings[name]) for name, figure in figures.named(study).items()]
    how = [*reading.sentences(study, shown), *reading.marks(study, shown, coloured=True)]
    grids = [_section(table.grid.title, html.table(table)) for table in shown]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{style.sheet({INK: 'currentColor'})}</style></head><body><main>",
        *_top(study),
        *pictures[:1],
        *grids[:1],
        _section("How to read it", _prose(how)),
        *pictures[1:],
        *grids[1:],
        *_selection(tables.selection(study)),
        *([_section("Notes", _prose(study["notes"]))] if study["notes"] else []),
        *_behind(study),
    ]
    return "\n".join([*parts, "</main></body></html>"]) + "\n"


def _top(study: Mapping[str, Any]) -> Iterator[str]:
    """Yield the title, the verdict in large letters, the question that it answers, and the other verdicts."""
    yield f"<header><h1>{escape(study['title'])}</h1>"
    main = headline(study)
    if main is not None:
        yield f'<p class="headline{_decided(main)}">{escape(main["sentence"])}</p>'
    yield f'<p class="question">{escape(study["question"])}</p>'
    yield f'<p class="sub">{escape(reading.about(study))}</p>'
    yield from (f'<p class="warning">Warning: {escape(warning)}</p>' for warning in study["warnings"])
    others = [verdict for verdict in study["verdicts"] if verdict is not main]
    if others:
        items = (f'<li class="verdict{_decided(verdict)}">{escape(verdict["sentence"])}</li>' for verdict in others)
        yield f'<ul class="verdicts">{"".join(items)}</ul>'
    yield "</header>"


def _decided(verdict: Mapping[str, Any]) -> str:
    return " decided" if verdict["decided"] is not None else ""


def _section(heading: str, inside: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>{inside}</section>"


def _prose(sentences: Iterable[str]) -> str:
    """Return sentences as a list; commands stand in backticks, as in Markdown."""
    items = (re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(sentence)) for sentence in sentences)
    return f'<ul class="prose">{"".join(f"<li>{item}</li>" for item in items)}</ul>'


def _figure(study: Mapping[str, Any], name: str, figure: Mapping[str, Any], svg: str) -> str:
    """Return a figure with its title, its small print, and its numbers to unfold."""
    drawing = inline(svg, f"figure-{name}", escape(figure["title"]))
    note = escape(figures.explanation(study, figure))
    inside = f"<figure>{scrollable(figure['title'])}{drawing}</div><figcaption>{note}</figcaption></figure>"
    return _section(figure["title"], f"{inside}{_unfold('The numbers of this figure', _numbers(figure))}")


def _numbers(figure: Mapping[str, Any]) -> str:
    """Return the points of a figure as a table, for those who cannot see it or want to copy it."""
    scaled = panels.scaled(figure)
    heads = ["series", figure["x"]["label"], figure["y"]["label"], "low", "high"]
    if any(panels.names(figure)):
        heads.insert(0, "panel")
    rows = []
    for series in scaled["series"]:
        names = [series.get("panel") or "", series["label"]][-(len(heads) - 4) :]
        for point in series["points"]:
            numbers = ("" if point[key] is None else f"{point[key]:.5g}" for key in ("value", "low", "high"))
            rows.append([*names, str(point["x"]), *numbers])
    return _list("Points", heads, rows)


def _list(caption: str, heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    parts = [f'<div class="list">{scrollable(caption)}<table><caption>{escape(caption)}</caption><thead><tr>']
    parts += [f'<th scope="col">{escape(head)}</th>' for head in heads]
    parts.append("</tr></thead><tbody>")
    for first, *others in rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in others)
        parts.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    return "".join([*parts, "</tbody></table></div></div>"])


def _unfold(summary: str, inside: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{inside}</details>"


def _selection(chosen: Table | None) -> Iterator[str]:
    if chosen is not None:
        yield _section(chosen.grid.title, html.table(chosen, roles=any(role != "other" for role in chosen.roles)))


def _behind(study: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is behind the study: its cost, its settings, and the fingerprints of every cell."""
    took = reading.cost(study)
    own = f"Study {study['study']}, {study['fingerprint'][:_DIGITS]}{f'; {took}' if took else ''}."
    yield f'<section><h2>Behind it</h2><p class="caption">{escape(own)}</p>'
    for grid in (settings_grid(study), markdown.fingerprints(study)):
        if grid.rows:
            yield _unfold(grid.title, _of_grid(grid))
    yield "</section>"


def _of_grid(grid: Grid) -> str:
    heads = (column.heading for column in grid.columns)
    return _list(grid.caption or grid.title, heads, ([cell.text for cell in row] for row in grid.rows))
