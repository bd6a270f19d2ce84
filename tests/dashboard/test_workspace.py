"""The workspace that W&B is sent, as a stand-in for its server on this machine receives it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from salsa.dashboard.layout import LAYOUT
from salsa.dashboard.panels import Bars, Cloud, Family, Images, Lines, Table
from salsa.dashboard.workspace import workspace
from tests.dashboard.server import Server, serving

ROOT = Path(__file__).parents[2]
KEY = "a" * 40


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def dashboard(folder: Path, *words: str, address: str, key: str | None = KEY) -> "subprocess.CompletedProcess[str]":
    """Run `salsa dashboard` in a process of its own, with no login but the key."""
    names = ("WANDB_API_KEY", "WANDB_MODE", "WANDB_ENTITY", "WANDB_PROJECT", "NETRC")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment |= {"HOME": str(folder), "WANDB_BASE_URL": address, "WANDB_HTTP_TIMEOUT": "2"}
    environment |= {"WANDB_API_KEY": key} if key else {}
    command = [sys.executable, "-m", "salsa.cli", "dashboard", *words]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False, input=""
    )


@pytest.fixture(scope="module")
def sent(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = dashboard(tmp_path_factory.mktemp("home"), address=server.address)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"workspace: {server.address}/anns-team/salsa\?nw=\w+\n", done.stdout)
    return server.saved[-1]


def panels(sent: dict[str, Any]) -> list[dict[str, Any]]:
    sections = json.loads(sent["spec"])["section"]["panelBankConfig"]["sections"]
    return [panel for section in sections for panel in section["panels"]]


def test_one_view_is_saved_in_the_project_of_the_default_entity(sent: dict[str, Any], server: Server) -> None:
    about = {name: sent[name] for name in ("entityName", "projectName", "displayName", "type")}
    assert about == {"entityName": "anns-team", "projectName": "salsa", "displayName": "salsa", "type": "project-view"}
    assert "id" not in sent, "a new one: nothing that somebody has made is overwritten"
    assert len(server.saved) == 1


def test_sections_and_panels_are_those_of_the_layout_in_its_order(sent: dict[str, Any]) -> None:
    sections = json.loads(sent["spec"])["section"]["panelBankConfig"]["sections"]
    assert [(each["name"], each["isOpen"]) for each in sections] == [(own.title, own.shown) for own in LAYOUT.sections]
    kinds = {
        Lines: "Run History Line Plot",
        Family: "Run History Line Plot",
        Bars: "Bar Chart",
        Cloud: "Scatter Plot",
        Table: "Weave",
        Images: "Media Browser",
    }
    expected = [[kinds[type(panel)] for panel in section.panels] for section in LAYOUT.sections]
    assert [[panel["viewType"] for panel in section["panels"]] for section in sections] == expected


def test_each_panel_has_the_keys_and_the_axes_of_its_own(sent: dict[str, Any]) -> None:
    own = [panel for section in LAYOUT.sections for panel in section.panels]
    for panel, found in zip(own, panels(sent), strict=True):
        config = found["config"]
        if isinstance(panel, Table):
            assert f'"{panel.key}"' in json.dumps(config)
            continue
        assert config["chartTitle"].startswith(panel.title)
        if isinstance(panel, Lines):
            axes = config["xAxis"], config["xAxisTitle"], config["yAxisTitle"]
            assert axes == (panel.over.key, panel.over.label, panel.unit)
            assert config["metrics"] == list(panel.keys)
        elif isinstance(panel, Family):
            assert config["useMetricRegex"]
            assert re.match(config["metricRegex"], f"{panel.prefix}start+ref soup")
            assert not re.match(config["metricRegex"], f"x{panel.prefix}PPO")
        elif isinstance(panel, Bars):
            assert (config["metrics"], config["xAxisTitle"]) == (list(panel.keys), panel.unit)
        elif isinstance(panel, Cloud):
            assert (config["xAxis"], config["yAxis"]) == (f"summary:{panel.x.key}", f"summary:{panel.y.key}")
        else:
            assert config["mediaKeys"] == list(panel.keys)


def test_runs_are_grouped_by_sweep_or_study_then_job_type_then_name(sent: dict[str, Any]) -> None:
    (runs,) = json.loads(sent["spec"])["section"]["runSets"]
    assert [(key["section"], key["name"]) for key in runs["grouping"]] == [
        ("run", "group"),
        ("run", "jobType"),
        ("run", "displayName"),
    ]
    pinned = [f"summary:{key}" for key in LAYOUT.columns]
    assert runs["runFeed"]["columnOrder"] == ["run:displayName", *pinned]


def test_it_is_built_without_asking_anybody() -> None:
    built = workspace(LAYOUT, "ann", "other")
    assert (built.entity, built.project, len(built.sections)) == ("ann", "other", len(LAYOUT.sections))


def test_project_and_entity_are_the_callers(tmp_path: Path) -> None:
    with serving() as own:
        done = dashboard(tmp_path, "--project", "mine", "--entity", "bob", address=own.address)
    assert done.returncode == 0, done.stderr
    assert [(each["entityName"], each["projectName"]) for each in own.saved] == [("bob", "mine")]


def test_a_refusal_is_passed_on_with_what_to_do(tmp_path: Path) -> None:
    with serving() as own:
        own.refusal = "permission denied"
        done = dashboard(tmp_path, address=own.address)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "error W&B did not save the workspace of project salsa: " in done.stderr
    assert "permission denied; the project must exist" in done.stderr


def test_without_a_login_it_says_so_in_one_sentence(tmp_path: Path, server: Server) -> None:
    before = len(server.asked)
    done = dashboard(tmp_path, address=server.address, key=None)
    assert (done.returncode, done.stdout) == (1, "")
    says = "error not logged in to W&B; run `wandb login` or set WANDB_API_KEY; --dry-run shows the layout without it\n"
    assert done.stderr == says
    assert len(server.asked) == before


def test_without_a_network_it_says_so_in_one_sentence(tmp_path: Path) -> None:
    done = dashboard(tmp_path, address="http://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error W&B cannot be reached, or does not take the key: ")
    assert done.stderr.endswith("--dry-run shows the layout without either\n")
    assert done.stderr.count("\n") == 1
    assert KEY not in done.stderr


def test_without_the_package_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from salsa.cli import main

    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    assert main(["dashboard"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error wandb-workspaces is missing")
    assert "pip install 'salsa[dashboard]'" in told
    assert main(["dashboard", "--dry-run"]) == 0
