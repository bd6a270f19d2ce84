"""A benchmark is read once: its questions, what is right, and what of it the models have seen in training."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.identity import file_problem, of_file
from pipelines.plan import Stage
from pipelines.protocol import Protocol
from pipelines.stages import questions
from salsa.data.ingestion import FileSet, IngestSettings, ingest
from salsa.data.rows import DataError
from salsa.judging.questions import REFERENCE_CATEGORIES, read_questions
from salsa.store.fingerprint import file_digest
from tests.data.files import hh_row, messages, read_lines, ultra_pair, write_lines, write_parquet
from tests.hub_cache import COMMIT, put_into_cache, without_network
from tests.judging.test_grammar import DATA, published
from tests.pipelines.stage_work import work

ASKED = [
    {"question_id": 81, "category": "writing", "turns": ["Write a poem.", "Shorter."]},
    {"question_id": 111, "category": "math", "turns": ["What is 2+2?", "And 3+3?"]},
    {"question_id": 112, "category": "math", "turns": ["What is 5+5?"]},
]
RIGHT = [
    {"question_id": 111, "model_id": "gpt-4", "choices": [{"index": 0, "turns": ["4", "6"]}]},
    {"question_id": 112, "model_id": "gpt-4", "choices": [{"index": 0, "turns": ["10"]}]},
]


def stage(asked: Path | str, right: Path | str | None = None, prompts: int = 100, **protocol: Any) -> Stage:
    """Return the stage as a plan has it; `protocol` is what the benchmark asks of its questions."""
    known, place = of_file("suite.questions", str(asked), file_digest)
    told = Protocol(
        suite="bench",
        count=prompts,
        temperatures=[],
        reference_categories=["math"] if right else [],
        references=str(right) if right else None,
        baselines={},
        kinds=["pair"],
        prompts_key="judge.prompts",
        prompts=None,
        levels=3,
    )
    execution = {"questions": place, "protocol": told.to_json() | protocol}
    return Stage(
        "questions", "questions bench", {"suite": "bench", "prompts": prompts, "questions": known}, {}, execution
    )


def read(folder: Path, *given: Any, data: Path | None = None, **named: Any) -> tuple[str, dict[str, Any], list[Any]]:
    done = work(stage(*given, **named), {} if data is None else {"data": data}, folder)
    says, metrics = questions.run(done)
    return says, metrics, read_lines(done.folder / questions.QUESTIONS)


def test_questions_are_left_as_plain_rows(tmp_path: Path) -> None:
    """What is right is read by those who judge: it changes no reply."""
    asked, right = write_lines(tmp_path / "q.jsonl", ASKED), write_lines(tmp_path / "r.jsonl", RIGHT)
    says, metrics, rows = read(tmp_path, asked, right)
    assert rows[0] == {
        "id": "81",
        "turns": ["Write a poem.", "Shorter."],
        "category": "writing",
        "cluster": "81",
        "reference": [],
    }
    assert [row["reference"] for row in rows] == [[], [], []]
    assert metrics == {"questions": 3, "turns": 5, "with_reference": 0, "contaminated": None}
    assert says == "3 questions of 1 or 2 turns"


def test_the_first_so_many_questions_are_asked_and_only_they_need_references(tmp_path: Path) -> None:
    asked, right = write_lines(tmp_path / "q.jsonl", ASKED), write_lines(tmp_path / "r.jsonl", RIGHT[:1])
    assert [row["id"] for row in read(tmp_path, asked, right, prompts=2)[2]] == ["81", "111"]
    with pytest.raises(DataError, match=r"no reference for all turns of 1 question \(112\)"):
        read(tmp_path, asked, right)


def test_what_the_protocol_asks_is_missed_before_anything_is_trained(tmp_path: Path) -> None:
    """The hub's files are not at hand when a command plans with them."""
    asked, right = write_lines(tmp_path / "q.jsonl", ASKED), write_lines(tmp_path / "r.jsonl", RIGHT)
    foreign = write_lines(tmp_path / "f.jsonl", [RIGHT[0] | {"question_id": 5}])
    with pytest.raises(DataError, match=r"suite.benchmarks.bench.temperatures: no question is of category 'maths'"):
        read(tmp_path, asked, temperatures=["maths"])
    with pytest.raises(DataError, match=r"suite.benchmarks.bench.baselines.all=.*: answers none of the 3 questions"):
        read(tmp_path, asked, baselines={"all": str(foreign)})
    assert len(read(tmp_path, asked, baselines={"all": str(right)})[2]) == 3


def test_a_file_that_was_edited_since_the_plan_is_not_taken_for_the_planned_one(tmp_path: Path) -> None:
    asked = write_lines(tmp_path / "q.jsonl", ASKED)
    planned = stage(asked)
    write_lines(asked, ASKED[:2])
    with pytest.raises(DataError, match=rf"suite.benchmarks.bench.questions={asked}: edited .* the same command again"):
        questions.run(work(planned, {}, tmp_path))


