import re
from pathlib import Path

import matplotlib
import pytest
from fontTools.ttLib import TTFont
from matplotlib.font_manager import FontProperties, findfont

from salsa.report.study import figures, fonts
from salsa.report.study.schema import printable
from tests.report.study import examples

LETTERS = "AV To 0123456789 αβγ ±−–√≤·²¹ éñ Жд ▲▼"


@pytest.mark.parametrize("look", [{}, {"weight": "bold"}, {"style": "italic"}])
def test_letters_are_those_of_the_whole_font(look: dict[str, str]) -> None:
    own, whole = fonts.families()
    small, large = (TTFont(findfont(FontProperties(family=[name], **look))) for name in (own, whole))
    for letter in LETTERS:
        glyphs = [font.getBestCmap()[ord(letter)] for font in (small, large)]
        assert small["hmtx"][glyphs[0]] == large["hmtx"][glyphs[1]]
    assert "kern" in small
    assert "GSUB" not in small


def test_it_is_made_once_and_always_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matplotlib, "get_cachedir", lambda: str(tmp_path))
    made = []
    for _ in range(2):
        fonts.families.__wrapped__()
        made.append({path.name: (path.stat().st_ino, path.read_bytes()) for path in tmp_path.iterdir()})
    assert made[0] == made[1]
    assert len(made[0]) == 3
    for path in tmp_path.iterdir():
        path.unlink()
    fonts.families.__wrapped__()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        name: data for name, (_, data) in made[0].items()
    }


def test_a_letter_beyond_it_is_taken_from_the_whole_font_and_files_embed_true_type(tmp_path: Path) -> None:
    study = examples.frontier()
    study["figures"][0]["title"] = "Gold ش"
    figures.write_all(printable(study), tmp_path)
    names = set(re.findall(rb"/BaseFont /[A-Z]{6}\+([\w-]+)", (tmp_path / "frontier.pdf").read_bytes()))
    assert names == {b"FigureSans", b"FigureSans-Bold", b"DejaVuSans-Bold"}
    assert b"/Type3" not in (tmp_path / "frontier.pdf").read_bytes()
