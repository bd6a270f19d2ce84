import re
from html.parser import HTMLParser
from typing import Any

import pytest

from salsa.report.figures import INK, PAPER, RULE
from salsa.report.study import page
from salsa.report.study.names import named
from salsa.report.study.schema import printable
from tests.report.study import examples
from tests.report.study.odd import EVERY, NAME

pytestmark = pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
VOID = {"meta", "br", "link", "img"}


class Markup(HTMLParser):
    """Checks that tags are balanced, and collects tags with their attributes, and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def having(self, name: str) -> list[str]:
        return [value or "" for _, attrs in self.tags for key, value in attrs.items() if key == name]


def parsed(text: str) -> Markup:
    markup = Markup()
    markup.feed(text)
    markup.close()
    assert markup.open == []
    return markup


@pytest.fixture(scope="module")
def text() -> str:
    return page.page(printable(examples.table_1()))


def test_the_headline_stands_before_the_figure_and_the_figure_before_the_table(text: str) -> None:
    parts = (
        '<p class="headline decided">SALSA beats PPO over all',
        "<svg",
        "<table><caption>Gold reward",
        "How to read it",
    )
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def test_an_open_question_does_not_look_decided() -> None:
    study = printable(examples.table_1() | {"headline": 2})
    assert '<p class="headline">The data do not decide' in page.page(
        study, dict.fromkeys(("win_rates", "divergence"), "<svg></svg>")
    )


def test_the_page_loads_nothing_and_its_references_resolve(text: str) -> None:
    markup = parsed(text)
    assert not {tag for tag, _ in markup.tags} & {"script", "link", "img", "iframe", "object"}
    ids, links = markup.having("id"), [*markup.having("href"), *markup.having("src"), *markup.having("xlink:href")]
    assert all(link.startswith("#") for link in links)
    assert len(ids) == len(set(ids)) > 50
    assert {link[1:] for link in links} | set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_tables_have_captions_and_scopes_and_figures_names(text: str) -> None:
    markup = parsed(text)
    tables = [tag for tag, _ in markup.tags if tag == "table"]
    captions = [tag for tag, _ in markup.tags if tag == "caption"]
    assert len(tables) == len(captions) >= 5
    assert all(
        attrs.get("scope") in ("col", "row", "colgroup", "rowgroup") for tag, attrs in markup.tags if tag == "th"
    )
    assert text.count('role="img" aria-label="Win rate against PPO on each suite"') == 1
    assert text.count('<html lang="en">') == 1


def test_heading_rows_span_as_many_columns_as_the_rows_have(text: str) -> None:
    for table in re.findall(r"<table>(.*?)</table>", text, flags=re.DOTALL):
        head, body = table.split("</thead>")
        first = re.findall(r"<tr[^>]*>(.*?)</tr>", head)[0]
        width = sum(int(span or 1) for span in re.findall(r"<th(?=[ >])(?:[^>]*?colspan=\"(\d+)\")?", first))
        for row in re.findall(r"<tr[^>]*>(.*?)</tr>", body):
            if 'scope="rowgroup"' not in row:
                assert len(re.findall(r"<t[hd][ >]", row)) == width


def test_every_number_leads_to_the_artifacts_behind_it(text: str) -> None:
    assert 'title="n = 8, from 8 artifacts"' in text
    short = examples.fingerprint("Llama2", "SALSA", "single", 7)[:16]
    assert text.count(short) == 1, "once on the whole page, not once a cell"
    assert "artifacts</summary>" in text
    assert "study.json has the artifacts behind every cell" in text


def test_the_papers_cells_are_marked_as_such(text: str) -> None:
    assert '<td class="paper">51.00</td>' in text
    assert '<td class="missing paper">not known to us</td>' in text
    assert text.count('class="group paper">paper (its models and judge; figures made up)') == 1


def test_colours_follow_the_scheme_of_the_page(text: str) -> None:
    body = text[text.index("<body>") :]
    assert "prefers-color-scheme: dark" in text
    for colour in (INK, RULE, PAPER):
        assert colour not in body
    for role in ("sft", "soup", "salsa", "control"):
        assert f'class="mark {role}"' in body
        assert f".mark.{role} {{ color: " in text


def test_what_is_missing_is_told_before_the_numbers(text: str) -> None:
    box = text[text.index('<ul class="warning"') : text.index("</ul>")]
    assert "<strong>Missing:</strong> replicate 3 of Gemma is missing from all rows: sft 2 failed" in box
    assert text.index('class="headline') < text.index('<ul class="warning"') < text.index("<svg")
    warned = text.index("<strong>Warning:</strong> The coefficient of PPO")
    assert text.rindex('<li class="verdict') < text.index("&quot;Decided&quot; means") < warned < text.index("<svg")
    assert ">missing²</td>" in text


def test_the_papers_claims_stand_in_a_box_with_what_came_out_here(text: str) -> None:
    box = text[text.index('<aside class="claims">') : text.index("</aside>")]
    assert "<dt>all cells are above 50 %, from 50.10 % (Gemma, hard) to 56.20 %</dt><dd>10 of 12" in box
    assert '<span class="holds no">does not hold here</span>' in box
    assert '<span class="holds yes">holds here</span>' in box
    assert '<dd><span class="holds open">not compared here</span></dd>' in box
    assert "Source: published reviews" in box
    assert text.count("50.10 %") == 1
    assert "<aside" not in page.page(printable(examples.alpha()))


def test_no_interval_is_torn_by_the_end_of_a_line(text: str) -> None:
    assert '<span class="whole">53.4 % [52.1, 54.7]</span>, 8 replicates</p>' in text


def test_commands_in_notes_are_set_as_code(text: str) -> None:
    assert "<code>python run.py study=table_1 replicates=1</code>" in text


@pytest.mark.parametrize("name", EVERY)
def test_every_study_gives_a_whole_page(name: str) -> None:
    study = printable(EVERY[name]())
    markup = parsed(page.page(study))
    shown = "".join(markup.text)
    assert study["title"] in shown
    assert study["question"] in shown
    assert "None" not in shown.replace("None of", "")


def test_all_text_is_escaped() -> None:
    evil = "<script>alert('x')</script>&\"" + NAME

    def replaced(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: replaced(entry, name) for name, entry in value.items()}
        if isinstance(value, list):
            return [replaced(entry, key) for entry in value]
        fixed = ("role", "kind", "key", "decided", "name", "better")
        return evil if isinstance(value, str) and key not in fixed else value

    study = replaced(examples.frontier())
    study["settings"] = {evil: evil}
    markup = parsed(page.page(printable(study), {"frontier": "<svg></svg>"}))
    assert "script" not in {tag for tag, _ in markup.tags}
    assert "".join(markup.text).count("<script>") > 20


def test_the_numbers_of_a_figure_can_be_unfolded(text: str) -> None:
    assert text.count("<summary>The numbers of this figure</summary>") == 2
    assert '<th scope="row">Llama2</th><td>SALSA</td><td>single</td><td>56.7</td><td>54.7</td><td>58.7</td>' in text


def test_nothing_may_be_loaded_or_run_whatever_is_on_the_page(text: str) -> None:
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    found = [attrs for tag, attrs in parsed(text).tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert [attrs["content"] for attrs in found] == [policy]
    assert text.index("Content-Security-Policy") < text.index("<style")


def test_the_arms_are_defined_under_the_question(text: str) -> None:
    found = "<dt>start+ref soup</dt><dd>KL reference: the soup; start: the soup; <code>soup.alpha=.5</code></dd>"
    assert text.index('class="question"') < text.index(found) < text.index('<ul class="verdicts"')
    assert "What the arms are" not in page.page(printable(examples.alpha()))


def test_a_second_verdict_is_large_too_and_below_the_first() -> None:
    study = printable(examples.table_1() | {"second": 4})
    shown = page.page(study, dict.fromkeys(named(study), "<svg></svg>"))
    first, second = re.findall(r'<p class="(headline[^"]*)">(.*?)</p>', shown)
    assert (first[0], second[0]) == ("headline decided", "headline second decided")
    assert second[1].startswith("PPO beats start+ref soup for Gemma")
    assert shown.count("PPO beats start+ref soup for Gemma") == 1


def test_numbers_have_one_minus_sign() -> None:
    study = examples.frontier()
    study["tables"][0]["rows"][0]["cells"]["at_2"] |= {"value": -1.25, "low": -1.5, "high": -1.0}
    study["figures"][0]["series"][0]["points"][0] |= {"value": -1.25, "low": -1.5, "high": -1.0}
    study["verdicts"][0]["sentence"] = "PPO is above: -0.13 points of gold reward [-0.20, -0.06]"
    shown = "".join(parsed(page.page(printable(study))).text)
    for part in ("−1.25 [−1.50, −1.00]", "−0.13 points of gold reward [−0.20, −0.06]"):
        assert part in shown
    assert not re.search(r"(?<!\w)-\.?\d", shown[shown.index("Does SALSA reach") :])
    whole = '<span class="whole">[−0.20, −0.06]</span>'
    assert whole in page.page(printable(study), {"frontier": "<svg></svg>"})