def test_rows_may_bring_references_of_their_own_for_every_turn(tmp_path: Path) -> None:
    row = {"id": "x", "turns": ["a", "b"], "reference": ["right", "so too"]}
    assert read(tmp_path, write_lines(tmp_path / "q.jsonl", [row]))[2][0]["reference"] == ["right", "so too"]
    short = write_lines(tmp_path / "s.jsonl", [row | {"reference": "right"}])
    with pytest.raises(DataError, match=r"1 question \(x\) with fewer references than turns"):
        read(tmp_path, short)


def test_the_prompts_of_a_preference_set_are_questions(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "test_prefs.parquet", [ultra_pair("Why?"), ultra_pair("How?")])
    assert [(row["id"], row["turns"]) for row in read(tmp_path, path)[2]] == [
        ("id of Why?", ["Why?"]),
        ("id of How?", ["How?"]),
    ]


def test_what_was_trained_on_is_counted_and_what_was_held_out_is_not(tmp_path: Path) -> None:
    """Every pair's question is asked, written otherwise: ingestion's own split tells which may have been seen."""
    asked = [f"Why is number {number} odd?" for number in range(60)]
    settings = IngestSettings()
    pairs = write_lines(tmp_path / "pairs.jsonl", [hh_row(question) for question in asked])
    shown = write_lines(tmp_path / "shown.jsonl", [{"messages": messages("Only  shown?", "Yes.", "Sure?", "Yes.")}])
    ingest(FileSet(demonstrations=(shown,), preferences=(pairs,)), tmp_path / "data", settings)
    heldout = {"heldout", "validation"}
    rows = [{"id": index, "question": f" {question.upper()} "} for index, question in enumerate(asked)]
    rows += [{"id": "shown", "question": "only shown?"}, {"id": "later", "question": "Sure?"}]
    says, metrics, left = read(tmp_path, write_lines(tmp_path / "q.jsonl", rows), data=tmp_path / "data")
    assert len(left) == 62
    kept = [question for question in asked if settings.split(_key(question)) not in heldout]
    assert 40 < len(kept) < 60
    assert metrics["contaminated"] == len(kept) + 1
    assert f"; {len(kept) + 1} are in the training data (" in says


def _key(question: str) -> str:
    from salsa.data.conversation import Message
    from salsa.data.forms import question_key

    return question_key((Message("user", question),))


def test_a_local_file_is_known_by_its_bytes_and_not_by_its_place(tmp_path: Path) -> None:
    first, second = (write_lines(tmp_path / name / "q.jsonl", ASKED) for name in "ab")
    identity, place = of_file("suite.questions", str(first), file_digest)
    assert identity == of_file("suite.questions", str(second), file_digest)[0] == {"sha256": file_digest(first)}
    assert place == {"path": str(first)}
    assert file_problem("suite.questions", str(first)) == ""


def test_a_file_that_is_missing_is_named_with_its_key(tmp_path: Path) -> None:
    missing = str(tmp_path / "q.jsonl")
    with pytest.raises(FileNotFoundError, match=rf"suite.questions: no file {missing}; give a path .* hf://datasets"):
        of_file("suite.questions", missing, file_digest)
    assert file_problem("suite.questions", missing).startswith(f"suite.questions: {missing} does not exist")
    with pytest.raises(DataError, match=r"suite.questions: hf://x is not the address of a file"):
        of_file("suite.questions", "hf://x", file_digest)
    assert file_problem("suite.questions", "hf://x").startswith("suite.questions: hf://x is not the address")


def test_a_file_of_the_hub_is_known_by_its_commit_and_read_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_network(monkeypatch, tmp_path / "home")
    address = "hf://spaces/lmsys/mt-bench/data/q.jsonl"
    unknown = {"kind": "space", "name": "lmsys/mt-bench", "commit": None, "file": "data/q.jsonl"}
    assert of_file("key", address, file_digest) == (unknown, {"address": address})
    assert file_problem("key", address).startswith(f"key: {address} is not in the local cache")
    write_lines(tmp_path / "files" / "data" / "q.jsonl", ASKED)
    put_into_cache(tmp_path / "home", "space", "lmsys/mt-bench", tmp_path / "files")
    pinned = f"hf://spaces/lmsys/mt-bench@{COMMIT}/data/q.jsonl"
    known = (unknown | {"commit": COMMIT}, {"address": pinned})
    assert of_file("key", address, file_digest) == of_file("key", pinned, file_digest) == known
    assert file_problem("key", address) == ""
    assert len(read(tmp_path, address)[2]) == 3


@published
def test_mt_bench_as_published(tmp_path: Path) -> None:
    folder = DATA / "mt_bench"
    right = folder / "reference_answer_gpt-4.jsonl"
    planned = stage(folder / "question.jsonl", right, 80, reference_categories=list(REFERENCE_CATEGORIES))
    done = work(Stage("questions", "", planned.config, {}, json.loads(json.dumps(planned.execution))), {}, tmp_path)
    says, metrics = questions.run(done)
    assert metrics == {"questions": 80, "turns": 160, "with_reference": 0, "contaminated": None}
    assert says == "80 questions of 2 turns"
    left = read_questions(done.folder / questions.QUESTIONS).questions
    original = read_questions(folder / "question.jsonl").questions
    assert [question.turns for question in left] == [question.turns for question in original]
