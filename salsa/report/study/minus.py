"""One minus sign in what people read: programs write hyphens before numbers. No NumPy: it must be fast."""

import re
from dataclasses import replace

from salsa.report.grid import Cell

# Neither a hyphen within a word, a range or a date, nor what a command sets.
_HYPHEN = re.compile(r"(?<![\w.)\]=−-])-(?=\.?\d)|(?<=\de)-(?=\d)")


def typeset(text: str) -> str:
    """Return text whose negative numbers have a minus sign."""
    return _HYPHEN.sub("−", text)


def cell(given: Cell) -> Cell:
    """Return a cell whose number and interval have minus signs; another cell stays as it is."""
    if given.value is None:
        return given
    return replace(given, text=typeset(given.text), interval=typeset(given.interval))
