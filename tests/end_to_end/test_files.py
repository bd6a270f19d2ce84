"""The experiment on files: a generated one in Anthropic's HH format, the real one, and each way in which files fail."""

import gzip
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.experiment import build
from pipelines.plan import Plan
from pipelines.runner import work
from pipelines.work import Execution
from salsa.data.forms import question_key
from salsa.data.records import to_conversation
from salsa.data.rows import DataError
from salsa.store.artifact import Store
from tests.data.files import hh_row, messages, read_lines, real_data, write_lines, write_parquet
from tests.pipelines.compose import config, experiment

ROOT = Path(__file__).resolve().parents[2]
FILES = ("data=files", "judge=reward_model", "suite=files")
SMALL = (
    "base.batch=8",
    "base.vocabulary=400",
    "sft.batch=4",
    "reward.batch=4",
    "preferences.pairs=40",
    "preferences.heldout=16",
    "reward.normaliser_replies=8",
    "policy.steps=2",
    "policy.batch_prompts=8",
    "policy.trace_every=1",
    "suite.prompts=8",
    "suite.anchor_prompts=8",
    "suite.tax_documents=4",
    "suite.samples=4",
    "generation.max_new_tokens=8",
    *(f"{stage}.steps=4" for stage in ("base", "sft", "reward")),
)
TWO_TURNS = [{"question_id": number, "turns": [f"Write {number}.", "Now without | or *."]} for number in range(5)]


def pairs(count: int = 150) -> list[Any]:
    """Rows with the lengths and the dirt of the real file: several turns, other scripts, long ones, malformed ones."""
    rows: list[Any] = []
    for number, (a, b) in enumerate(itertools.islice(itertools.product(range(40), range(40)), count)):
        question = f"What is {a} plus {b}?"
        if number % 3 == 0:
            question += f"\n\nAssistant: Which number system? Décimal, 十進 or\tother?\n\nHuman: Decimal, as in {a}."
        if number % 25 == 1:
            question += " And then?" * 60
        rows.append(hh_row(question, f"I think that it is {a + b} 🦉.\n\nDo you want more?", "No idea."))
    rows[7] = {"chosen": rows[7]["chosen"], "rejected": rows[7]["chosen"]}
    rows[11] = b'{"chosen": "cut off'
    return rows


