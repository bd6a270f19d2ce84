"""Runs the real command in the embedded world under a launcher, with settings that only show that all is connected."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMALLEST = [
    "base.steps=8",
    "sft.steps=3",
    "sft.demonstrations=16",
    "preferences.pairs=24",
    "preferences.heldout=12",
    "reward.steps=3",
    "reward.normaliser_replies=8",
    "policy.steps=1",
    "policy.batch_prompts=8",
    "suite.names=[single]",
    "suite.prompts=8",
    "suite.anchor_prompts=8",
    "suite.tax_documents=4",
    "suite.samples=2",
    "~controls.other",
    "~controls.soup_start",
    "logger=none",
]
ENVIRONMENT = {**os.environ, "COLUMNS": "160"}


def multirun(launcher: str, outputs: Path, *arguments: str) -> list[str]:
    """Return the command line; of a setting that is given twice the last one holds."""
    start = [sys.executable, "run.py", "-m", f"hydra/launcher={launcher}", f"outputs.dir={outputs}"]
    return [*start, *SMALLEST, *arguments]


def run(launcher: str, outputs: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end."""
    return subprocess.run(
        multirun(launcher, outputs, *arguments),
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )


def logs(outputs: Path) -> Path:
    """Return the folder of the latest command's logs."""
    return max((outputs / "logs").iterdir(), key=lambda folder: folder.stat().st_mtime)


def said(done: "subprocess.CompletedProcess[str]", outputs: Path) -> str:
    """Return what the command and its jobs have printed; under submitit each job has a file for that."""
    files = sorted(logs(outputs).glob(".submitit/*/*_log.out"))
    return "\n".join([done.stdout, *(path.read_text() for path in files)])


def computed(text: str) -> int:
    """Return how many stages the jobs say they have computed, all together."""
    return sum(int(count) for count in re.findall(r"(\d+) stages computed", text))


def finished(text: str) -> Counter[str]:
    """Return how often each stage was computed, by its name."""
    return Counter(re.findall(r"✓ (\S.*?)\s{2,}\d", text))


def stored(outputs: Path) -> int:
    """Return how many artifacts are in the store."""
    return len(list(outputs.glob("store/*/*/manifest.json")))


def table(outputs: Path, text: str) -> str:
    """Return the sweep's table that a command has pointed at."""
    found = re.search(r"the sweep's tables and figures: (\S+)", text)
    assert found, text
    return (outputs / "sweeps" / Path(found[1]).name / "table.md").read_text()
