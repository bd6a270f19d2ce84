"""The page over an outputs folder: complete, traceable, harmless, and made without touching the store."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from salsa.report.compendium.folder import EmptyError, write
from salsa.store.artifact import Store
from salsa.store.format import StoreFormatError
from tests.report.compendium import factory
from tests.report.compendium.markup import Page

EVIL = "</td></table><script>alert(1)</script><img src=x onerror=alert(2)>\"'><a href='javascript:alert(3)'>&lt;\x1b[2J"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("whole") / "outputs"
    factory.everything(place)
    return place


@pytest.fixture(scope="module")
def text(outputs: Path) -> str:
    return write(outputs, outputs.parent / "elsewhere" / "page.html").read_text(encoding="utf-8")


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))}


def test_it_has_all_results_in_the_order_in_which_they_matter(text: str) -> None:
    sections = re.findall(r'<section id="(\w+)">', text)
    assert sections == ["studies", "experiments", "samples", "landscapes", "lineage"]
    words = " ".join(" ".join(Page(text).text).split())
    headline = "SALSA beats PPO over all families and suites: 53.4 % [52.1, 54.7]"
    assert text.index(headline) < text.index('<section id="studies">')
    assert "The data do not decide between SALSA and PPO for Mistral" in words
    assert "Does a policy whose KL reference is a soup beat one" in words
    assert "Chosen KL coefficients:" in words
    assert "SALSA against PPO in the embedded world" in words
    assert "a sweep of alpha" in words
    assert "1 of 2" in words
    assert "Landscape between SFT1, SFT2, SFT3" in words
    assert "SALSA says: the fox is red ." in words
    assert "SFT1 says: the fox is red ." in words


def test_the_facts_on_top_are_those_of_the_store(outputs: Path, text: str) -> None:
    facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text))
    count = sum(1 for _ in Store(outputs).artifacts())
    assert facts["studies"] == facts["experiments"] == facts["sweeps"] == facts["landscapes"] == "1"
    assert facts["models"] == "2 base, 4 SFT, 2 soup, 2 reward, 4 policy"
    assert facts["stages"] == str(count)
    assert facts["CPU time"] == f"{1.5 * count:.0f} s"


def test_decided_and_undecided_differ_in_words_and_forms(text: str) -> None:
    badges = re.findall(r'<span class="badge (\w+)"><span aria-hidden="true">(.)</span> (\w+)</span>', text)
    assert {("decided", "●", "decided"), ("undecided", "○", "undecided")} == set(badges)


def test_every_fingerprint_is_one_of_the_store(outputs: Path, text: str) -> None:
    known = [artifact.fingerprint for artifact in Store(outputs).artifacts()]
    page = Page(text)
    tips = [str(attributes["title"]) for _, attributes in page.elements if "title" in attributes]
    shown = set(re.findall(r"\b[0-9a-f]{12,64}\b", " ".join([*page.text, *tips])))
    assert len(shown) > 15
    assert not [found for found in shown if not any(each.startswith(found) for each in known)]


def test_every_link_leads_somewhere_and_no_name_is_given_twice(outputs: Path, text: str) -> None:
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    inside = {link.removeprefix("#") for link in page.links if link.startswith("#")}
    assert inside <= set(page.ids)
    files = [link for link in page.links if not link.startswith("#")]
    assert len(files) > 5
    assert [link for link in files if not (outputs.parent / "elsewhere" / unquote(link)).is_file()] == []


def test_links_go_to_the_copies_where_people_look(outputs: Path, tmp_path: Path) -> None:
    fingerprint = factory.named("study", "study table_1")
    copied = outputs / "studies" / fingerprint[:16]
    copied.mkdir(parents=True)
    for name in ("study.json", "page.html"):
        (copied / name).write_bytes((outputs / "store" / "study" / fingerprint / name).read_bytes())
    page = write(outputs)
    assert page == outputs / "report.html"
    assert f'href="studies/{fingerprint[:16]}/page.html"' in page.read_text(encoding="utf-8")
    page.unlink()
    for path in copied.iterdir():
        path.unlink()
    copied.rmdir()


def test_it_is_well_formed_and_loads_and_runs_nothing(text: str) -> None:
    page = Page(text)
    assert page.unbalanced == []
    assert page.left_open == []
    assert {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "object", "form"} == set()
    assert not re.search(r"@import|url\((?!#)", text)
    assert [link for link in page.links if re.match(r"[a-z]+:|//", link)] == []


def test_tables_have_captions_and_scopes(text: str) -> None:
    assert text.count("<caption>") == text.count("<table>") > 10
    assert not re.search(r"<th(?![^>]*scope=)[ >]", text)


def test_figures_and_charts_have_names(text: str) -> None:
    drawn = [attributes for tag, attributes in Page(text).elements if tag == "svg" and "viewbox" in attributes]
    assert len(drawn) > 8
    assert all("aria-label" in each or each.get("aria-hidden") == "true" for each in drawn)


def test_whatever_artifacts_say_is_shown_as_text(tmp_path: Path) -> None:
    store = Store(tmp_path)
    verdicts = [{"sentence": EVIL, "decided": None}]
    factory.study(store, EVIL, EVIL, title=EVIL, question=EVIL, verdicts=verdicts, warnings=[EVIL], regime=EVIL)
    factory.experiment(store, f" alone {EVIL}", EVIL, title=EVIL, note=EVIL, warnings=[EVIL], model=EVIL)
    page = Page(write(tmp_path).read_text(encoding="utf-8"))
    assert page.unbalanced == []
    assert {tag for tag, _ in page.elements} & {"script", "img"} == set()
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert not any("javascript" in link for link in page.links if not link.endswith((".html", ".csv", ".md")))
    words = "".join(page.text)
    assert "<script>alert(1)</script>" in words
    assert "\\x1b[2J" in words
    assert "\x1b" not in words


def test_the_store_is_not_touched_and_equal_stores_give_equal_pages(outputs: Path, text: str) -> None:
    before = snapshot(outputs)
    again = write(outputs, outputs.parent / "elsewhere" / "again.html")
    assert again.read_text(encoding="utf-8") == text
    assert snapshot(outputs) == before


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _without(*keys: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        told = json.loads(path.read_text(encoding="utf-8"))
        for key in keys:
            del told[key]
        path.write_text(json.dumps(told), encoding="utf-8")

    return change


def _with(**parts: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | parts), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("kind", "name", "file", "damage", "reason"),
    [
        ("study", "study table_1", "study.json", _cut, "is not JSON"),
        ("study", "study table_1", "study.json", _without("tables"), "'tables' is missing"),
        ("study", "study table_1", "study.json", _without("question", "level"), "lacks question, level"),
        ("study", "study table_1", "study.json", _with(replicates=None), "TypeError"),
        ("study", "study table_1", "study.json", _with(verdicts=[{}]), "KeyError"),
        ("report", "report alone", "experiment.json", _without("rows"), "lacks rows"),
        ("report", "report alone", "experiment.json", _with(rows=[{"name": "PPO"}]), "KeyError"),
        ("report", "report alone", "experiment.json", _with(settings=3), "AttributeError"),
        ("landscape", "landscape", "landscape.json", _without("schema"), "schema is None"),
        ("landscape", "landscape", "landscape.json", _without("models"), "models"),
        ("judge", "judge SALSA: single", "scores.jsonl", _cut, "scores.jsonl, line 10"),
        ("align", "align SALSA", "manifest.json", _cut, "is not valid JSON"),
    ],
)
def test_what_is_damaged_is_named_and_the_rest_is_shown(
    tmp_path: Path, kind: str, name: str, file: str, damage: Callable[[Path], None], reason: str
) -> None:
    store = factory.everything(tmp_path)
    damage(factory.artifact(store, kind, name).path / file)
    text = write(tmp_path).read_text(encoding="utf-8")
    page = Page(text)
    assert page.unbalanced == []
    words = " ".join(page.text)
    problems = words[words.index("Not shown, or not finished", words.index("Lineage")) :]
    assert reason in problems
    assert factory.named(kind, name)[:16] in problems or kind == "judge"
    shown = {"study": 'id="study-', "report": 'id="report-', "landscape": 'id="landscape-'}
    assert all(mark in text for other, mark in shown.items() if other != kind)
    assert "damaged or failed</a>" in text
    inside = {link.removeprefix("#") for link in page.links if link.startswith("#")}
    assert inside <= set(page.ids)


def test_failures_and_what_is_not_finished_are_listed(tmp_path: Path) -> None:
    store = factory.everything(tmp_path)
    store.record_failure("align", "a" * 64, {"stage": "align SALSA again", "error": "out of memory\nmore"})
    store.record_attempt("sft", "b" * 64, {"name": "sft number nine"})
    (tmp_path / "sweeps" / "broken").mkdir()
    (tmp_path / "sweeps" / "broken" / "sweep.json").write_text("{}")
    words = " ".join(Page(write(tmp_path).read_text(encoding="utf-8")).text)
    assert "out of memory" in words
    assert "sft number nine" in words
    assert "is not the record of a sweep" in words


def test_a_copy_is_shown_when_its_artifact_is_gone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    factory.study(store)
    path = factory.artifact(store, "study", "study table_1").path
    (tmp_path / "studies").mkdir()
    path.rename(tmp_path / "studies" / path.name[:16])
    text = write(tmp_path).read_text(encoding="utf-8")
    assert f'id="study-{path.name[:16]}"' in text
    assert "SALSA beats PPO over all families" in text


def test_a_picture_that_could_run_something_is_not_placed_inline(tmp_path: Path) -> None:
    store = factory.everything(tmp_path)
    for bad in ("<script>alert(1)</script>", '<a href="x"></a>', '<path onload="alert(1)"/>', '<use href="http://x"/>'):
        path = factory.artifact(store, "study", "study table_1").path / "win_rates.svg"
        path.write_text(factory.SVG.replace("<defs>", f"{bad}<defs>"))
        text = write(tmp_path).read_text(encoding="utf-8")
        assert "The figure is not shown" in text
        assert bad not in text
        assert "SALSA beats PPO over all families" in text


def test_an_empty_folder_has_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(EmptyError, match=r"there are no results; .*run\.py"):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_stages_without_a_result_are_a_page_already(tmp_path: Path) -> None:
    factory.models(Store(tmp_path))
    text = write(tmp_path).read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)">', text) == ["lineage"]
    assert "align SALSA" not in text
    assert "SALSA" in text


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    factory.models(Store(tmp_path))
    (tmp_path / "format.json").write_text('{"format": 99}')
    with pytest.raises(StoreFormatError, match="newer version"):
        write(tmp_path)
