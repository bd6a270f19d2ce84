"""What of an SVG document is placed on a page: what was understood of it, and nothing that could run or load."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from salsa.report.compendium import elements, pictures
from salsa.report.study import figures
from salsa.report.study.schema import printable
from tests.report.compendium import factory
from tests.report.study import examples

PLAIN = '<path d="M0 0L9 9" style="fill: none; stroke-dasharray: 3,1" clip-path="url(#c)" transform="translate(1 2)"/>'
BAD = {
    "script": "<script>alert(1)</script>",
    "a script of HTML": '<script xmlns="http://www.w3.org/1999/xhtml">alert(1)</script>',
    "a link": '<a href="x"></a>',
    "an animation": '<set attributeName="href" to="x"/>',
    "HTML": "<foreignObject><b/></foreignObject>",
    "an image": '<image href="data:image/png;base64,"/>',
    "a handler": '<path onload="alert(1)"/>',
    "a handler without a blank": '<svg/onload="alert(1)"></svg>',
    "a handler in capitals": '<path ONLOAD="alert(1)"/>',
    "what is elsewhere": '<use href="http://x"/>',
    "what is elsewhere, in another name space": '<use xmlns:l="http://www.w3.org/1999/xlink" l:href="http://x"/>',
    "what is elsewhere, by a reference to a letter": '<use href="&#104;ttp://x"/>',
    "a file": '<path fill="url(http://x/y)"/>',
    "a file by a reference to a letter": '<path style="fill:&#117;rl(http://x/y)"/>',
    "a file by an escape": '<path style="fill:u\\72l(http://x/y)"/>',
    "a file in capitals": '<path fill="URL(http://x/y)"/>',
    "a file after a blank": '<path fill="url( http://x/y)"/>',
    "a set of files": "<g style=\"background:image-set('http://x/y' 1x)\"/>",
    "another base": '<g xml:base="http://x"/>',
    "what HTML takes for an end": "<desc><![CDATA[><script>alert(1)</script>]]></desc>",
    "an element in prose": "<title><g/></title>",
    "an instruction": '<?xml-stylesheet href="http://x"?>',
    "a document type": '<!DOCTYPE x SYSTEM "http://x">',
    "an entity": '<!ENTITY x SYSTEM "file:///etc/passwd">',
    "a great depth": "<g>" * 99 + "</g>" * 99,
}


def document(inside: str) -> str:
    return factory.SVG.replace("<defs>", f"{inside}<defs>")


@pytest.mark.parametrize("what", BAD)
def test_what_could_run_or_load_something_is_refused(what: str) -> None:
    with pytest.raises((ValueError, ElementTree.ParseError)):
        pictures.plain(document(BAD[what]))


def test_a_plain_picture_is_kept_without_style_comments_and_metadata() -> None:
    comment = '<!-- <script>alert(1)</script> --><metadata><b xmlns="x">c</b></metadata>'
    found = ElementTree.fromstring(pictures.plain(document(f"{PLAIN}{comment}<title>a &lt;b&gt;</title>")))
    names = [element.tag for element in found.iter()]
    assert names == ["svg", "g", "path", "path", "title", "defs", "clipPath", "rect", "use"]
    assert found[1].attrib == ElementTree.fromstring(PLAIN).attrib
    assert found[2].text == "a <b>"
    text = pictures.plain(document(f"{PLAIN}{comment}<title>a &lt;b&gt;</title>"))
    assert "<title>a &lt;b&gt;</title>" in text
    assert "script" not in text


@pytest.mark.parametrize("end", [1, 60, 200])
def test_a_picture_that_was_cut_is_damaged(tmp_path: Path, end: int) -> None:
    (tmp_path / "a.svg").write_text(factory.SVG[:-end])
    with pytest.raises(ValueError, match=r"a\.svg is damaged, it is no whole SVG document"):
        pictures.inlined(tmp_path, "a", "anchor", "title")
    (tmp_path / "a.svg").write_bytes(factory.SVG.encode() + b"\xff")
    with pytest.raises(ValueError, match=r"a\.svg is damaged"):
        pictures.inlined(tmp_path, "a", "anchor", "title")


def test_what_is_refused_names_the_file_and_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_text(document(BAD["a handler"]))
    with pytest.raises(ValueError, match=r"a\.svg holds onload=\"alert\(1\)\", which no figure of this project does"):
        pictures.inlined(tmp_path, "a", "anchor", "title")


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
@pytest.mark.parametrize("name", examples.EXAMPLES)
def test_every_figure_of_this_project_is_a_plain_picture(tmp_path: Path, name: str) -> None:
    for drawn, drawing in figures.drawings(printable(examples.EXAMPLES[name]())).items():
        (tmp_path / f"{drawn}.svg").write_text(figures.pictures.svg(drawing), encoding="utf-8")
        found = pictures.inlined(tmp_path, drawn, "anchor", "title")
        assert found.startswith("<figure>")
        ids = {each.get("id") for each in ElementTree.fromstring(found[found.index("<svg") : -15]).iter()}
        assert any(each and each.startswith("anchor-") for each in ids)


@pytest.mark.parametrize("name", ["javascript:alert(1).html", "https:x", " data:x", "//x/y"])
def test_no_name_of_a_file_becomes_a_scheme(name: str) -> None:
    link = elements.link(Path("/a") / name.lstrip("/"), Path("/a"), "text")
    assert ":" not in link
    assert not link.startswith('<a href="//')
