"""Figures that artifacts hold, placed inline; one that is no plain picture is refused."""

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from salsa.report.grid import scrollable

LARGEST = 1_500_000
"""Bytes of a figure that is placed inline; a larger one is linked."""
_WITHOUT = re.compile(r"<!--.*?-->|<metadata>.*?</metadata>|<style\b.*?</style>", re.DOTALL)
"""What a page does not need of a figure; the style of one would hold for the whole page."""
_ELEMENTS = frozenset(
    (
        *("svg", "g", "defs", "path", "use", "rect", "line", "circle", "ellipse", "polygon", "polyline", "clipPath"),
        *("text", "tspan", "title", "desc", "linearGradient", "radialGradient", "stop", "marker", "pattern"),
    )
)
_NAME = re.compile(r"<\s*/?\s*([^\s/>]*)")
_ACTIVE = re.compile(r"\son\w+\s*=|href\s*=\s*(?![\"']#)|url\((?!#)", re.IGNORECASE)
"""What could run or load something."""
_PATH = re.compile(r'\sd="[^"]*"')
_DECIMALS = re.compile(r"(\.\d\d)\d+")
"""Of the places of a path, which are in points: more decimals than two nobody sees, and they are much of a figure."""


def names(study: Mapping[str, Any]) -> dict[str, str]:
    """Return the titles of a study's figures that have a value, by the names of their files, the main one first."""
    return {
        re.sub(r"[^\w-]+", "_", str(figure["name"])).strip("_") or "figure": str(figure["title"])
        for figure in study["figures"]
        if any(point["value"] is not None for series in figure["series"] for point in series["points"])
    }


def inlined(folder: Path, name: str, anchor: str, title: str) -> str:
    """Return the SVG file of this name as a figure in the page's colours, or nothing if there is none.

    Raises ValueError naming a file that is too large, or that could run or load something.
    """
    path = folder / f"{name}.svg"
    if not path.is_file():
        return ""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes; figures of up to {LARGEST:,} are shown")
    text = _WITHOUT.sub("", path.read_text(encoding="utf-8"))
    text = text[max(0, text.find("<svg")) :]
    foreign = [found[1] for found in _NAME.finditer(text) if found[1] not in _ELEMENTS]
    active = _ACTIVE.search(text)
    if foreign or active:
        what = f"<{foreign[0]}>" if foreign else str(active and active[0].strip())
        raise ValueError(f"{path} holds {what}, which no figure of this project does; it is not shown")
    # Imported here: it brings in the drawing, which a page without figures does not need.
    from salsa.report.page import inline

    text = _PATH.sub(lambda found: _DECIMALS.sub(r"\1", found[0]), text)
    drawing = inline(text, f"{anchor}-{name}", escape(title))
    return f"<figure>{scrollable(title)}{drawing}</div></figure>"