def command(*arguments: str, code: int = 0) -> str:
    """Run the real command in one process; return what it prints."""
    done = subprocess.run(
        [sys.executable, "run.py", *FILES, "logger=none", "compute.workers=0", *SMALL, *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


def one(text: str) -> str:
    """Return printed text as one line, wherever it was wrapped."""
    return " ".join(text.split())


def result(outputs: Path) -> tuple[Path, dict[str, Any]]:
    """Return the folder of the one experiment in the outputs, and its figures."""
    (path,) = outputs.glob("experiments/*/experiment.json")
    return path.parent, json.loads(path.read_text())


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[str]]:
    folder = tmp_path_factory.mktemp("files")
    path = write_lines(folder / "pairs.jsonl.gz", pairs(), compress=True)
    questions = write_lines(folder / "question.jsonl", TWO_TURNS)
    arguments = [f"data.preferences=[{path}]", f"data.prompts={{mt_bench: {questions}}}", "base.context=160"]
    arguments += ["suite.names=[heldout,mt_bench]", "base.row_tokens=32", f"outputs.dir={folder / 'outputs'}"]
    return folder / "outputs", command(*arguments), arguments


@pytest.mark.slow
def test_pairs_alone_become_a_table(generated: tuple[Path, str, list[str]]) -> None:
    outputs, printed, arguments = generated
    text = one(printed)
    assert "155 rows, 2 malformed and left out" in text
    assert "1 x chosen equals rejected, first pairs.jsonl.gz:8" in text
    assert "1 x not JSON, first pairs.jsonl.gz:12" in text
    assert "are longer than the context of 160 tokens" in text
    assert "Second reward model's score of each model on each suite" in text
    assert "Judge (second reward model, trained on other pairs): pairwise accuracy" in text
    assert "recall" not in text.lower()
    assert "missing" not in text
    folder, found = result(outputs)
    assert found["suites"] == ["heldout", "mt_bench"]
    # Models as small as these never end a reply.
    assert all("normalised on unfinished replies" in warning for warning in found["warnings"])
    assert found["judge_model"]["fingerprint"] != found["reward_model"]["fingerprint"]
    for row in found["rows"]:
        assert row["suites"]["mt_bench"]["judge"]["n"] == 5
        assert row["tax"]["recall"] is None
        assert row["tax"]["perplexity"] > 1
    samples = (folder / "samples.md").read_text()
    assert "> turn 1: Write " in samples
    assert "turn 2: Now without \\| or \\*." in samples
    assert "all 59 stages come from the store" in command(*arguments)


@pytest.mark.slow
def test_no_model_is_judged_by_what_it_was_trained_on(generated: tuple[Path, str, list[str]]) -> None:
    (data,) = (generated[0] / "store" / "data").iterdir()
    asked = {
        name: {question_key(to_conversation(record)) for record in read_lines(data / f"pairs_{name}.jsonl")}
        for name in ("train", "judge", "heldout")
    }
    assert all(asked.values())
    assert not asked["train"] & asked["judge"]
    assert not asked["heldout"] & (asked["train"] | asked["judge"])
    learned = {question_key(to_conversation(record)) for record in read_lines(data / "demonstrations.jsonl")}
    assert learned == asked["train"]


@pytest.mark.slow
def test_a_failure_ends_the_command_in_words_and_leaves_its_traceback_in_the_log(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "pairs.jsonl", [b"{", *pairs(12)])
    printed = command(f"data.preferences=[{path}]", f"outputs.dir={tmp_path / 'outputs'}", code=1)
    assert f"data.preferences[0]: {path}: 3 of 13 rows are malformed (23.1%; at most 5.0% are accepted)" in printed
    assert f"2 x not JSON: {path}:1; {path}:13" in printed
    assert "44 stages" in printed
    (log,) = tmp_path.glob("outputs/logs/*/run.log")
    assert "Traceback" in log.read_text()


@pytest.mark.slow
def test_the_real_file_flows_through_every_stage(tmp_path: Path) -> None:
    preferences, questions = real_data("hh_rlhf/helpful-base.test.jsonl.gz"), real_data("mt_bench/question.jsonl")
    printed = command(
        f"data.preferences=[{preferences}]",
        f"data.prompts={{mt_bench: {questions}}}",
        "suite.names=[heldout,mt_bench]",
        f"outputs.dir={tmp_path}",
    )
    text = one(printed)
    assert "2,434 rows, 21 malformed and left out (15 x user and assistant do not take turns" in text
    assert "4 x an empty turn, first helpful-base.test.jsonl.gz:121" in text
    assert "2 x chosen equals rejected, first helpful-base.test.jsonl.gz:722" in text
    assert "pairs are longer than the context of 512 tokens" in text
    folder, found = result(tmp_path)
    assert [row["name"] for row in found["rows"]][:5] == ["SFT1", "SFT2", "soup", "PPO", "SALSA"]
    assert all(row["suites"]["mt_bench"]["judge"]["value"] is not None for row in found["rows"])
    assert all(len(line) < 8000 for line in (folder / "samples.md").read_text().splitlines())


def data_stage(outputs: Path, *overrides: str) -> dict[str, Any]:
    """Run the stage `data` of an experiment alone, without torch; return its last event."""
    parsed = config(*FILES, *overrides, "logger=none", f"outputs.dir={outputs}")
    plan = Plan.from_json([stage for stage in build(parsed, {}).plan.to_json() if stage["kind"] == "data"])
    events: list[dict[str, Any]] = []
    work(plan, Store(outputs), Execution.from_config(parsed, "group"), events.append)
    return events[-1]


def refused(folder: Path, *overrides: str) -> str:
    """Return what is said of data that planning refuses at once, or the stage `data` after reading it."""
    try:
        event = data_stage(folder / "outputs", *overrides)
    except DataError as error:
        return str(error)
    assert event["event"] == "failed"
    return str(event["error"])


def test_what_was_read_and_left_out_is_told(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "pairs.jsonl", pairs())
    demonstrations = write_parquet(
        tmp_path / "d.parquet", [{"messages": messages(f"Name {n}?", "Yes.")} for n in range(9)]
    )
    corpus = write_lines(tmp_path / "corpus.jsonl", [{"text": "A text."}, {"text": "A text."}])
    suite = write_lines(tmp_path / "q.jsonl", [{"instruction": "What is 0 plus 2?"}, {"prompt": "What else?"}])
    event = data_stage(
        tmp_path / "outputs",
        f"data.preferences=[{path}]",
        f"data.demonstrations=[{demonstrations}]",
        f"data.corpus=[{corpus}]",
        f"data.prompts.mine={suite}",
        "suite.names=[mine]",
    )
    assert event["event"] == "done", event
    for part in (
        "163 rows, 2 malformed and left out (1 x chosen equals rejected, first pairs.jsonl:8; ",
        "for the judge",
        "9 demonstrations, 1 documents",
        "mine 2",
        "left out: 1 repeats in corpus",
        "left out: 1 pairs whose question is in suite mine",
    ):
        assert part in event["says"]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "is empty; fetch or write it again"),
        ([b"", b" "], "holds no rows; fetch or write it again"),
        ([{"question": "a", "answer": "b"}] * 30, "has the wrong columns for preferences; rename them"),
        ([hh_row(f"{n}?", "same", "same") for n in range(30)], "30 of 30 rows are malformed (100.0%; at most 5.0%"),
        ([*pairs(100), b"{", b"{", b"{", b"{"], "6 of 104 rows are malformed (5.8%; at most 5.0% are accepted)"),
    ],
)
def test_files_that_cannot_be_used_are_refused_with_key_file_and_fix(
    rows: list[Any], says: str, tmp_path: Path
) -> None:
    good, bad = write_lines(tmp_path / "good.jsonl", pairs()), write_lines(tmp_path / "bad.jsonl", rows)
    error = refused(tmp_path, f"data.preferences=[{good},{bad}]")
    assert f"data.preferences[1]: {bad}" in error
    assert says in error
    if "malformed" in says:
        assert "raise data.max_malformed" in error
        assert f": {bad}:" in error


