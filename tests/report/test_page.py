import re
from html.parser import HTMLParser

import pytest

from salsa.report import figures, page
from tests.report import factory

VOID = {"meta", "br", "link", "img"}


class Markup(HTMLParser):
    """Checks that tags are balanced, and collects attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._collect(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._collect(attrs)

    def _collect(self, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def drawings() -> dict[str, str]:
    return {name: figures.to_svg(figure) for name, figure in figures.figures(factory.experiment()).items()}


def parsed(text: str) -> Markup:
    markup = Markup()
    markup.feed(text)
    markup.close()
    assert markup.open == []
    return markup


def test_the_page_is_whole_and_loads_nothing(drawings: dict[str, str]) -> None:
    text = page.html(factory.experiment(), drawings)
    markup = parsed(text)
    assert not markup.tags & {"script", "link", "img", "iframe", "object"}
    assert all(link.startswith("#") for link in markup.links)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert "<?xml" not in text
    shown = "".join(markup.text)
    for part in ("Gold reward of each model", "One replicate", "policy.kl_coef", "judge-PPO-hard", "74.8 %"):
        assert part in shown


def test_every_wide_box_can_be_scrolled_by_the_keyboard(drawings: dict[str, str]) -> None:
    text = page.html(factory.experiment(), drawings)
    boxes = re.findall(r'<div class="wide"[^>]*>', text)
    assert len(boxes) > 10
    assert all(re.search(r' tabindex="0" role="region" aria-label="[^"]+">$', box) for box in boxes)


def test_figures_do_not_clash_and_their_references_resolve(drawings: dict[str, str]) -> None:
    text = page.html(factory.experiment(), drawings)
    markup = parsed(text)
    assert len(markup.ids) == len(set(markup.ids)) > 50
    references = {link[1:] for link in markup.links} | set(re.findall(r"url\(#([^)]+)\)", text))
    assert references <= set(markup.ids)
    assert text.count('role="img"') == 3


def test_figures_follow_the_scheme_of_the_page(drawings: dict[str, str]) -> None:
    text = page.html(factory.experiment(), drawings)
    body = text[text.index("<body>") :]
    assert "prefers-color-scheme: dark" in text
    for colour in (figures.INK, figures.RULE, figures.PAPER):
        assert colour not in body
    assert "currentColor" in body
    assert "#0072b2" in body.lower()


def test_all_text_is_escaped() -> None:
    experiment = factory.experiment()
    evil = "<script>alert('x')</script>&\""
    experiment["title"] = experiment["model"] = experiment["note"] = evil
    experiment["warnings"] = [evil]
    experiment["judge"] |= {"name": evil, "unit": evil}
    experiment["settings"] = {evil: {"key": evil}}
    experiment["rows"][3] |= {"name": evil, "init": evil, "fingerprint": evil}
    experiment["samples"][0] |= {"suite": evil, "question": evil}
    experiment["samples"][0]["replies"]["SFT1"]["text"] = evil
    markup = parsed(page.html(experiment, {}))
    assert "script" not in markup.tags
    assert "".join(markup.text).count(evil) > 10


def test_long_questions_stand_under_a_line_that_sums_them_up() -> None:
    experiment = factory.experiment()
    experiment["samples"][0]["question"] = "user: hello\nassistant: yes ?\n" + "user: long \x07 " * 20
    text = page.html(experiment, {})
    summary = text[text.index("<summary>") : text.index("</summary>")]
    assert "characters left out…" in summary
    assert len(summary) < 200
    assert '<p class="question">user: hello\nassistant: yes ?\nuser: long \\x07 user' in text
    assert text.count('<p class="question">') == 1


def test_without_drawings_the_figures_are_drawn() -> None:
    experiment = factory.experiment()
    experiment["curves"] = {}
    assert page.html(experiment).count("<svg") == 2


def test_commands_in_the_note_are_set_as_code() -> None:
    assert "<code>python run.py -m replicate=0,1,2,3,4,5,6,7</code>" in page.html(factory.experiment(), {})


def test_a_drawing_that_is_no_svg_is_named() -> None:
    with pytest.raises(ValueError, match="figure 'curves' is not an SVG"):
        page.inline("<png>", "curves", "Curves")
