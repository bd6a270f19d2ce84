"""The page over an outputs folder: complete, traceable, harmless, and made without touching the store."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from salsa.report.compendium import elements
from salsa.report.compendium.folder import EmptyError, write
from salsa.store.artifact import Store
from salsa.store.format import StoreFormatError
from tests.report.compendium import factory
from tests.report.compendium.markup import Page

SCHEME = re.compile(r"\s*([a-z][a-z0-9+.-]*:|//)", re.IGNORECASE)
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
    headline = 'SALSA beats PPO over all families and suites: <span class="whole">53.4 % [52.1, 54.7]</span>'
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
    assert [link for link in page.links if SCHEME.match(link)] == []
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    told = [each for _, each in page.elements if each.get("http-equiv") == "Content-Security-Policy"]
    assert [each["content"] for each in told] == [policy]
    assert text.index("Content-Security-Policy") < text.index("<style")


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
    assert [link for link in page.links if SCHEME.match(link)] == []
    assert any(link.endswith("page.html") for link in page.links)
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
    store = Store(tmp_path)
    factory.study(store)
    path = factory.artifact(store, "study", "study table_1").path / "win_rates.svg"
    whole = path.read_text(encoding="utf-8")
    for bad in ("<script>alert(1)</script>", '<svg/onload="alert(1)"></svg>', '<g style="fill:u\\72l(http://x)"/>'):
        path.write_text(whole.replace("<defs>", f"{bad}<defs>"))
        text = write(tmp_path).read_text(encoding="utf-8")
        assert "The figure is not shown" in text
        assert bad not in text
        assert "alert(1)&quot;&gt;" not in Page(text).text
        assert not any(name.startswith("on") for _, attributes in Page(text).elements for name in attributes)
        assert "SALSA beats PPO over all families" in text


def test_a_picture_that_was_cut_is_named_as_damaged(tmp_path: Path) -> None:
    store = Store(tmp_path)
    factory.study(store)
    path = factory.artifact(store, "study", "study table_1").path / "win_rates.svg"
    path.write_text(path.read_text(encoding="utf-8")[:120])
    text = write(tmp_path).read_text(encoding="utf-8")
    assert "win_rates.svg is damaged, it is no whole SVG document" in text
    page = Page(text)
    assert page.unbalanced == []
    assert page.left_open == []


def test_a_failure_that_was_overcome_is_no_longer_in_the_box_on_top(tmp_path: Path) -> None:
    store = Store(tmp_path)
    factory.study(store)
    made = factory.artifact(store, "study", "study table_1").published
    notes = {"a": ("study table_1", made - 9), "b": ("study cost", made - 9), "c": ("study table_1", made + 99)}
    for letter, (stage, time) in notes.items():
        store.record_failure("study", letter * 64, {"stage": stage, "error": f"reason {letter}", "time": time})
    words = " ".join(" ".join(Page(write(tmp_path).read_text(encoding="utf-8")).text).split())
    box = words[words.index("2 things are damaged or failed") :][:160]
    dates = {letter: elements.day(time) for letter, (_, time) in notes.items()}
    assert f"study cost (failed, {dates['b']}); study table_1 (failed, {dates['c']})." in box
    problems = words[words.rindex("Not shown, or not finished") :]
    parts = ("Failed, and was made since", "study table_1", "reason a", dates["a"])
    places = [problems.index(part) for part in parts]
    assert places == sorted(places)
    assert "reason b" in problems
    assert dates["c"] in problems


def test_of_studies_that_are_described_alike_the_newest_is_shown_and_the_others_are_folded(tmp_path: Path) -> None:
    store = Store(tmp_path)
    says = {"older": "It helps a little", "newer": "It helps a lot", "another": "It helps with less"}
    for number, (of, sentence) in enumerate(says.items()):
        verdicts = [{"sentence": sentence, "decided": "first"}]
        fingerprint = factory.study(store, of, verdicts=verdicts, regime="V1" if number < 2 else "mild")
        _publish(store, fingerprint, 1e9 + number)
    text = write(tmp_path).read_text(encoding="utf-8")
    page = Page(text)
    assert page.unbalanced == []
    assert len(page.ids) == len(set(page.ids))
    top = text[: text.index("</header>")]
    order = [top.index(part) for part in ("It helps a lot", "earlier versions <small>1", "It helps a little")]
    assert order == sorted(order)
    assert top.index("It helps a little") < top.index("</details>")
    assert top.count("<details>") == 1, "the study of the other regime is no version of it"
    below = text[text.index('<section id="studies">') :]
    order = [below.index(part) for part in ("It helps a lot", "Earlier versions of:", "It helps a little")]
    assert order == sorted(order)


def _publish(store: Store, fingerprint: str, time: float) -> None:
    """Set when a study was published."""
    path = store.root / "store" / "study" / fingerprint / "manifest.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(told | {"started": time, "seconds": 0.0}), encoding="utf-8")


def test_a_second_verdict_is_large_and_arms_are_defined(tmp_path: Path) -> None:
    factory.study(Store(tmp_path), second=4)
    text = write(tmp_path).read_text(encoding="utf-8")
    second = "PPO beats start+ref soup for Gemma"
    assert text.count(second) == 2, "on top and in its section, large in both"
    assert re.search(rf'<span class="sentence">{re.escape(second)}', text)
    assert re.search(rf'<p class="verdict decided">.*{re.escape(second)}', text)
    assert "<dt>ref SFT2</dt><dd>KL reference: SFT2; start: SFT1</dd>" in text
    verdicts, warned = text.rindex('<li class="verdict'), text.index("<strong>Warning:</strong> The coefficient of PPO")
    assert verdicts < text.index("&quot;Decided&quot; means") < warned


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
