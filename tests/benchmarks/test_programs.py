"""Our halves of the comparisons at toy size, and the choices that the commands make."""

import ast
import json
import sys
from pathlib import Path

import pytest

from benchmarks import ppo, sft
from benchmarks.peers import environment, floor, salsa_ppo, salsa_sft, workload
from tests.benchmarks.test_workload import SIZES

UPDATES = 3


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Measure no rates for long, and leave the settings of this process as they are."""
    monkeypatch.setattr(floor, "SECONDS", 0.01)
    for program in (salsa_ppo, salsa_sft):
        monkeypatch.setattr(program, "prepare", lambda threads: None)


def task(folder, **changes):
    shape = {"batch": 4, "updates": UPDATES + 1, "epochs": 2, "minibatches": 2} | changes
    return workload.full_length(folder, **shape, sizes=SIZES)


def check(figures, units):
    assert figures == json.loads(json.dumps(figures))
    assert figures["units"] == units
    assert len(figures["seconds"]) == len(units)
    assert all(second > 0 for second in figures["seconds"])
    assert figures["peak_mib"] >= figures["loaded_mib"] > 10
    assert figures["operations"] > 0
    assert all(rate > 0 for rate in figures["rates"].values())


def test_our_ppo_gives_its_figures(tmp_path):
    figures = salsa_ppo.main(task(tmp_path), UPDATES)
    check(figures, [4] * (UPDATES - 1))
    assert figures["reply_tokens"] == 4 * SIZES["max_new"], "every reply runs to the limit"


def test_twice_the_passes_take_more_operations_but_not_twice_as_many(tmp_path):
    once, twice = (salsa_ppo.main(task(tmp_path / str(epochs), epochs=epochs), 2)["operations"] for epochs in (2, 4))
    assert once < twice < 2 * once, "rollout and scoring stay"


def test_our_fine_tuning_gives_its_figures_and_learns(tmp_path):
    workload.spread(tmp_path, steps=UPDATES, batch=6, longest=20, sizes=SIZES)
    settings = json.loads((tmp_path / "settings.json").read_text())
    (tmp_path / "settings.json").write_text(json.dumps(settings | {"learning_rate": 0.01}))
    figures = salsa_sft.main(tmp_path, UPDATES)
    lengths = [len(ids) for ids, _ in json.loads((tmp_path / "rows.json").read_text())]
    check(figures, [sum(lengths[6:12]), sum(lengths[12:18])])
    assert len(figures["losses"]) == UPDATES
    assert figures["losses"][-1] < figures["losses"][0]


@pytest.mark.slow
def test_our_ppo_runs_as_the_command_runs_it(tmp_path):
    figures = environment.call(Path(sys.executable), ppo.PROGRAMS / "salsa_ppo.py", task(tmp_path), UPDATES)
    check(figures, [4] * (UPDATES - 1))


@pytest.mark.parametrize("name", ["trl_ppo.py", "trl_sft.py", "trl_losses.py"])
def test_peers_programs_import_nothing_of_this_package(name):
    tree = ast.parse((ppo.PROGRAMS / name).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert "torch" in imported
    assert not {module.partition(".")[0] for module in imported} & {"salsa", "pipelines", "benchmarks"}


def test_shapes_are_epochs_times_minibatches():
    assert str(ppo.Shape.parse("4x1")) == "4x1"
    assert ppo.Shape.parse("2x4") == ppo.Shape(epochs=2, minibatches=4)
    with pytest.raises(ValueError, match="invalid literal"):
        ppo.Shape.parse("4")


def test_the_command_line_has_the_defaults_of_the_comparison():
    options = ppo.parse([])
    assert options.batch == [64, 256]
    assert options.shape == [ppo.Shape(4, 1)]
    assert not options.check
    assert sft.parse(["--layout", "padded"]).layout == ["padded"]


def test_the_peer_gets_its_best_settings():
    assert ppo.best_rollout({64: {"seconds": [2.0, 2.0]}, 256: {"seconds": [1.0, 2.5]}}) == 256
    tried = {"padded": {"seconds": [1.0], "units": [9]}, "packed": {"seconds": [1.0], "units": [5]}}
    assert sft.fastest(tried) == "padded"


def test_models_that_are_there_are_not_trained_again(tmp_path, monkeypatch):
    monkeypatch.setattr(ppo.subprocess, "run", lambda *_, **__: pytest.fail("trained again"))
    for kind in ("base", "sft", "reward"):
        (tmp_path / "store" / kind / "f").mkdir(parents=True)
    ppo.models(tmp_path)
