"""A study by its command: chosen coefficients, tables, figures, a sentence; nothing twice, and nothing again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.test_zoo import ROOT, SMALL

pytestmark = pytest.mark.slow

STUDY = (
    "study=out_of_distribution",
    "study.replicates=2",
    "study.selection_replicates=1",
    "study.selection_prompts=12",
    "study.coefficients=[.1,.4]",
    "logger=none",
)


def command(outputs: Path, *overrides: str, code: int = 0) -> str:
    many = [text for text in overrides if text == "-m"]
    given = {text.split("=")[0]: text for text in (*SMALL, *STUDY, *overrides) if text != "-m"}
    arguments = [*many, *given.values(), f"outputs.dir={outputs}"]
    done = subprocess.run([sys.executable, "run.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


def test_a_study_ends_in_tables_and_a_computed_sentence(tmp_path: Path) -> None:
    before = command(tmp_path, "plan=true")
    assert "coefficients are not chosen yet: the plan below takes 0.4 for every arm" in before
    printed = command(tmp_path)
    (folder,) = (tmp_path / "studies").iterdir()
    study = json.loads((folder / "study.json").read_text())
    sentence = study["verdicts"][study["headline"]]["sentence"]
    assert "SALSA" in sentence
    assert sentence in printed
    assert {each["arm"]: each["coefficient"] in (0.1, 0.4) for each in study["selection"]["chosen"]} == {
        "PPO": True,
        "SALSA": True,
        "ref SFT2": True,
        "start+ref soup": True,
    }
    names = {path.name for path in folder.iterdir()}
    assert {"study.json", "table.md", "table.csv", "table.tex", "page.html", "win_rates.png", "win_rates.pdf"} <= names
    assert "<script src" not in (folder / "page.html").read_text()
    again = command(tmp_path)
    assert "now: 0 computed" in again
    workers = command(tmp_path, "-m", "worker=0,1")
    assert workers.count("now: 0 computed") == 2
    attempts = [json.loads(path.read_text())["attempts"] for path in tmp_path.glob("store/*/*/manifest.json")]
    assert set(attempts) == {1}
    assert f"{len(attempts)} distinct stages, begun {len(attempts)} times in all" in again
    # An arm that cannot be trained costs its row, not the study.
    broken = "+study.arms.broken=['policy.guards.kl={limit:1e-9,action:stop}','policy.clip=.3']"
    failed = command(tmp_path, broken, code=1)
    (other,) = set((tmp_path / "studies").iterdir()) - {folder}
    found = json.loads((other / "study.json").read_text())
    assert [each["sentence"] for each in found["verdicts"]] == [each["sentence"] for each in study["verdicts"]]
    told = [each for each in found["warnings"] if "coefficient 0.1 of broken (llama2) could not be chosen" in each]
    assert "align broken llama2/1000 at 0.1 failed" in told[0]
    assert told[0].split(": ")[0] in failed
    assert "broken is left out" in " ".join(found["warnings"])
    command(tmp_path, broken, code=1)
    assert set((tmp_path / "studies").iterdir()) == {folder, other}, "the same failure makes the same study"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("policy.kl_coef=.3", "policy.kl_coef=.3: a study sets this itself; use study.coefficients"),
        ("reference@policy=sft", "reference@policy=sft: a study sets this itself; use study.arms"),
        ("~controls.other", "~controls.other: a study sets this itself; use study.arms"),
        ("study.suites=[singel]", "suite.names: no suite 'singel'"),
        ("study.suites=[validation]", "coefficients are chosen by the suite validation; report on others"),
        (
            "+study.arms.mine=['model=gemma']",
            "study.arms.mine=model=gemma: an arm sets policy.* (but for the coefficient)",
        ),
        ("+study.arms.mine=['policy.none=1']", "study.arms.mine=['policy.none=1']: Could not override 'policy.none'"),
        ("model=gemma", "model=gemma: a study sets this itself; use study.families"),
        ("-m study=out_of_distribution,none", "give all jobs a study, or none"),
        ("-m worker=0,1 plan=true", "plan and why show one study at a time: leave out -m"),
        ("judge=function", "studies need a judge that does: gold or reward_model"),
    ],
)
def test_what_a_study_cannot_take_is_said(tmp_path: Path, override: str, says: str) -> None:
    extra = ["judge.function={_target_: tests.rules.any}"] if override == "judge=function" else []
    assert says in command(tmp_path, *override.split(), *extra, code=1)
