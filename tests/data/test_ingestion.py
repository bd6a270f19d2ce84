"""What ingestion writes, that its splits share nothing, and what it says about data that cannot be used."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from salsa.data.conversation import Message
from salsa.data.forms import question_key
from salsa.data.ingestion import FileSet, IngestSettings, ingest
from salsa.data.records import to_conversation, to_prompt
from salsa.data.rows import DataError
from tests.data.files import hh_row, messages, read_lines, real_data, write_lines, write_parquet

QUESTIONS = [f"What is {a} plus {b}?" for a, b in itertools.product(range(15), range(10))]
PAIRS = [hh_row(question, f"{question} Good.", f"{question} Bad.") for question in QUESTIONS]
PAIR_FILES = ("pairs_train.jsonl", "pairs_judge.jsonl", "pairs_heldout.jsonl")


def first_questions(path: Path) -> set[str]:
    """The first questions in a file of records of any kind, by hash."""
    keys = set()
    for record in read_lines(path):
        if "messages" in record:
            conversation = to_conversation(record)
        elif "text" in record:
            conversation = (Message("user", record["text"].split("User: ")[1].split("\n\n")[0]),)
        else:
            conversation = to_prompt(record).conversation()
        keys.add(question_key(conversation))
    return keys


def ingest_pairs(folder: Path, rows: list[Any], **sets: Any) -> dict[str, Any]:
    path = write_lines(folder / "pairs.jsonl", rows)
    return ingest(FileSet(preferences=(path,), **sets), folder / "out", IngestSettings())


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    suite = write_lines(folder / "suite.jsonl", [{"turns": [QUESTIONS[0], "And one more?"], "question_id": 1}])
    ingest_pairs(folder, PAIRS, prompts={"two_turn": suite})
    return folder / "out"


def test_pairs_alone_give_everything(ingested: Path) -> None:
    report = json.loads((ingested / "report.json").read_text())
    counts = report["counts"]
    assert sum(counts[name.removesuffix(".jsonl")] for name in PAIR_FILES) + report["suites"]["validation"] == 149
    assert counts["corpus"] == 2 * (counts["pairs_train"] + counts["pairs_judge"])
    assert counts["demonstrations"] == counts["prompts"] == counts["pairs_train"]
    assert counts["heldout_text"] == report["suites"]["heldout"] == counts["pairs_heldout"]
    assert report["left_out"] == {"pairs whose question is in suite two_turn": 1}
    for name, count in counts.items():
        assert len(read_lines(ingested / f"{name}.jsonl")) == count


def test_splits_share_no_question(ingested: Path) -> None:
    trained = ["pairs_train.jsonl", "pairs_judge.jsonl"]
    kept = ["pairs_heldout.jsonl", "suites/validation.jsonl", "suites/two_turn.jsonl"]
    for one, other in itertools.combinations(trained + kept, 2):
        assert not first_questions(ingested / one) & first_questions(ingested / other)
    for name in ("corpus.jsonl", "demonstrations.jsonl", "prompts.jsonl"):
        for held in (*kept, "suites/heldout.jsonl", "heldout_text.jsonl"):
            assert not first_questions(ingested / name) & first_questions(ingested / held)
    assert first_questions(ingested / "demonstrations.jsonl") == first_questions(ingested / "pairs_train.jsonl")


def test_chosen_replies_are_the_demonstrations_and_all_text_is_the_corpus(ingested: Path) -> None:
    for record in read_lines(ingested / "demonstrations.jsonl"):
        assert record["messages"][-1]["content"].endswith("Good.")
    pair = read_lines(ingested / "pairs_judge.jsonl")[0]
    corpus = [record["text"] for record in read_lines(ingested / "corpus.jsonl")]
    question = pair["messages"][0]["content"]
    assert f"User: {question}\n\nAssistant: {pair['chosen']}" in corpus
    assert f"User: {question}\n\nAssistant: {pair['rejected']}" in corpus


def test_the_split_of_a_pair_depends_on_its_question_only(ingested: Path, tmp_path: Path) -> None:
    ingest_pairs(tmp_path, PAIRS[:0:-1])
    for name in PAIR_FILES:
        there, here = read_lines(ingested / name), read_lines(tmp_path / "out" / name)
        assert sorted(map(str, there)) == sorted(map(str, here))


def test_a_conversation_and_its_beginning_are_in_one_split(tmp_path: Path) -> None:
    longer = [
        {
            "chosen": row["chosen"] + "\n\nHuman: More?\n\nAssistant: a",
            "rejected": row["chosen"] + "\n\nHuman: More?\n\nAssistant: b",
        }
        for row in PAIRS
    ]
    ingest_pairs(tmp_path, PAIRS + longer)
    for name in PAIR_FILES:
        lengths = [len(record["messages"]) for record in read_lines(tmp_path / "out" / name)]
        assert lengths.count(1) == lengths.count(3)
    one, other = (first_questions(tmp_path / "out" / name) for name in PAIR_FILES[:2])
    assert not one & other


def test_demonstrations_of_their_own_leave_out_what_is_held_out(tmp_path: Path) -> None:
    rows = [{"messages": messages(question, "So much.", "Sure?", "Yes.")} for question in QUESTIONS]
    demonstrations = write_parquet(tmp_path / "demonstrations.parquet", rows)
    report = ingest_pairs(tmp_path, PAIRS, demonstrations=(demonstrations,))
    out = tmp_path / "out"
    held = report["suites"]["heldout"] + report["suites"]["validation"]
    assert report["left_out"]["demonstrations whose question is held out"] == held
    assert report["counts"]["demonstrations"] == len(QUESTIONS) - held
    assert {len(record["messages"]) for record in read_lines(out / "demonstrations.jsonl")} == {4}
    assert {len(record["context"]) for record in read_lines(out / "prompts.jsonl")} == {0, 2}
    assert not first_questions(out / "corpus.jsonl") & first_questions(out / "heldout_text.jsonl")


def test_demonstrations_alone_are_split(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "d.jsonl.gz", [{"messages": messages(q, "So much.")} for q in QUESTIONS], compress=True
    )
    report = ingest(FileSet(demonstrations=(path,)), tmp_path / "out", IngestSettings())
    assert report["counts"]["demonstrations"] + sum(report["suites"].values()) == len(QUESTIONS)
    assert report["counts"]["pairs_train"] == 0
    assert report["counts"]["heldout_text"] == report["suites"]["heldout"] > 0


def test_a_given_corpus_is_the_corpus(tmp_path: Path) -> None:
    ingest_pairs(tmp_path / "first", PAIRS)
    held = read_lines(tmp_path / "first" / "out" / "heldout_text.jsonl")[0]
    corpus = write_lines(tmp_path / "corpus.jsonl", [{"text": "Some text."}, {"text": "Some text."}, held])
    report = ingest_pairs(tmp_path, PAIRS, corpus=(corpus,))
    assert read_lines(tmp_path / "out" / "corpus.jsonl") == [{"text": "Some text."}]
    assert report["left_out"] == {"repeats in corpus": 1, "documents that are held out": 1}


def test_malformed_rows_are_counted_by_reason_with_their_places(tmp_path: Path) -> None:
    rows = [*PAIRS, hh_row("Same?", "x", "x "), b"{", hh_row("Same?", "y", "y")]
    report = ingest_pairs(tmp_path, rows)
    table = report["tables"][0]
    assert (table["rows"], table["used"]) == (153, 150)
    path = tmp_path / "pairs.jsonl"
    assert table["malformed"] == {
        "chosen equals rejected": {"count": 2, "first": [f"{path}:151", f"{path}:153"]},
        "not JSON": {"count": 1, "first": [f"{path}:152"]},
    }


def test_too_many_malformed_rows_are_an_error_that_shows_the_first(tmp_path: Path) -> None:
    rows = [*PAIRS, *(hh_row("Same?", "x", "x") for _ in range(9))]
    with pytest.raises(DataError, match=r"9 of 159 rows are malformed \(5.7%; at most 5.0%") as raised:
        ingest_pairs(tmp_path, rows)
    assert f"9 x chosen equals rejected: {tmp_path / 'pairs.jsonl'}:151; " in str(raised.value)
    assert ":156" not in str(raised.value)


def test_wrong_columns_are_told_with_those_that_were_found(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="wrong columns for preferences") as raised:
        ingest_pairs(tmp_path, [{"question": "x", "good": "y"}, {"question": "x", "bad": "z"}])
    assert "found: question, good, bad" in str(raised.value)
    assert "prompt + chosen + rejected" in str(raised.value)
    parquet = write_parquet(tmp_path / "p.parquet", [{"question": "x", "good": "y"}] * 300)
    with pytest.raises(DataError, match="found: question, good"):
        ingest(FileSet(demonstrations=(parquet,)), tmp_path / "out", IngestSettings())


def test_missing_files_are_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"prompts\.mt_bench: .*nowhere\.jsonl does not exist"):
        ingest_pairs(tmp_path, PAIRS, prompts={"mt_bench": tmp_path / "nowhere.jsonl"})
    assert not (tmp_path / "out").exists()


def test_data_that_leave_a_split_empty_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing is left for .*pairs_heldout.* of 2 rows"):
        ingest_pairs(tmp_path, PAIRS[:2])
    with pytest.raises(DataError, match="neither demonstrations nor preferences"):
        ingest(FileSet(), tmp_path, IngestSettings())


@pytest.mark.parametrize("name", ["heldout", "my-suite", "../x", ""])
def test_names_of_suites_are_checked(name: str, tmp_path: Path) -> None:
    suite = write_lines(tmp_path / "suite.jsonl", [{"prompt": "x"}])
    with pytest.raises(DataError, match="cannot be called"):
        ingest_pairs(tmp_path, PAIRS, prompts={name: suite})


@pytest.mark.parametrize(
    "values", [{"split_train": 0.0}, {"split_judge": 1.0}, {"max_malformed": 1.1}, {"split_train": 0.6}]
)
def test_settings_are_checked(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        IngestSettings(**values)


def test_shares_are_met_on_average() -> None:
    settings = IngestSettings()
    splits = [settings.split(question_key((Message("user", f"question {n}"),))) for n in range(20_000)]
    shares = {"train": 0.45, "judge": 0.40, "validation": 0.05, "heldout": 0.10}
    for name, share in shares.items():
        assert splits.count(name) / len(splits) == pytest.approx(share, abs=0.015)


def test_progress_is_told(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "pairs.jsonl", PAIRS)
    told: list[tuple[int, int, str]] = []
    ingest(FileSet(preferences=(path,)), tmp_path / "out", IngestSettings(), lambda *what: told.append(what))
    assert told == [(1, 1, f"preferences: 150 rows of {path}")]


def test_the_real_preferences(tmp_path: Path) -> None:
    files = FileSet(
        preferences=(real_data("hh_rlhf/helpful-base.test.jsonl.gz"),),
        prompts={
            "mt_bench": real_data("mt_bench/question.jsonl"),
            "arena_hard": real_data("arena_hard/v0.1_question.jsonl"),
            "ultrachat": real_data("ultrachat_eval_prompts/ultra_eval.json"),
        },
    )
    report = ingest(files, tmp_path, IngestSettings())
    table = next(table for table in report["tables"] if table["what"] == "preferences")
    assert (table["rows"], table["used"]) == (2354, 2333)
    assert {reason: entry["count"] for reason, entry in table["malformed"].items()} == {
        "user and assistant do not take turns": 15,
        "an empty turn": 4,
        "chosen equals rejected": 2,
    }
    assert {name: report["suites"][name] for name in files.prompts} == {
        "mt_bench": 80,
        "arena_hard": 500,
        "ultrachat": 381,  # of 385: four are asked twice
    }
    pairs = sum(report["counts"][name.removesuffix(".jsonl")] for name in PAIR_FILES)
    left_out = sum(count for reason, count in report["left_out"].items() if reason.startswith("pairs"))
    assert pairs + report["suites"]["validation"] + left_out == 2333
    assert not first_questions(tmp_path / PAIR_FILES[0]) & first_questions(tmp_path / PAIR_FILES[1])
    assert len(read_lines(tmp_path / "suites/mt_bench.jsonl")[0]["questions"]) == 2
