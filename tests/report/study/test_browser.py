"""Opens the page in a real browser, if there is one: it is drawn, fits the window, and follows its colour scheme."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from salsa.report.study import page
from salsa.report.study.schema import printable
from tests.report.study.odd import EVERY

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--dump-dom"),
)
DARK, LIGHT = 0, 1
MEASURE = """<script>addEventListener("load", () => {
  const style = getComputedStyle(document.body), sizes = [...document.querySelectorAll("figure svg")];
  const found = {
    overflow: document.documentElement.scrollWidth - innerWidth,
    background: style.backgroundColor,
    headline: parseFloat(getComputedStyle(document.querySelector(".headline") || document.body).fontSize),
    body: parseFloat(style.fontSize),
    top: (document.querySelector(".headline") || document.body).getBoundingClientRect().bottom,
    heights: sizes.map(each => each.getBoundingClientRect().height),
    loaded: performance.getEntriesByType("resource").length,
  };
  const out = document.createElement("pre"); out.id = "measured"; out.textContent = JSON.stringify(found);
  document.body.append(out);
});</script>"""

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine"),
    pytest.mark.filterwarnings("ignore:Glyph .* missing from font"),
]


def opened(name: str, folder: Path, scheme: int, width: int) -> dict[str, Any]:
    """Return what the browser measured on the page of a study."""
    text = page.page(printable(EVERY[name]()))
    path = folder / "page.html"
    # Before the policy of the page, which lets nothing run.
    path.write_text(text.replace("<head>", f"<head>{MEASURE}", 1), encoding="utf-8")
    own = (f"--window-size={width},900", f"--user-data-dir={folder / 'profile'}")
    command = [str(BROWSER), *FLAGS, *own, f"--blink-settings=preferredColorScheme={scheme}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout)
    assert found, done.stdout[:500]
    measured: dict[str, Any] = json.loads(unescape(found[1]))
    return measured


@pytest.mark.parametrize(("scheme", "background"), [(LIGHT, "rgb(255, 255, 255)"), (DARK, "rgb(20, 24, 29)")])
def test_the_headline_is_seen_at_once_in_the_scheme_of_the_reader(tmp_path: Path, scheme: int, background: str) -> None:
    found = opened("table_1", tmp_path, scheme, 1200)
    assert found["background"] == background
    assert found["headline"] > 1.5 * found["body"]
    assert found["top"] < 300
    assert len(found["heights"]) == 2
    assert min(found["heights"]) > 200
    assert found["loaded"] == 0


@pytest.mark.parametrize("name", ["table_1", "names", "extreme", "empty"])
def test_a_narrow_window_scrolls_tables_and_not_the_page(tmp_path: Path, name: str) -> None:
    assert opened(name, tmp_path, LIGHT, 500)["overflow"] <= 0
