"""MT-Bench and Arena-Hard from training to table, judged through the real client by a scripted server, and killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from salsa.evaluation.battles import half_votes, matches
from salsa.judging.verdict import Verdict, lines
from tests.data.files import real_data, write_lines
from tests.end_to_end.test_files import ROOT, SMALL, pairs, result
from tests.judging.panel import calls, repeated, running

pytestmark = pytest.mark.slow

JUDGED = ("judge=openai", "judge.model=panel", "judge.key_variable=null", "judge.price_in=2", "judge.price_out=8")
ARMS = ("~controls.other", "~controls.soup_start", "logger=none")
CONCURRENCY = 8


def arguments(folder: Path, url: str, *more: str) -> list[str]:
    """Overrides of an experiment on generated pairs, with the files of two benchmarks."""
    data = write_lines(folder / "pairs.jsonl", pairs())
    settings = ["data=files", f"data.preferences=[{data}]", "suite=paper", *SMALL, *JUDGED, *ARMS, "compute.workers=0"]
    return [*settings, f"judge.url={url}", *more]


def benchmarks(folder: Path) -> list[str]:
    """Overrides that name two small benchmarks in the forms of the real ones."""
    categories = ("writing", "math", "coding")
    rows = [
        {
            "question_id": 81 + number,
            "category": categories[number % 3],
            "turns": [f"Write {number} in words.", f"Now without it, {number}."],
        }
        for number in range(9)
    ]
    right = [
        {"question_id": row["question_id"], "model_id": "gpt-4", "choices": [{"turns": ["right", "also right"]}]}
        for row in rows
        if row["category"] != "writing"
    ]
    # Some of the pairs ask these.
    hard = [
        {"uid": f"u{number}", "category": "arena", "cluster": f"c{number // 2}", "prompt": f"What is 0 plus {number}?"}
        for number in range(8)
    ]
    strong = [
        {"uid": row["uid"], "model": "gpt-4-0314", "messages": [{"role": "assistant", "content": {"answer": "A b c."}}]}
        for row in hard
    ]
    named = {"questions": (rows, "mt"), "references": (right, "right")}
    overrides = [
        f"suite.benchmarks.mt_bench.{key}={write_lines(folder / f'{name}.jsonl', content)}"
        for key, (content, name) in named.items()
    ]
    overrides.append(f"suite.benchmarks.arena_hard.questions={write_lines(folder / 'hard.jsonl', hard)}")
    baseline = write_lines(folder / "strong.jsonl", strong)
    overrides.append(f"suite.benchmarks.arena_hard.baselines={{all: {baseline}}}")
    return [*overrides, "suite.names=[mt_bench,arena_hard]", "base.context=160"]


def command(overrides: list[str], outputs: Path) -> list[str]:
    return [sys.executable, "run.py", *overrides, f"outputs.dir={outputs}"]


def run(overrides: list[str], outputs: Path, code: int = 0) -> str:
    done = subprocess.run(command(overrides, outputs), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return " ".join(done.stdout.split())


def figures(outputs: Path) -> dict[str, Any]:
    """Return what the experiment found, without what differs between folders or by the order of a sum."""
    (path,) = outputs.glob("experiments/*/experiment.json")
    found = json.loads(path.read_text(), parse_float=lambda text: round(float(text), 9))
    return {key: value for key, value in found.items() if key != "settings"}


def paid(outputs: Path) -> list[Verdict]:
    """Return the verdicts that a call was made for; models with the same reply share one."""
    return [each for each in lines(outputs / "verdicts" / "panel.jsonl") if each.attempt]


def calls_answered(log: Path) -> list[dict[str, Any]]:
    return [call for call in calls(log) if call["code"] == 200]


def test_two_benchmarks_from_training_to_table(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    with running(log, "--unparsable", ".05", "--limited", ".02", "--failing", ".02") as url:
        overrides = arguments(tmp_path, url, *benchmarks(tmp_path), "compute.workers=2")
        before = run([*overrides, "plan=true"], tmp_path / "outputs")
        single, three_pairs, baseline = 3 * 18, 3 * 2 * (18 + 8), 2 * 2 * 8
        expected = single + three_pairs + baseline
        assert f"judge panel: at most {expected} calls, about" in before
        printed = run(overrides, tmp_path / "outputs")
        assert f"judge panel: at most {expected} calls, about" in printed
        asked = len(calls(log))
        assert "come from the store" in run(overrides, tmp_path / "outputs")
        assert len(calls(log)) == asked
    answered = paid(tmp_path / "outputs")
    assert len({each.content for each in answered}) == len(answered) == len(calls_answered(log))
    folder, found = result(tmp_path / "outputs")
    seen = found["left_out"]["arena_hard"]["contaminated"]
    assert 0 < seen < 8
    assert any(text.startswith(f"arena_hard: {seen} of 8 questions") for text in found["warnings"])
    assert f"arena_hard: {seen} of 8 questions" in printed
    judging = found["judging"]
    assert (judging["requests"], judging["failed"], judging["calls"]) == (expected, 0, asked)
    assert judging["judged"] + judging["unparsed"] == expected
    assert 0 < judging["unparsed"] < expected / 5
    assert judging["price"] == pytest.approx((2 * judging["tokens_in"] + 8 * judging["tokens_out"]) / 1e6)
    assert (
        f"{expected} asked, {judging['judged']} judged, {judging['unparsed']} unparsed, 0 failed; {asked} calls"
        in printed
    )
    whole = json.loads((folder / "winrate.json").read_text())
    outside = next(section for section in whole["sections"] if section.get("baseline") == "gpt-4-0314")
    assert outside["judge_bias"]["longer_wins"] is not None, "the baseline's replies are at hand"
    salsa = next(row for row in found["rows"] if row["role"] == "policy")
    verdicts = [each for each in lines(folder / "verdicts.jsonl") if each.suite == "mt_bench"]
    met = [each for each in matches(verdicts) if {each.first, each.second} == {"SALSA", "PPO"}]
    by_question: dict[str, list[float]] = {}
    for match in met:
        for battle in half_votes(match):
            by_question.setdefault(battle.question, []).append(battle.outcome)
    means = [sum(outcomes) / len(outcomes) for outcomes in by_question.values()]
    assert salsa["suites"]["mt_bench"]["win_rate"]["PPO"]["value"] == pytest.approx(sum(means) / len(means))
    scores: dict[str, list[float]] = {}
    for each in verdicts:
        if each.score is not None and each.model_a == "SALSA":
            scores.setdefault(each.question, []).append(each.score)
    scored = [sum(turns) / len(turns) for turns in scores.values()]
    assert len(scored) > 5
    assert salsa["suites"]["mt_bench"]["judge"]["value"] == pytest.approx(sum(scored) / len(scored))
    for baseline in ("PPO", "gpt-4-0314"):
        told = {head["suite"]: shares(head["rows"], baseline) for head in judging["suites"]}
        again = winrate(folder / "verdicts.jsonl", baseline)
        for suite, own in told.items():
            # The file also says how the model from outside did against PPO.
            assert {name: share for name, share in again[suite].items() if name != "gpt-4-0314"} == pytest.approx(own)
        assert told["arena_hard"].keys() == ({"SALSA", "SFT1"} if baseline == "PPO" else {"SALSA", "PPO"})


def shares(rows: dict[str, Any], baseline: str) -> dict[str, float]:
    """Return the share that each row won from a model, as the report says it."""
    own = {name: row["against"].get(baseline) for name, row in rows.items()}
    return {name: share["value"] for name, share in own.items() if share is not None}


def winrate(path: Path, baseline: str) -> dict[str, dict[str, float]]:
    """Return by suite the share that each model won from another, as `salsa winrate` says it of the report's file."""
    command_ = [sys.executable, "-m", "salsa.cli", "winrate", "--format", "verdicts", "--baseline", baseline, "--json"]
    done = subprocess.run([*command_, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, dict[str, float]] = {}
    for section in json.loads(done.stdout)["sections"]:
        own = found.setdefault(section["suite"], {})
        for row in section["models"] if section.get("baseline") == baseline else ():
            if section["kind"] == "arena" and row["score"] is not None:
                own[row["model"]] = row["score"] / 100
            if section["kind"] == "pair" and row[section["rule"]]:
                own[row["model"]] = row[section["rule"]]["value"]
    return found


def test_killed_while_judging_nothing_is_lost_and_little_is_asked_twice(tmp_path: Path) -> None:
    files = benchmarks(tmp_path)
    with running(tmp_path / "whole.jsonl") as url:
        overrides = arguments(tmp_path, url, *files)
        printed = run([*overrides, "judge.max_calls=0"], tmp_path / "whole", code=1)
        assert "the limit of 0 calls is reached; 0 of" in printed
        shutil.copytree(tmp_path / "whole", tmp_path / "killed")
        run(overrides, tmp_path / "whole")
        whole = figures(tmp_path / "whole")
        # SFT1 is now compared with PPO, where before PPO was with SFT1.
        run([*overrides, "judge.rows=[ingredient,opponent,policy]"], tmp_path / "whole")
        assert repeated(tmp_path / "whole.jsonl") == 0
    log = tmp_path / "calls.jsonl"
    with running(log, "--seconds", ".05") as url:
        overrides = arguments(tmp_path, url, *files)
        kills = 0
        for most in (60,):
            process = subprocess.Popen(
                command(overrides, tmp_path / "killed"), cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True
            )
            while len(calls(log)) < most and process.poll() is None:
                time.sleep(0.01)
            kills += process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert kills == 1
        run(overrides, tmp_path / "killed")
    assert len(calls_answered(log)) <= len(paid(tmp_path / "killed")) + kills * CONCURRENCY
    assert figures(tmp_path / "killed") == whole


def test_the_real_questions_and_prompts_of_mt_bench(tmp_path: Path) -> None:
    folder = real_data("mt_bench/question.jsonl").parent
    named = [
        f"suite.benchmarks.mt_bench.questions={folder}/question.jsonl",
        f"suite.benchmarks.mt_bench.references={folder}/reference_answer_gpt-4.jsonl",
        f"suite.benchmarks.mt_bench.judge_prompts={folder}/judge_prompts.jsonl",
        "suite.names=[mt_bench]",
        "suite.benchmarks.mt_bench.prompts=24",
        "base.context=1024",
        "base.vocabulary=1000",
    ]
    log = tmp_path / "calls.jsonl"
    with running(log) as url:
        run(arguments(tmp_path, url, *named), tmp_path / "outputs")
    _, found = result(tmp_path / "outputs")
    left_out = found["left_out"].get("mt_bench", {"too_long": 0})["too_long"]
    assert found["judging"]["requests"] == 2 * (24 - left_out) * (3 + 3 * 2)
    assert left_out < 4
    forms = {call["form"] for call in calls(log)}
    assert forms == {"letter", "rating"}
