from pathlib import Path

import pytest

from salsa.report.study import schema
from salsa.report.study.folder import write
from tests.report.study import examples
from tests.report.study.odd import EVERY

pytestmark = pytest.mark.filterwarnings("ignore:Glyph .* missing from font")


def test_every_file_is_written_and_nothing_else(tmp_path: Path) -> None:
    paths = write(examples.alpha(), tmp_path)
    assert sorted(paths) == sorted(tmp_path.iterdir())
    assert {path.name for path in paths} == {
        "study.json",
        "table.md",
        "table.csv",
        "table.tex",
        "page.html",
        *(f"{name}.{suffix}" for name in ("alpha", "lengths") for suffix in ("png", "svg", "pdf")),
    }
    assert schema.read(tmp_path / "study.json") == examples.alpha()


@pytest.mark.parametrize("name", ["alpha", "names"])  # pictures in three forms take their time
def test_the_file_of_a_study_shows_the_same_again(name: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    write(EVERY[name](), one)
    write(schema.read(one / "study.json"), two)
    assert {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in two.iterdir()
    }


def test_nothing_is_written_of_a_study_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="headline is 7"):
        write(examples.alpha() | {"headline": 7}, tmp_path)
    assert list(tmp_path.iterdir()) == []
