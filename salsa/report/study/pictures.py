"""A drawn figure as PNG, SVG and PDF, and as the SVG of the page, which has no frame: one drawing for all."""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from salsa.report.figures import STYLE

HEADING, SMALL = "frame-heading", "frame-small"
"""Identifiers of the frame's texts in an SVG file."""
_DOTS_PER_INCH, _POINTS = 144, 72
_FONTS = {"pdf.fonttype": 42}
"""Outlines as TrueType, which journals ask for."""
_SIZE = re.compile(r'height="[\d.]+pt" viewBox="0 0 ([\d.]+) ([\d.]+)"')

_TAG = re.compile(r"<!--.*?-->|<g(?=[\s>/])[^>]*>|</g>", re.DOTALL)
"""Groups, and comments: a comment has the text that is drawn, whatever is in it."""


@dataclass(frozen=True)
class Drawing:
    """A figure whose layout is settled, and the heights in inches of its heading and its small print."""

    figure: Figure
    heading: float
    small: float


def files(drawing: Drawing) -> dict[str, bytes]:
    """Return a drawing as PNG, SVG and PDF by suffix; the bytes depend on the picture alone."""
    return {"png": _png(drawing.figure), "svg": svg(drawing).encode(), "pdf": _pdf(drawing.figure)}


# The canvases are asked themselves: `savefig` draws every figure twice, once for a layout that is settled already.
def svg(drawing: Drawing) -> str:
    """Return a drawing as SVG without date, with names that depend on the picture alone."""
    data = io.StringIO()
    with matplotlib.rc_context(STYLE):
        FigureCanvasSVG(drawing.figure).print_svg(data, metadata={"Date": None, "Creator": None})
    return data.getvalue()


def _png(figure: Figure) -> bytes:
    data, before = io.BytesIO(), figure.dpi
    with matplotlib.rc_context(STYLE):
        figure.set_dpi(_DOTS_PER_INCH)
        FigureCanvasAgg(figure).print_png(data, metadata={"Software": None})
        figure.set_dpi(before)
    return data.getvalue()


def _pdf(figure: Figure) -> bytes:
    data, before = io.BytesIO(), figure.dpi
    with matplotlib.rc_context({**STYLE, **_FONTS}):
        nothing: dict[str, Any] = {"CreationDate": None, "Creator": None, "Producer": None}
        FigureCanvasPdf(figure).print_pdf(data, metadata=nothing)
    figure.set_dpi(before)
    return data.getvalue()


def bare(drawing: Drawing, document: str) -> str:
    """Return the SVG of a drawing without its heading and small print, for a page that has them as text.

    Raises ValueError if it is not the SVG of a drawing.
    """
    found = _SIZE.search(document)
    if found is None:
        raise ValueError("the SVG has no size; give that of a drawing")
    width, height = map(float, found.groups())
    top, left = _POINTS * drawing.heading, height - _POINTS * (drawing.heading + drawing.small)
    size = f'height="{left:g}pt" viewBox="0 {top:g} {width:g} {left:g}"'
    return _without(_without(document.replace(found[0], size, 1), HEADING), SMALL)


def _without(svg: str, name: str) -> str:
    """Return SVG without a group: its letters are drawn last, so nothing else uses their outlines."""
    start = svg.find(f'<g id="{name}">')
    if start < 0:
        return svg
    depth = 0
    for tag in _TAG.finditer(svg[start:]):
        depth += {"</": -1, "<g": not tag[0].endswith("/>")}.get(tag[0][:2], 0)
        if depth == 0:
            return svg[:start] + svg[start + tag.end() :]
    return svg


def both(drawings: Mapping[str, Drawing]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return all drawings' files by name, and the SVG of the page by the name of the figure."""
    found: dict[str, bytes] = {}
    inline = {}
    for name, drawing in drawings.items():
        own = files(drawing)
        found |= {f"{name}.{suffix}": data for suffix, data in own.items()}
        inline[name] = bare(drawing, own["svg"].decode())
    return found, inline
