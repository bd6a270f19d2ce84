"""Figures that artifacts hold, placed inline; one that is no plain picture is refused."""

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from salsa.report.grid import scrollable

LARGEST = 1_500_000
"""Bytes of a figure that is placed inline; a larger one is linked."""
_DEEPEST = 50
"""Elements within each other; a figure of this project has a tenth."""
_ELEMENTS = frozenset(
    (
        *("svg", "g", "defs", "path", "use", "rect", "line", "circle", "ellipse", "polygon", "polyline", "clipPath"),
        *("text", "tspan", "title", "desc", "linearGradient", "radialGradient", "stop", "marker", "pattern"),
    )
)
_LEFT_OUT = frozenset(("style", "metadata"))
"""What a page does not need of a figure; the style of one would hold for the whole page."""
_PROSE = frozenset(("title", "desc"))
"""Elements in which a browser reads HTML, so that nothing but text may be in them."""
_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_FUNCTIONS = frozenset(("rgb", "rgba", "url", "translate", "scale", "rotate", "matrix", "skewX", "skewY"))
"""What an attribute may call: colours, places, and parts of the same figure."""
_CALL = re.compile(r"([\w-]*)\s*\(")
_ELSEWHERE = re.compile(r"url\s*\((?!#)", re.IGNORECASE)
_DECLARATION = re.compile(r"<[!?](?!--)")
"""Document types, entities, sections of characters and instructions: a browser reads them otherwise than XML does."""
_PATH = re.compile(r'\sd="[^"]*"')
_DECIMALS = re.compile(r"(\.\d\d)\d+")
"""Of the places of a path, which are in points: more decimals than two nobody sees, and they are much of a figure."""


def inlined(folder: Path, name: str, anchor: str, title: str) -> str:
    """Return the SVG file of this name as a figure in the page's colours, or nothing if there is none.

    Raises ValueError naming a file that is too large, is damaged, or could run or load something.
    """
    path = folder / f"{name}.svg"
    if not path.is_file():
        return ""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes; figures of up to {LARGEST:,} are shown")
    try:
        text = plain(path.read_text(encoding="utf-8"))
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged, it is no whole SVG document ({error}); it is not shown") from error
    except ValueError as error:
        raise ValueError(f"{path} holds {error}, which no figure of this project does; it is not shown") from error
    # Imported here: it brings in the drawing, which a page without figures does not need.
    from salsa.report.page import inline

    text = _PATH.sub(lambda found: _DECIMALS.sub(r"\1", found[0]), text)
    drawing = inline(text, f"{anchor}-{name}", escape(title))
    return f"<figure>{scrollable(title)}{drawing}</div></figure>"


def plain(document: str) -> str:
    """Return the picture of an SVG document, written anew from what was understood of it.

    What a browser is given is what was looked at: no comment, declaration or character reference is left over that it
    could read in another way. Raises ValueError naming what could run or load something,
    `xml.etree.ElementTree.ParseError` for what is no whole document.
    """
    text = document[max(0, document.find("<svg")) :]
    declared = _DECLARATION.search(text)
    if declared:
        raise ValueError(text[declared.start() : declared.start() + 12].strip())
    return ElementTree.tostring(_checked(ElementTree.fromstring(text), 0), encoding="unicode")


def _checked(element: Element, depth: int) -> Element:
    """Return a copy of an element without namespaces; raises ValueError naming what is no part of a plain picture."""
    name = element.tag.removeprefix(_SVG)
    if name not in _ELEMENTS:
        raise ValueError(f"<{name}>")
    if depth > _DEEPEST:
        raise ValueError(f"more than {_DEEPEST} elements within each other")
    copy = Element(name, _attributes(element.attrib))
    copy.text, copy.tail = element.text, element.tail
    inside = [child for child in element if child.tag.removeprefix(_SVG) not in _LEFT_OUT]
    if inside and name in _PROSE:
        raise ValueError(f"<{inside[0].tag.removeprefix(_SVG)}> in <{name}>")
    copy.extend([_checked(child, depth + 1) for child in inside])
    return copy


def _attributes(given: Mapping[str, str]) -> dict[str, str]:
    """Return attributes by their names in HTML; raises ValueError naming one that could run or load something."""
    found = {}
    for key, value in given.items():
        name = "href" if key == f"{_XLINK}href" else key
        link = name.lower() == "href"
        calls = {call[1] for call in _CALL.finditer(value)} - _FUNCTIONS
        if (
            name.startswith("{")
            or name.lower().startswith("on")
            or (link and not value.startswith("#"))
            or calls
            or "\\" in value
            or _ELSEWHERE.search(value)
        ):
            raise ValueError(f'{name}="{value[:40]}"')
        found[name] = value
    return found
