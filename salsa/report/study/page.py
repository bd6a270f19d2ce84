"""One self-contained HTML page of a study that is read in a minute: the verdict, a figure, the table, and the rest."""

import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

from salsa.report.figures import INK
from salsa.report.grid import scrollable
from salsa.report.page import inline
from salsa.report.study import arms, claims, figures, gaps, html, looks, markdown, minus, panels, reading, style, tables
from salsa.report.study.names import named
from salsa.report.study.schema import leading, others
from salsa.report.study.tables import Table
from salsa.report.tables import settings_grid

_DIGITS = 16


def page(study: Mapping[str, Any], drawings: Mapping[str, str] | None = None) -> str:
    """Return the page of a printable study; `drawings` are SVG documents by the names of `names.named`.

    The page loads nothing and runs no script, and every text of the study is escaped.
    """
    if drawings is None:
        drawings = figures.inline(study)
    title = escape(study["title"])
    shown = tables.tables(study)
    pictures = [_figure(study, name, figure, drawings[name]) for name, figure in named(study).items()]
    how = [*reading.sentences(study, shown), *reading.marks(study, shown, coloured=True)]
    looked = looks.of_all(study)
    grids = [_section(table.grid.title, html.table(table, looked=looked)) for table in shown]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'{html.POLICY}<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{style.sheet({INK: 'currentColor'})}</style></head><body><main>",
        *_top(study),
        *pictures[:1],
        *grids[:1],
        *_paper(study),
        _section("How to read it", _prose(how)),
        *pictures[1:],
        *grids[1:],
        *_selection(tables.selection(study), looked),
        *([_section("Notes", _prose(study["notes"]))] if study["notes"] else []),
        *_behind(study),
    ]
    return "\n".join([*parts, "</main></body></html>"]) + "\n"


def _top(study: Mapping[str, Any]) -> Iterator[str]:
    """Yield the title, the verdict in large letters, the question that it answers, the arms, the other verdicts."""
    yield f"<header><h1>{escape(study['title'])}</h1>"
    for place, verdict in enumerate(leading(study)):
        rank = " second" if place else ""
        yield f'<p class="headline{rank}{_decided(verdict)}">{html.whole(verdict["sentence"])}</p>'
    yield f'<p class="question">{escape(study["question"])}</p>'
    yield f'<p class="sub">{escape(reading.about(study))}</p>'
    yield _box("Missing", gaps.sentences(study))
    yield html.arms(arms.arms(study))
    smaller = others(study)
    if smaller:
        items = (f'<li class="verdict{_decided(each)}">{html.whole(each["sentence"])}</li>' for each in smaller)
        yield f'<ul class="verdicts">{"".join(items)}</ul>'
    yield from (f'<p class="caption">{escape(sentence)}</p>' for sentence in reading.decided(study))
    yield _box("Warning", study["warnings"])
    yield "</header>"


def _box(kind: str, said: Iterable[str]) -> str:
    """Return one box of sentences, each with its kind in front; nothing without one."""
    items = "".join(f"<li><strong>{kind}:</strong> {html.whole(text)}</li>" for text in said)
    return f'<ul class="warning" role="note">{items}</ul>' if items else ""


def _paper(study: Mapping[str, Any]) -> Iterator[str]:
    """Yield the box of what the paper reports, beside what came out here."""
    if study["paper"] is None:
        return
    yield f'<aside class="claims"><h2>{claims.TITLE}</h2><p class="caption">{escape(claims.about(study))}</p><dl>'
    for each in claims.claims(study):
        here = f"{html.whole(each.here)} " if each.here else ""
        yield f'<dt>{html.whole(each.claim)}</dt><dd>{here}<span class="holds {each.mark}">{each.verdict}</span></dd>'
    yield "</dl></aside>"


def _decided(verdict: Mapping[str, Any]) -> str:
    return " decided" if verdict["decided"] is not None else ""


def _section(heading: str, inside: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>{inside}</section>"


def _prose(sentences: Iterable[str]) -> str:
    """Return sentences as a list; commands stand in backticks, as in Markdown."""
    items = (re.sub(r"`([^`]+)`", r"<code>\1</code>", html.whole(sentence)) for sentence in sentences)
    return f'<ul class="prose">{"".join(f"<li>{item}</li>" for item in items)}</ul>'


def _figure(study: Mapping[str, Any], name: str, figure: Mapping[str, Any], svg: str) -> str:
    """Return a figure with its title, its small print, and its numbers to unfold."""
    drawing = inline(svg, f"figure-{name}", escape(figure["title"]))
    note = escape(figures.explanation(study, figure))
    width = re.search(r'width="([\d.]+pt)"', svg)
    # A figure may shrink, but not until its letters are too small: then it scrolls.
    own = f' style="--own: {width[1]}"' if width else ""
    inside = f"<figure{own}>{scrollable(figure['title'])}{drawing}</div><figcaption>{note}</figcaption></figure>"
    return _section(figure["title"], f"{inside}{_unfold('The numbers of this figure', _numbers(figure))}")


def _numbers(figure: Mapping[str, Any]) -> str:
    """Return the points of a figure as a table, for those who cannot see it or want to copy it."""
    scaled = panels.scaled(figure)
    of_models = " : ".join(model["label"] for model in figure.get("models", ()))
    heads = ["series", of_models or figure["x"]["label"], figure["y"]["label"], "low", "high"]
    if any(panels.names(figure)):
        heads.insert(0, "panel")
    rows = []
    for series in scaled["series"]:
        names = [series.get("panel") or "", series["label"]][-(len(heads) - 4) :]
        for point in series["points"]:
            numbers = ("" if point[key] is None else f"{point[key]:.5g}" for key in ("value", "low", "high"))
            place = " : ".join(f"{weight:.3g}" for weight in point.get("weights", ())) or str(point["x"])
            rows.append([*names, *map(minus.typeset, (place, *numbers))])
    return _list("Points", heads, rows)


def _list(caption: str, heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    parts = [f'<div class="list">{scrollable(caption)}<table><caption>{escape(caption)}</caption><thead><tr>']
    parts += [f'<th scope="col">{escape(head)}</th>' for head in heads]
    parts.append("</tr></thead><tbody>")
    for first, *following in rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in following)
        parts.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    return "".join([*parts, "</tbody></table></div></div>"])


def _unfold(summary: str, inside: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{inside}</details>"


def _selection(chosen: Table | None, looked: html.Looks) -> Iterator[str]:
    if chosen is not None:
        marked = any(role != "other" for role in chosen.roles)
        yield _section(chosen.grid.title, html.table(chosen, marked, looked))


def _behind(study: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is behind the study: its cost, its settings, and the fingerprints of all artifacts."""
    yield f'<section><h2>Behind it</h2><p class="caption">{escape(markdown.behind(study))}</p>'
    settings = settings_grid(study)
    if settings.rows:
        heads = (column.heading for column in settings.columns)
        yield _unfold(settings.title, _list("Settings", heads, ([cell.text for cell in row] for row in settings.rows)))
    found = _fingerprints(study)
    if found:
        listed = " ".join(f"<code>{escape(each)}</code>" for each in found)
        yield _unfold(f"Fingerprints of the {len(found):,} artifacts", f'<p class="prints">{listed}</p>')
    yield "</section>"


def _fingerprints(study: Mapping[str, Any]) -> list[str]:
    """Return the fingerprints of all artifacts behind the cells, each once, as short as the names of their folders."""
    cells = (cell for table in study["tables"] for row in table["rows"] for cell in row["cells"].values() if cell)
    return list(dict.fromkeys(each[:_DIGITS] for cell in cells for each in cell.get("fingerprints") or []))