def test_a_share_of_malformed_rows_can_be_accepted(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "pairs.jsonl", [*pairs(), *[b"{"] * 50])
    assert "raise data.max_malformed" in refused(tmp_path, f"data.preferences=[{path}]")
    event = data_stage(tmp_path / "outputs", f"data.preferences=[{path}]", "data.max_malformed=.3")
    assert "52 malformed and left out" in event["says"]


def test_a_damaged_file_and_a_bad_suite_are_named_by_their_keys(tmp_path: Path) -> None:
    whole = gzip.compress(b"\n".join(json.dumps(row).encode() for row in pairs() if isinstance(row, dict)))
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    error = refused(tmp_path, f"data.preferences=[{cut}]")
    assert f"data.preferences[0]: {cut} is a damaged or incomplete gzip file" in error
    good = write_lines(tmp_path / "good.jsonl", pairs())
    suite = write_lines(tmp_path / "q.jsonl", [{"foo": "bar"}])
    error = refused(tmp_path, f"data.preferences=[{good}]", f"data.prompts.mine={suite}")
    assert f"data.prompts.mine: {suite} has the wrong columns for prompts" in error
    assert "found: foo" in error


def test_too_few_rows_for_the_splits_are_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "pairs.jsonl", pairs(20)[:3])
    assert "change data.split_train" in refused(tmp_path, f"data.preferences=[{path}]")


def test_a_missing_file_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data\.preferences\[0\]: no file .*nowhere\.jsonl"):
        experiment(*FILES, f"data.preferences=[{tmp_path / 'nowhere.jsonl'}]")
    good = write_lines(tmp_path / "good.jsonl", pairs())
    with pytest.raises(FileNotFoundError, match=r"data\.prompts\.mine: no file .*nowhere\.jsonl"):
        experiment(*FILES, f"data.preferences=[{good}]", f"data.prompts.mine={tmp_path / 'nowhere.jsonl'}")
