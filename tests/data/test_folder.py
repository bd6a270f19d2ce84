"""The source over ingested files."""

from pathlib import Path

import numpy as np
import pytest

from salsa.data.folder import FolderSource
from salsa.data.forms import question_key
from salsa.data.ingestion import FileSet, IngestSettings, ingest
from salsa.data.rows import DataError
from salsa.data.source import Source
from tests.data.files import hh_row, messages, write_lines

PAIRS = [hh_row(f"What is the {n}th word?", f"word {n}", "I do not know") for n in range(120)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> FolderSource:
    folder = tmp_path_factory.mktemp("folder")
    suite = write_lines(folder / "suite.jsonl", [{"prompt": f"Ask {n}"} for n in range(7)])
    files = FileSet(preferences=(write_lines(folder / "pairs.jsonl", PAIRS),), prompts={"asked": suite})
    ingest(files, folder / "out", IngestSettings())
    return FolderSource(folder / "out")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_it_is_a_source_without_a_judge(source: FolderSource) -> None:
    plain: Source = source
    assert (plain.chat, plain.words, plain.suites) == ("plain", None, ("heldout", "validation", "asked"))
    assert plain.recall_probes() == []
    assert plain.gold(plain.suite("asked", 1)[0], ("x",), (True,)) is None


def test_demonstrations_are_different_and_at_most_as_many_as_there_are(source: FolderSource) -> None:
    everything = source.demonstrations(rng(), 10_000)
    assert len(set(everything)) == len(everything) == source.report["counts"]["demonstrations"]
    some = source.demonstrations(rng(), 5)
    assert some == everything[:5]
    assert source.demonstrations(rng(1), 5) != some
    assert all(conversation[-1].role == "assistant" for conversation in everything)


def test_prompts_go_round_where_more_are_asked_for(source: FolderSource) -> None:
    there = source.report["counts"]["prompts"]
    prompts = source.prompts(rng(), 2 * there + 3)
    assert len(prompts) == 2 * there + 3
    assert len({prompt.id for prompt in prompts[:there]}) == len({prompt.id for prompt in prompts}) == there
    assert [p.id for p in prompts[:there]] != [p.id for p in prompts[there : 2 * there]]
    assert source.prompts(rng(), 0) == []


def test_the_corpus_is_shuffled_and_ends_after_enough_words(source: FolderSource) -> None:
    everything = source.corpus(rng(), 10**9)
    assert len(set(everything)) == len(everything) == source.report["counts"]["corpus"]
    some = source.corpus(rng(), 100)
    assert some == everything[: len(some)]
    words = [len(text.split()) for text in some]
    assert sum(words[:-1]) < 100 <= sum(words)


def test_heldout_text_and_suites_are_fixed(source: FolderSource) -> None:
    assert source.heldout_text(3) == source.heldout_text(1000)[:3]
    assert not set(source.heldout_text(1000)) & set(source.corpus(rng(), 10**9))
    assert [prompt.questions for prompt in source.suite("asked", 3)] == [("Ask 0",), ("Ask 1",), ("Ask 2",)]
    assert len(source.suite("asked", 100)) == 7
    with pytest.raises(ValueError, match=r"no suite 'other' .* there are heldout, validation, asked"):
        source.suite("other", 1)


def test_pairs_by_split(source: FolderSource) -> None:
    clusters = [{pair.cluster for pair in source.pairs(split) or []} for split in ("train", "judge", "heldout")]
    assert all(clusters)
    assert len(set.union(*clusters)) == sum(map(len, clusters))
    with pytest.raises(ValueError, match="no split 'test'"):
        source.pairs("test")


def test_no_pairs_where_there_are_demonstrations_only(tmp_path: Path) -> None:
    rows = [{"messages": messages(f"Question {n}", "Reply")} for n in range(100)]
    files = FileSet(demonstrations=(write_lines(tmp_path / "d.jsonl", rows),))
    ingest(files, tmp_path / "out", IngestSettings())
    assert FolderSource(tmp_path / "out").pairs("train") is None


def test_a_folder_that_holds_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"report\.json is missing"):
        FolderSource(tmp_path)


def test_heldout_demonstrations_answer_the_validation_suite_and_no_other_questions(source: FolderSource) -> None:
    held = source.heldout_demonstrations(10_000)
    validation = {prompt.conversation() for prompt in source.suite("validation", 10_000)}
    assert {conversation[:-1] for conversation, _ in held} == validation
    assert {conversation[-1].content for conversation, _ in held} <= {f"word {n}" for n in range(120)}
    judged = {prompt.cluster for prompt in source.suite("heldout", 10_000)}
    trained = {question_key(conversation) for conversation in source.demonstrations(rng(), 10_000)}
    assert judged.isdisjoint(cluster for _, cluster in held)
    assert trained.isdisjoint(cluster for _, cluster in held)
    assert source.heldout_demonstrations(2) == held[:2]


def test_demonstrations_alone_hold_some_out_too(tmp_path: Path) -> None:
    rows = [{"messages": messages(f"Say {n}", f"word {n}")} for n in range(300)]
    files = FileSet(demonstrations=(write_lines(tmp_path / "talks.jsonl", rows),))
    ingest(files, tmp_path / "out", IngestSettings())
    held = FolderSource(tmp_path / "out").heldout_demonstrations(10_000)
    assert held
    assert all(conversation[-1].role == "assistant" for conversation, _ in held)
