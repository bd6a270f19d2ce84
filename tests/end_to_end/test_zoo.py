"""The real command in the embedded world, with settings so small that it only shows that everything is connected."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.dashboard.test_layout import check_keys

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "base.steps=20",
    "sft.steps=6",
    "sft.demonstrations=40",
    "preferences.pairs=48",
    "preferences.heldout=24",
    "reward.steps=6",
    "reward.normaliser_replies=24",
    "policy.steps=2",
    "policy.batch_prompts=16",
    "policy.trace_every=1",
    "suite.names=[single,two_turn]",
    "suite.prompts=12",
    "suite.anchor_prompts=12",
    "suite.tax_documents=8",
    "suite.samples=4",
]

pytestmark = pytest.mark.slow


def command(*arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "WANDB_MODE": "offline", "COLUMNS": "160"}
    done = subprocess.run(
        [sys.executable, "run.py", *arguments, *SMALL],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def experiments(outputs: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(outputs.glob("experiments/*/experiment.json"))]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    outputs = tmp_path_factory.mktemp("outputs")
    return outputs, command(f"outputs.dir={outputs}", "logger=wandb").stdout


def test_every_key_of_the_dashboard_is_logged_by_a_real_run(first: tuple[Path, str], tmp_path: Path) -> None:
    check_keys(first[0], tmp_path)


def test_one_command_ends_in_a_table_and_leaves_it_on_disk(first: tuple[Path, str]) -> None:
    outputs, printed = first
    (experiment,) = experiments(outputs)
    names = [row["name"] for row in experiment["rows"]]
    assert names == ["SFT1", "SFT2", "soup", "PPO", "SALSA", "ref SFT2", "start+ref soup"]
    assert all(name in printed for name in names)
    assert "One replicate is an illustration" in printed
    assert "wandb sync" in printed
    folder = next((outputs / "experiments").iterdir())
    expected = {"table.md", "table.csv", "experiment.json", "samples.md", "page.html"}
    expected |= {f"{name}.{suffix}" for name in ("curves", "scores", "calibration") for suffix in ("png", "svg")}
    assert expected <= {path.name for path in folder.iterdir()}
    assert len(experiment["samples"]) == 4
    with (folder / "table.csv").open() as file:
        assert {row["metric"] for row in csv.DictReader(file)} >= {
            "judge",
            "reward",
            "length",
            "unfinished",
            "win_rate_vs_PPO",
        }


def test_every_model_is_measured_on_everything(first: tuple[Path, str]) -> None:
    (experiment,) = experiments(first[0])
    for row in experiment["rows"]:
        assert set(row["suites"]) == {"single", "two_turn"}
        assert set(row["kl"]) == {"SFT1", "SFT2", "soup"}
        assert row["tax"]["perplexity"] > 1
        for suite in row["suites"].values():
            assert suite["judge"]["n"] == 12
            assert set(suite["fingerprints"]) == {"judge", "respond"}
    for name in ("PPO", "SALSA", "ref SFT2", "start+ref soup"):
        assert [point["step"] for point in experiment["curves"][name]] == [0, 1, 2]


def test_a_model_is_at_no_distance_from_itself(first: tuple[Path, str]) -> None:
    (experiment,) = experiments(first[0])
    rows = {row["name"]: row for row in experiment["rows"]}
    for name, anchor in (("SFT1", "SFT1"), ("SFT2", "SFT2"), ("soup", "soup")):
        assert rows[name]["kl"][anchor]["k1"]["value"] == pytest.approx(0, abs=1e-6)
    start = experiment["curves"]["SALSA"][0]["kl"]
    assert start["SFT1"]["k1"] == pytest.approx(0, abs=1e-3)
    assert start["soup"]["k3"] > 0


def test_a_landscape_adds_points_to_a_stored_experiment_and_a_finer_one_only_the_new_ones(
    first: tuple[Path, str],
) -> None:
    outputs, _ = first
    line = (f"outputs.dir={outputs}", "logger=wandb", "landscape=line", "landscape.beyond=0", "landscape.prompts=8")
    coarse = command(*line, "landscape.intervals=2", "landscape.documents=6").stdout
    assert "line, gold reward: " in coarse
    assert computed(coarse) == 3 + 4 + 1  # points of the line, one a policy, the landscape itself
    finer = command(*line, "landscape.intervals=4", "landscape.documents=6").stdout
    assert computed(finer) == 2 + 1
    assert computed(command(*line, "landscape.intervals=4", "landscape.documents=6").stdout) == 0
    drawn = [json.loads(path.read_text()) for path in outputs.glob("landscapes/*/landscape.json")]
    few, many = sorted(([(p["weights"][1], p["values"]) for p in each["line"]["points"]] for each in drawn), key=len)
    assert [alpha for alpha, _ in many] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert [values["judge"]["value"] for _, values in few] == [values["judge"]["value"] for _, values in many[::2]]
    assert len(experiments(outputs)) == 1


def computed(printed: str) -> int:
    found = re.search(r"(\d+) stages computed", printed)
    assert found, printed
    return int(found[1])


def test_the_second_run_finds_everything_and_imports_no_torch(first: tuple[Path, str]) -> None:
    code = (
        "import runpy, sys; sys.argv = ['run.py', *sys.argv[1:]]\n"
        "try:\n    runpy.run_path('run.py', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "assert not {'torch', 'transformers', 'lightning', 'wandb', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *SMALL, f"outputs.dir={first[0]}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stages come from the store" in done.stdout


def test_another_number_of_workers_gives_the_same_figures(first: tuple[Path, str], tmp_path: Path) -> None:
    command(f"outputs.dir={tmp_path}", "logger=none", "compute.workers=0")
    (one,), (two,) = experiments(first[0]), experiments(tmp_path)
    assert one["fingerprint"] == two["fingerprint"]
    for key in ("rows", "curves", "training", "samples", "reward_model"):
        assert one[key] == two[key], key


def test_a_sweep_shares_its_stages_and_ends_in_one_table(first: tuple[Path, str]) -> None:
    outputs = first[0]
    before = {kind: len(list((outputs / "store" / kind).iterdir())) for kind in ("base", "sft", "reward", "align")}
    printed = command("-m", f"outputs.dir={outputs}", "logger=none", "soup.alpha=0,.5", "policy.kl_coef=.4,.1").stdout
    after = {kind: len(list((outputs / "store" / kind).iterdir())) for kind in before}
    assert {kind: after[kind] - before[kind] for kind in ("base", "sft", "reward")} == {
        "base": 0,
        "sft": 0,
        "reward": 0,
    }
    # New: at .4 the two arms that alpha = 0 makes plain PPO are there already; "ref SFT2" too. At .1: PPO, SALSA at
    # .5, ref SFT2 and start+ref soup.
    assert after["align"] - before["align"] == 4
    assert "the sweep's tables and figures" in printed
    (sweep,) = (outputs / "sweeps").iterdir()
    with (sweep / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["soup.alpha"], row["policy.kl_coef"]) for row in rows} == {
        (alpha, kl) for alpha in ("0.0", "0.5") for kl in ("0.4", "0.1")
    }
    assert len(rows) == 4 * 3, "a row for each experiment and suite, and one for the mean over suites"
    assert {row["state"] for row in rows} == {"done"}
    files = {path.name for path in sweep.iterdir()}
    assert {"over_policy.kl_coef.svg", "over_soup.alpha.png", "table.parquet"} <= files


def test_a_failed_job_of_a_sweep_is_missing_in_its_table(first: tuple[Path, str]) -> None:
    outputs = first[0]
    earlier, sweeps = set(outputs.glob("logs/*")), set(outputs.glob("sweeps/*"))
    arguments = ["-m", f"outputs.dir={outputs}", "logger=none", "sft.optimiser.learning_rate=1e30,6e-3"]
    done = command(*arguments, check=False)
    assert done.returncode == 1
    at_once = r"✗ sft_[12] +failed +job 1 of 2 \(sft.optimiser.learning_rate=1e\+30\): "
    assert re.search(at_once, done.stdout)
    assert "Traceback" not in done.stdout + done.stderr
    assert "failed sft.optimiser.learning_rate=1e+30: sft_" in done.stdout, "and again at the end"
    (folder,) = set(outputs.glob("logs/*")) - earlier
    assert "Traceback" in (folder / "0" / "run.log").read_text(), "the job's log has it"
    (sweep,) = set(outputs.glob("sweeps/*")) - sweeps
    with (sweep / "table.csv").open() as file:
        states = {row["sft.optimiser.learning_rate"]: row["state"] for row in csv.DictReader(file)}
    assert states == {"1e+30": "failed", "0.006": "done"}
    # The failure stands: the same sweep, later, tells it again and trains nothing.
    assert command(*arguments, check=False).returncode == 1
    third = command(*arguments, check=False)
    assert "failed 2 times alike at the same step, not tried again" in third.stdout


def test_a_failing_stage_is_named_and_the_command_fails(tmp_path: Path) -> None:
    done = command(f"outputs.dir={tmp_path}", "logger=none", "sft.optimiser.learning_rate=1e30", check=False)
    assert done.returncode == 1
    assert re.search("failed: sft_[12].*: .*stages are blocked by it", done.stdout)
    assert "Traceback" not in done.stdout
