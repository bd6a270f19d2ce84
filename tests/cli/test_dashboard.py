"""`salsa dashboard`: what it shows without sending anything."""

import json
import subprocess
import sys

import pytest

from salsa.cli import main
from salsa.dashboard.layout import LAYOUT
from salsa.dashboard.panels import every_panel, keys
from tests.cli.test_main import ROOT


def test_a_dry_run_prints_the_tree_with_every_section_panel_and_unit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard", "--dry-run"]) == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert printed.startswith("salsa, runs grouped by Group, JobType, Name")
    assert all(section.title in printed for section in LAYOUT.sections)
    assert all(" ".join(panel.title.split()) in printed for panel in every_panel(LAYOUT))
    assert "Reply length reply/length [tokens] over trainer/global_step" in printed
    assert "curves/kl/SFT1/k1/<model> [nats a reply] over step" in printed


def test_json_is_the_specification_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["grouping"] == ["Group", "JobType", "Name"]
    names = [panel["title"] for section in told["sections"] for panel in section["panels"]]
    assert names == [panel.title for panel in every_panel(LAYOUT)]
    assert "reward/score" in {key for panel in every_panel(LAYOUT) for key in keys(panel)}


@pytest.mark.parametrize("form", ["--help", "--dry-run", "--json"])
def test_whatever_sends_nothing_imports_nothing_of_wandb(form: str) -> None:
    script = f"""
import sys
from salsa.cli import main
try:
    print("code", main(["dashboard", {form!r}]))
except SystemExit as ending:
    print("code", ending.code)
print("slow", sorted({{"torch", "wandb", "wandb_workspaces", "pydantic", "hydra"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert "code 0" in done.stdout
    assert "slow []" in done.stdout
    assert done.stderr == ""
