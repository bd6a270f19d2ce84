import re
from pathlib import Path

from salsa.report.compendium import graph
from salsa.store.artifact import Store
from salsa.store.lineage import Lineage
from tests.report.compendium import factory


def test_kinds_stand_from_left_to_right_in_the_order_in_which_they_are_made(tmp_path: Path) -> None:
    store = Store(tmp_path)
    root = factory.study(store)
    lineage = Lineage(store.artifacts())
    text = graph.drawn(lineage, lineage.needed([root]), "a study")
    places = {kind: float(x) for x, kind in re.findall(r'<text class="kind" x="([\d.]+)"[^>]*>(\w+)</text>', text)}
    order = ["base", "sft", "soup", "reward", "align", "respond", "judge", "study"]
    assert [places[kind] for kind in order] == sorted(places[kind] for kind in order)
    assert places["soup"] == places["preferences"]
    assert "2 × · 3.0 s" in text
    edges = len(re.findall('class="edge"', text))
    assert edges == len({("base", "sft"), ("sft", "soup"), ("sft", "preferences"), ("preferences", "reward")}) + len(
        {("sft", "reward"), ("sft", "align"), ("soup", "align"), ("reward", "align"), ("sft", "respond")}
        | {("soup", "respond"), ("align", "respond"), ("respond", "judge"), ("judge", "study")}
    )


def test_nothing_has_no_drawing(tmp_path: Path) -> None:
    assert graph.drawn(Lineage([]), set(), "nothing") == ""
