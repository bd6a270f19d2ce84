"""The real command with a rule of the user's own, which the policy is to follow."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "base.steps=40",
    "sft.steps=20",
    "sft.demonstrations=40",
    "preferences.pairs=48",
    "preferences.heldout=24",
    "reward.steps=6",
    "reward.normaliser_replies=64",
    "policy.steps=8",
    "policy.batch_prompts=32",
    "policy.trace_every=8",
    "policy.warmup_steps=1",
    "policy.kl_coef=.01",
    "suite.names=[single]",
    "suite.prompts=12",
    "suite.anchor_prompts=12",
    "suite.tax_documents=8",
    "suite.samples=4",
    "judge.rounds=100",
    "compute.workers=1",
    "logger=none",
    "~controls.other",
    "~controls.soup_start",
]
RULE = "policy.rewards.rules.brief={_target_: rules_of_mine.brief, normalise: true}"

pytestmark = pytest.mark.slow


def command(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in a folder of the user's own, where the rules lie."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *arguments, *SMALL, f"outputs.dir={folder / 'outputs'}"],
        cwd=folder,
        env=environment | {"COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
    )


def curves(outputs: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the training curve of each arm by its name."""
    found = {}
    for path in outputs.glob("store/align/*/manifest.json"):
        name = json.loads(path.read_text())["name"]
        found[name] = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose store the tests share, so that the models below the policies are trained once."""
    return tmp_path_factory.mktemp("home")


def test_a_policy_follows_a_rule_and_another_arm_its_own_reward(home: Path) -> None:
    (home / "rules_of_mine.py").write_text(
        "def brief(prompts, completions, **columns):\n    return [-len(text.split()) for text in completions]\n"
    )
    given = ("policy.rewards.model=0", "opponent.rewards.rules.brief=null", "opponent.rewards.length=.1")
    done = command(home, RULE, *given, "policy.missing_end_score=null")
    assert done.returncode == 0, done.stdout + done.stderr
    lengths = {name: [line["reply/length"] for line in curve] for name, curve in curves(home / "outputs").items()}
    assert set(lengths) == {"align SALSA", "align PPO"}
    brief, other = lengths["align SALSA"], lengths["align PPO"]
    assert brief[0] == pytest.approx(other[0]), "both start from the same model, on the same prompts"
    assert brief[-1] < 0.6 * brief[0]
    assert other[-1] > 1.2 * other[0]
    (experiment,) = (json.loads(path.read_text()) for path in home.glob("outputs/experiments/*/experiment.json"))
    assert all(row["suites"]["single"]["reward"] is not None for row in experiment["rows"]), "measured all the same"


def test_a_training_whose_last_update_is_skipped_is_published(home: Path) -> None:
    (home / "broken_rules.py").write_text("def broken(completions):\n    return [float('nan')] * len(completions)\n")
    rule = "policy.rewards.rules.broken={_target_: broken_rules.broken}"
    given = ("policy.guards.non_finite=skip", "opponent.rewards.rules.broken=null")
    done = command(home, rule, *given)
    assert done.returncode == 0, done.stdout + done.stderr
    manifests = [json.loads(path.read_text()) for path in home.glob("outputs/store/align/*/manifest.json")]
    (trained,) = (manifest for manifest in manifests if manifest["metrics"]["reward/score"] is None)
    assert trained["name"] == "align SALSA"
    assert trained["metrics"]["guard/non_finite"] == 8
    validation = home / "outputs" / "store" / "align" / trained["fingerprint"] / "validation.json"
    assert json.loads(validation.read_text()) == {"best_step": None, "best_objective": None, "kept": False}


def test_a_rule_that_is_not_there_is_refused_before_any_work(tmp_path: Path) -> None:
    done = command(tmp_path, RULE)
    assert done.returncode == 1
    assert (
        "error policy.rewards.rules.brief._target_=rules_of_mine.brief: there is no module rules_of_mine" in done.stdout
    )
    assert str(tmp_path) in done.stdout
    assert "PYTHONPATH" in done.stdout
    assert not (tmp_path / "outputs" / "store").exists()
    (tmp_path / "rules_of_mine.py").write_text("def short(completions): ...\n")
    done = command(tmp_path, RULE)
    assert done.returncode == 1
    assert "policy.rewards.rules.brief._target_=rules_of_mine.brief: ImportError" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
