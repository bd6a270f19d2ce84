"""The layout: every key that a panel names is one that the project logs."""

import json
from pathlib import Path

from pipelines.judgments import COUNTS
from pipelines.stages.report import _metrics
from pipelines.tracking import track_sweep
from salsa.dashboard import layout
from salsa.dashboard.layout import LAYOUT, STEP
from salsa.dashboard.panels import Cloud, Family, Images, Lines, Table, every_panel, keys, specification
from salsa.report.sweep import folder as sweeps
from tests.dashboard import logged
from tests.pipelines.offline_runs import read_runs
from tests.report.sweep import factory

OFFLINE = {"name": "wandb", "mode": "offline", "project": "salsa", "entity": None}


def test_what_is_drawn_over_training_is_recorded_by_the_training_modules(tmp_path: Path) -> None:
    drawn = {key for panel in every_panel(LAYOUT) if isinstance(panel, Lines) for key in panel.keys}
    assert len(drawn) > 25
    assert drawn <= logged.by_training(tmp_path)


def test_what_is_shown_of_sweeps_studies_and_landscapes_is_what_they_log(tmp_path: Path) -> None:
    named = {key for panel in layout.SWEEPS.panels for key in keys(panel)}
    assert named <= of_sweep(tmp_path) | logged.by_studies() | logged.by_landscapes()


def of_sweep(folder: Path) -> set[str]:
    """Return what the run of a sweep over the keys that are swept most logs."""
    cells = factory.sweep({"soup.alpha": [0.0, 1.0], "policy.kl_coef": [0.1, 0.4]}, missing=[3])
    sweeps.write(cells, folder / "sweep", "two by two")
    track_sweep("5" * 64, "two by two", cells, folder / "sweep", OFFLINE, folder)
    return logged.by_runs(read_runs(folder))


def check_keys(outputs: Path, folder: Path) -> None:
    """Check that every key of every panel is logged by the experiment in `outputs`, whose runs are offline.

    What an ordinary experiment has none of (sweep, study, landscape, a judge that reads) comes from its code.
    """
    runs = read_runs(outputs)
    found = logged.by_runs(runs) | set(win_rates(outputs)) | logged.by_selection(folder / "select")
    elsewhere = of_sweep(folder / "swept") | logged.by_studies() | logged.by_landscapes()
    named = {key for panel in every_panel(LAYOUT) for key in keys(panel)} | set(LAYOUT.columns)
    assert named - found - elsewhere == set()
    families = [panel.prefix for panel in every_panel(LAYOUT) if isinstance(panel, Family)]
    assert [prefix for prefix in families if not any(key.startswith(prefix) for key in found)] == []
    assert {run.axes["*"] for run in runs} == {STEP.key}


def win_rates(outputs: Path) -> dict[str, float]:
    """Return what the report of the experiment would log had its judge read the replies."""
    (file,) = outputs.glob("experiments/*/experiment.json")
    experiment = json.loads(file.read_text())
    return _metrics(experiment | {"judging": dict.fromkeys((*COUNTS, "price"), 0)})


def test_every_axis_has_a_label_and_no_title_stands_twice_in_a_section() -> None:
    for section in LAYOUT.sections:
        titles = [panel.title for panel in section.panels]
        assert len(titles) == len(set(titles))
        for panel in section.panels:
            axes = [panel.over] if isinstance(panel, Lines | Family) else []
            axes += [panel.x, panel.y] if isinstance(panel, Cloud) else []
            assert all(axis.label for axis in axes)
            assert isinstance(panel, Cloud | Table | Images) or panel.unit


def test_the_specification_is_plain_data_and_names_the_kind_of_each_panel() -> None:
    told = specification(LAYOUT)
    told = json.loads(json.dumps(told))
    kinds = {panel["kind"] for section in told["sections"] for panel in section["panels"]}
    assert kinds == {"lines", "family", "bars", "cloud", "table", "images"}
    first = told["sections"][0]["panels"][0]
    assert first["keys"] == ["reward/score"]
    assert first["over"]["key"] == "trainer/global_step"
