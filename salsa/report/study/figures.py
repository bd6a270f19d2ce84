"""The figures of a study, each with its heading, its legend and its small print."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from salsa.report.figures import GREY, STYLE, empty_figure
from salsa.report.study import fonts, intervals, looks, panels, pictures, plane, traces
from salsa.report.study.looks import Look, shown
from salsa.report.study.names import named, valued
from salsa.report.study.pictures import Drawing
from salsa.report.study.schema import replicates

_LETTER, _BETWEEN = 0.075, 0.7
"""Inches: of a letter of a legend, and of what stands between its entries."""
_HEADING_LETTER, _SMALL_LETTER = 0.105, 0.068
_HEADING_LINE, _SMALL_LINE, _LEGEND_LINE, _MARGIN = 0.21, 0.142, 0.21, 0.08
_LINES = (_HEADING_LINE, _SMALL_LINE)
_MOST_COLUMNS = 6
_KINDS: Mapping[str, Any] = {"intervals": intervals, "plane": plane}
"""What draws a kind; the others are traces."""
_OF_BANDS = "bands are of each arm alone; arms share replicates, so their differences are surer than the bands look"


def draw(study: Mapping[str, Any], figure: Mapping[str, Any]) -> Drawing:
    """Return one drawn figure of a printable study; its layout is settled, so that no file solves it again."""
    given, figure = looks.of(study, figure), panels.scaled(figure)
    kind = _KINDS.get(figure["kind"], traces)
    with matplotlib.rc_context({**STYLE, "font.family": fonts.families()}):
        entries = list(plane.entries()) if kind is plane else _entries(figure, given)
        width, height = kind.size(figure)
        columns = _columns([str(entry.get_label()) for entry in entries], width)
        legend = _LEGEND_LINE * -(-len(entries) // columns) + _MARGIN if entries else 0.0
        heading = textwrap.wrap(figure["title"], int(width / _HEADING_LETTER))
        small = textwrap.wrap(explanation(study, figure), int(width / _SMALL_LETTER))
        top, bottom = (_MARGIN + line * len(lines) for line, lines in zip(_LINES, (heading, small), strict=True))
        drawn = empty_figure(width, height + legend + top + bottom)
        kind.draw(drawn, figure, given)
        _frame(drawn, heading, small, top)
        if entries:
            _legend(drawn, entries, columns, top)
        _settle(drawn, top + legend, bottom)
    return Drawing(drawn, top, bottom)


def _frame(drawn: Figure, heading: list[str], small: list[str], top: float) -> None:
    """Write the heading above everything, and the small print below it."""
    width, height = drawn.get_size_inches()
    look: dict[str, Any] = {"in_layout": False, "zorder": 9, "linespacing": 1.2}
    bold: dict[str, Any] = {"size": 12, "weight": "bold", "gid": pictures.HEADING, "va": "top"}
    drawn.text(0.06 / width, 1 - 0.05 / height, shown("\n".join(heading)), **bold, **look)
    grey: dict[str, Any] = {"size": 8.5, "color": GREY, "gid": pictures.SMALL, "va": "bottom"}
    drawn.text(0.06 / width, 0.05 / height, shown("\n".join(small)), **grey, **look)


def _legend(drawn: Figure, entries: list[Artist], columns: int, top: float) -> None:
    """Draw the legend under the heading."""
    place = (0, 1 - top / drawn.get_figheight())
    look = {"ncols": columns, "handlelength": 2.4, "borderaxespad": 0.2, "fontsize": 9, "alignment": "left"}
    drawn.legend(handles=entries, loc="upper left", bbox_to_anchor=place, **look).set_in_layout(False)


def _settle(drawn: Figure, above: float, below: float) -> None:
    """Find the places of the axes once; every file would solve the layout again."""
    height = drawn.get_figheight()
    engine = drawn.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, below / height, 1, 1 - (above + below) / height))
    engine.execute(drawn)
    drawn.set_layout_engine("none")


def _seen(figure: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return the series that have a point, so that no other one stands in the legend."""
    return {(series["role"], series["label"]) for series in figure["series"] if valued({"series": [series]})}


def _entries(figure: Mapping[str, Any], looked: Mapping[tuple[str, str], Look]) -> list[Artist]:
    """Return the entries of the legend; a single series needs none where the title says what it is."""
    given = {key: look for key, look in looked.items() if key in _seen(figure)}
    if len(given) == 1 and all(label in figure["title"] for _, label in given):
        return []
    joined = {
        (series["role"], series["label"])
        for series in figure["series"]
        if figure["kind"] != "intervals" and len(series["points"]) > 1
    }
    return [
        Line2D([], [], linestyle=look.dash if key in joined else "none", label=shown(key[1]), **look.point(6.5))
        for key, look in given.items()
    ]


def _columns(labels: list[str], width: float) -> int:
    """Return how many columns the legend has: as many as there is room for, and no more than its rows need."""
    longest = max((len(label) for label in labels), default=1)
    most = max(1, min(_MOST_COLUMNS, len(labels), int(width / (_LETTER * longest + _BETWEEN))))
    rows = -(-len(labels) // most)
    return -(-len(labels) // max(1, rows))


def explanation(study: Mapping[str, Any], figure: Mapping[str, Any]) -> str:
    """Return the small print of a figure: what its marks are, by itself where the study says so."""
    if figure.get("explanation"):
        return str(figure["explanation"])
    values, line = valued(figure), panels.scaled(figure)["line"]
    one = study["replicates"] == 1
    mean = "one replicate" if one else f"means over {replicates(study)}"
    if figure["kind"] == "plane":
        return f"{plane.explanation(figure, mean)} {figure.get('note') or ''}".strip()
    curves = figure["kind"] == "curves"
    parts = [f"{'Lines' if curves else 'Points'}: {mean}"]
    if any(point["low"] is not None and point["high"] is not None for point in values):
        parts.append(f"{'bands' if curves else 'bars'}: {study['level']:.0%} intervals")
        parts += [_OF_BANDS] if curves and not one and len(_seen(figure)) > 1 else []
    elif one:
        parts[0] += ", so there are no intervals"
    if line is not None:
        parts.append(f"dashed: {panels.name_of(line)}{', where neither is better' if panels.even(figure) else ''}")
    return f"{'; '.join(parts)}. {figure.get('note') or ''}".strip()


def drawings(study: Mapping[str, Any]) -> dict[str, Drawing]:
    """Return the drawings of a printable study, by file name without suffix."""
    return {name: draw(study, figure) for name, figure in named(study).items()}


def inline(study: Mapping[str, Any]) -> dict[str, str]:
    """Return the SVG documents of the page alone."""
    return {name: pictures.bare(each, pictures.svg(each)) for name, each in drawings(study).items()}


def write_all(study: Mapping[str, Any], folder: Path) -> tuple[list[Path], dict[str, str]]:
    """Write every figure as PNG, SVG and PDF into an existing folder; return the paths, and the SVGs of the page.

    Equal studies give equal files.
    """
    found, bare = pictures.both(drawings(study))
    paths = [folder / name for name in found]
    for path, data in zip(paths, found.values(), strict=True):
        path.write_bytes(data)
    return paths, bare
