"""The figures of a study: for files with their heading and small print, for the page without, which has its own."""

import io
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from salsa.report.figures import STYLE, empty_figure, to_png, to_svg
from salsa.report.landscape import looks as frames
from salsa.report.study import intervals, looks, panels, traces
from salsa.report.study.looks import Look, shown
from salsa.report.study.reading import replicates

_LETTER, _BETWEEN = 0.075, 0.7
"""Inches: of a letter of a legend, and of what stands between its entries."""
_HEADING_LETTER = 0.105
_LEGEND_LINE = 0.21
_MOST_COLUMNS = 6
_FONTS = {"pdf.fonttype": 42}
"""Outlines as TrueType, which journals ask for."""


def named(study: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the figures that have a value, by file name without suffix: each safe on any file system, and its own."""
    found: dict[str, Mapping[str, Any]] = {}
    for figure in study["figures"]:
        if not _values(figure):
            continue
        name = re.sub(r"[^\w-]+", "_", figure["name"]).strip("_") or "figure"
        taken, number = {each.lower() for each in found}, 1
        unique = name
        while unique.lower() in taken:
            number += 1
            unique = f"{name}_{number}"
        found[unique] = figure
    return found


def _values(figure: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    points = (point for series in figure["series"] for point in series["points"])
    return [point for point in points if point["value"] is not None and point["x"] is not None]


def draw(study: Mapping[str, Any], figure: Mapping[str, Any], framed: bool = True) -> Figure:
    """Return one drawn figure of a printable study; without its frame it has no heading and no small print."""
    given, figure = looks.of(study, figure), panels.scaled(figure)
    kind = intervals if figure["kind"] == "intervals" else traces
    with matplotlib.rc_context(STYLE):
        seen = {key: look for key, look in given.items() if key in _seen(figure)}
        entries = _entries(figure, seen)
        width, height = kind.size(figure)
        columns = _columns(list(seen), width)
        lines = frames.legend_height(len(entries), columns) if entries else 0.0
        heading = textwrap.wrap(figure["title"], int(width / _HEADING_LETTER)) if framed else []
        small = 0.16 * -(-len(explanation(study, figure)) * 0.068 // width) if framed else 0.0
        drawn = empty_figure(width, height + lines + 0.24 * len(heading) + small)
        kind.draw(drawn, figure, given)
        if framed:
            frames.frame(drawn, "\n".join(heading), explanation(study, figure), entries, columns)
        elif entries:
            drawn.legend(handles=entries, loc="outside upper left", ncols=columns, handlelength=2.4, borderaxespad=0.2)
    return drawn


def _seen(figure: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return the series that have a point, so that no other one stands in the legend."""
    return {(series["role"], series["label"]) for series in figure["series"] if _values({"series": [series]})}


def _entries(figure: Mapping[str, Any], given: Mapping[tuple[str, str], Look]) -> list[Line2D]:
    """Return the entries of the legend; a single series needs none where the title says what it is."""
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


def _columns(labels: list[tuple[str, str]], width: float) -> int:
    """Return how many columns the legend has: as many as there is room for, and no more than its rows need."""
    longest = max((len(label) for _, label in labels), default=1)
    most = max(1, min(_MOST_COLUMNS, len(labels), int(width / (_LETTER * longest + _BETWEEN))))
    rows = -(-len(labels) // most)
    return -(-len(labels) // max(1, rows))


def explanation(study: Mapping[str, Any], figure: Mapping[str, Any]) -> str:
    """Return the small print of a figure: what its marks are."""
    values, line = _values(figure), panels.scaled(figure)["line"]
    marks = "Lines" if figure["kind"] == "curves" else "Points"
    one = study["replicates"] == 1
    parts = [f"{marks}: {'one replicate' if one else f'means over {replicates(study)}'}"]
    if any(point["low"] is not None and point["high"] is not None for point in values):
        parts.append(f"{'bands' if figure['kind'] == 'curves' else 'bars'}: {study['level']:.0%} intervals")
    elif one:
        parts[0] += ", so there are no intervals"
    if line is not None:
        parts.append(f"dashed: {panels.name_of(line)}")
    return f"{'; '.join(parts)}. {figure.get('note') or ''}".strip()


def to_pdf(figure: Figure) -> bytes:
    """Return a figure as PDF without date or version, so that the bytes depend on the picture alone."""
    data = io.BytesIO()
    with matplotlib.rc_context({**STYLE, **_FONTS}):
        nothing = {"CreationDate": None, "Creator": None, "Producer": None}
        figure.savefig(data, format="pdf", metadata=nothing)
    return data.getvalue()


def write_all(study: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write every figure as PNG, SVG and PDF into an existing folder; equal studies give equal files."""
    paths = []
    for name, figure in named(study).items():
        drawn = draw(study, figure)
        pictures = {"png": to_png(drawn), "svg": to_svg(drawn).encode(), "pdf": to_pdf(drawn)}
        for suffix, data in pictures.items():
            path = folder / f"{name}.{suffix}"
            path.write_bytes(data)
            paths.append(path)
    return paths
