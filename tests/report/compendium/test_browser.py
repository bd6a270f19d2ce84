"""Opens the page in a real browser, if there is one: it fits narrow windows, follows the scheme, and loads nothing."""

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

from salsa.report.compendium.folder import write
from tests.report.compendium import factory

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--dump-dom"),
)
DARK, LIGHT = 0, 1
# The page stands in a frame, because no window of this browser is as narrow as a telephone.
MEASURE = """<script>addEventListener("load", () => {
  const inside = document.querySelector("iframe").contentDocument, root = inside.documentElement;
  const seen = [...inside.querySelectorAll("details")].map(each => each.open);
  inside.querySelectorAll("details").forEach(each => { each.open = true; });
  const found = {
    overflow: root.scrollWidth - root.clientWidth,
    background: getComputedStyle(inside.body).backgroundColor,
    ink: getComputedStyle(inside.body).color,
    folded: seen.filter(each => !each).length,
    first: inside.querySelector(".headlines li").getBoundingClientRect().bottom,
    lines: inside.querySelectorAll("svg.chart g path").length,
    heights: [...inside.querySelectorAll("svg.graph, figure svg")].map(each => each.getBoundingClientRect().height),
    loaded: inside.defaultView.performance.getEntriesByType("resource").length,
  };
  const out = document.createElement("pre"); out.id = "measured"; out.textContent = JSON.stringify(found);
  document.body.append(out);
});</script>"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    outputs = tmp_path_factory.mktemp("outputs")
    factory.everything(outputs)
    return write(outputs).read_text(encoding="utf-8")


def opened(text: str, folder: Path, scheme: int, width: int) -> dict[str, Any]:
    """Return what the browser measured on the page in a frame of this width."""
    frame = f'<iframe width="{width}" height="900" style="border:0" srcdoc="{escape(text)}"></iframe>'
    path = folder / "frame.html"
    path.write_text(f"<!doctype html><meta charset=utf-8>{MEASURE}{frame}", encoding="utf-8")
    own = ("--window-size=1400,1000", f"--user-data-dir={folder / 'profile'}")
    command = [str(BROWSER), *FLAGS, *own, f"--blink-settings=preferredColorScheme={scheme}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout)
    assert found, done.stdout[:500]
    measured: dict[str, Any] = json.loads(unescape(found[1]))
    return measured


@pytest.mark.parametrize(("scheme", "background"), [(LIGHT, "rgb(255, 255, 255)"), (DARK, "rgb(20, 24, 29)")])
def test_the_first_finding_is_seen_at_once_in_the_scheme_of_the_reader(
    text: str, tmp_path: Path, scheme: int, background: str
) -> None:
    found = opened(text, tmp_path, scheme, 1280)
    assert found["background"] == background
    assert found["ink"] != background
    assert found["first"] < 500
    assert found["lines"] >= 8
    assert found["folded"] > 5
    assert found["loaded"] == 0
    assert min(found["heights"]) > 40


def test_a_narrow_window_scrolls_tables_and_not_the_page(text: str, tmp_path: Path) -> None:
    assert opened(text, tmp_path, LIGHT, 380)["overflow"] <= 0
