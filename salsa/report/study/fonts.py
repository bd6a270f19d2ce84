"""The font of the figures: DejaVu Sans without most scripts and their rules, because a PDF file embeds it far quicker.

Most of the time that such a file takes is the cutting down of thousands of letters to the few that it has.
"""

import os
import tempfile
from functools import cache
from pathlib import Path

import matplotlib
from fontTools import subset
from fontTools.ttLib import TTFont
from matplotlib import font_manager

_OWN, _NAME = "DejaVu", "Figure"
"""The family's name, and that of the smaller one: two fonts of one name could not be told apart."""
_FACES = ("Sans", "Sans-Bold", "Sans-Oblique")
_LETTERS = (*range(0x20, 0x530), *range(0x1E00, 0x2BFF))
"""Latin, Greek and Cyrillic letters, signs and symbols; others are taken from the whole font."""
_UNUSED = ("GSUB", "GPOS", "GDEF", "MATH", "FFTM")
"""Tables with ligatures, marks and forms of letters; the pairs that stand closer are in another one, which is kept."""
_MADE = 2
"""Counts the ways in which it was made: another one has another file."""


@cache
def families() -> list[str]:
    """Return the names of the font and of the one behind it, known to matplotlib; made once, in matplotlib's cache."""
    for face in _FACES:
        # With the version in its name: another one may bring another font.
        path = Path(matplotlib.get_cachedir()) / f"{_NAME}{face}-{matplotlib.__version__}-{_MADE}.ttf"
        if not path.exists():
            _make(face, path)
        font_manager.fontManager.addfont(path)
    return [f"{_NAME} Sans", f"{_OWN} Sans"]


def _make(face: str, path: Path) -> None:
    """Write a face without what no figure uses; whole or not at all, as other processes may look for it."""
    source = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{_OWN}{face}.ttf"
    # The time of writing would make files differ from machine to machine.
    font = TTFont(source, recalcTimestamp=False)
    for table in (name for name in _UNUSED if name in font):
        del font[table]
    cut = subset.Subsetter(subset.Options(glyph_names=True, legacy_kern=True, name_IDs=["*"], notdef_outline=True))
    cut.populate(unicodes=_LETTERS)
    cut.subset(font)
    for record in font["name"].names:
        record.string = record.toUnicode().replace(_OWN, _NAME)
    handle, made = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        font.save(file)
    Path(made).replace(path)
