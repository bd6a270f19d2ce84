"""Questions and answers are read in the forms that people have; what does not fit is named with its place."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.data.rows import DataError
from salsa.judging.questions import (
    API_ERROR,
    REFERENCE_CATEGORIES,
    Question,
    read_answers,
    read_questions,
    unanswered,
    with_references,
    write_questions,
)
from tests.data.files import write_parquet
from tests.judging.test_grammar import DATA, published

ASKED = (Question("1", ("What is 2+2?",), "math"), Question("2", ("Hello?", "And?"), "writing"))


def rows(path: Path, *values: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


@pytest.mark.parametrize(
    ("row", "suite", "question"),
    [
        (
            {"question_id": 81, "category": "writing", "turns": ["a", "b"], "reference": ["note"]},
            "mt_bench",
            Question("81", ("a", "b"), "writing", "81"),
        ),
        (
            {"uid": "x", "category": "hard", "cluster": "ABC", "prompt": "a"},
            "arena_hard",
            Question("x", ("a",), "hard", "ABC"),
        ),
        (
            {"question_id": "x", "cluster": "ABC", "turns": [{"content": "a"}]},
            "arena_hard",
            Question("x", ("a",), "", "ABC"),
        ),
        ({"id": 3, "question": "a", "reference": "r"}, "files", Question("3", ("a",), "", "3", ("r",))),
    ],
)
def test_questions_in_each_form(tmp_path: Path, row: dict[str, Any], suite: str, question: Question) -> None:
    found = read_questions(rows(tmp_path / "q.jsonl", row))
    assert (found.suite, found.questions) == (suite, (question,))
    assert read_questions(tmp_path / "q.jsonl", "mine").suite == "mine"


@pytest.mark.parametrize(
    ("row", "model"),
    [
        ({"question_id": 2, "model_id": "m", "choices": [{"turns": ["x", "y"]}, {"turns": ["z"]}]}, "m"),
        ({"question_id": 2, "model_id": "m", "choices": [{"turns": [{"content": "x"}, {"content": "y"}]}]}, "m"),
        (
            {
                "uid": 2,
                "model": "m",
                "messages": [
                    {"role": "user", "content": "Hello?"},
                    {"role": "assistant", "content": {"answer": "x"}},
                    {"role": "user", "content": "And?"},
                    {"role": "assistant", "content": "y"},
                ],
            },
            "m",
        ),
        ({"id": "2", "replies": ["x", "y"]}, "a"),
        ({"question": "Hello?", "replies": ["x", "y"]}, "a"),
        ({"question": "2", "replies": ["x", "y"]}, "a"),
    ],
)
def test_answers_in_each_form(tmp_path: Path, row: dict[str, Any], model: str) -> None:
    found = read_answers(rows(tmp_path / "a.jsonl", row), ASKED)
    assert (found.model, found.replies) == (model, {"2": ("x", "y")})
    assert read_answers(tmp_path / "a.jsonl", ASKED, "mine").model == "mine"


def test_what_is_not_answered_is_known(tmp_path: Path) -> None:
    """Also one turn of two, and the text that FastChat writes where its call failed."""
    path = rows(
        tmp_path / "a.jsonl", {"id": 1, "reply": API_ERROR}, {"id": 2, "reply": "x"}, {"id": 9, "reply": "other"}
    )
    questions = read_questions(
        rows(tmp_path / "q.jsonl", {"id": 1, "question": "a"}, {"id": 2, "turns": ["a", "b"]}, {"id": 3, "prompt": "c"})
    )
    assert unanswered(questions, read_answers(path, questions.questions)) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([{"reply": "x"}], "a.jsonl:1 does not say which question it answers"),
        ([{"id": 1}], "a.jsonl:1 has no replies"),
        ([{"id": 1, "choices": ["x"]}], "a.jsonl:1: expected an object in `choices`, found str"),
        ([{"id": 1, "messages": ["x"]}], "a.jsonl:1: expected an object in `messages`, found str"),
        ([{"id": 1, "reply": 3}], "a.jsonl:1: expected text, found int"),
        ([{"id": 1, "reply": "x"}, {"id": 1, "reply": "y"}], "a.jsonl:2 answers question 1 once more than .*a.jsonl:1"),
    ],
)
def test_answers_that_do_not_fit_are_named(tmp_path: Path, values: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_answers(rows(tmp_path / "a.jsonl", *values), ASKED)


def test_the_same_answer_twice_is_one(tmp_path: Path) -> None:
    row = {"id": 1, "reply": "x"}
    assert read_answers(rows(tmp_path / "a.jsonl", row, row), ASKED).replies == {"1": ("x",)}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([{"question": "x"}], "q.jsonl:1 has no `id`"),
        ([{"id": 1}], "q.jsonl:1 has no question"),
        ([{"id": 1, "turns": []}], "q.jsonl:1 has no question"),
        ([{"id": 1, "question": "x"}] * 2, "q.jsonl:2 repeats question 1"),
    ],
)
def test_questions_that_do_not_fit_are_named(tmp_path: Path, values: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_questions(rows(tmp_path / "q.jsonl", *values))


def test_references_go_to_the_categories_that_need_them(tmp_path: Path) -> None:
    questions = read_questions(
        rows(
            tmp_path / "q.jsonl",
            {"question_id": 1, "category": "math", "turns": ["a"]},
            {"question_id": 2, "category": "writing", "turns": ["b"]},
        )
    )
    path = rows(tmp_path / "r.jsonl", {"id": 1, "reply": "right"}, {"id": 2, "reply": "nice"})
    referred = with_references(questions, path, REFERENCE_CATEGORIES).questions
    assert [question.reference for question in referred] == [("right",), ()]
    with pytest.raises(DataError, match=r"no reference for all turns of 1 question \(1\)"):
        with_references(questions, rows(tmp_path / "r.jsonl", {"id": 2, "reply": "nice"}), REFERENCE_CATEGORIES)


@published
def test_the_published_files_are_read() -> None:
    bench = read_questions(DATA / "mt_bench" / "question.jsonl")
    assert (bench.suite, len(bench.questions)) == ("mt_bench", 80)
    answers = read_answers(DATA / "mt_bench_answers" / "gpt-4.jsonl", bench.questions)
    assert (answers.model, unanswered(bench, answers)) == ("gpt-4", [])
    referred = with_references(bench, DATA / "mt_bench" / "reference_answer_gpt-4.jsonl", REFERENCE_CATEGORIES)
    assert [question.id for question in referred.questions if question.reference] == [str(n) for n in range(101, 131)]
    arena = read_questions(DATA / "arena_hard" / "v0.1_question.jsonl")
    assert (arena.suite, len(arena.questions), len({q.cluster for q in arena.questions}) < 500) == (
        "arena_hard",
        500,
        True,
    )
    answers = read_answers(DATA / "arena_hard" / "model_answer" / "gpt-4-0314.jsonl.gz", arena.questions)
    assert (answers.model, unanswered(arena, answers)) == ("gpt-4-0314", [])
    assert len(read_questions(DATA / "arena_hard" / "v2.0_question.jsonl").questions) == 750


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1)
QUESTIONS = st.builds(
    Question,
    id=TEXTS,
    turns=st.lists(TEXTS, min_size=1, max_size=3).map(tuple),
    category=st.text(st.characters(codec="utf-8")),
    cluster=TEXTS,
    reference=st.lists(TEXTS, max_size=3).map(tuple),
)


@given(st.lists(QUESTIONS, min_size=1, unique_by=lambda question: question.id))
def test_what_is_written_is_read_back(questions: list[Question]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "questions.jsonl"
        write_questions(path, questions)
        assert read_questions(path).questions == tuple(questions)


def test_rows_of_a_preference_set_are_known_by_their_prompt(tmp_path: Path) -> None:
    row = {"prompt_id": "abc", "prompt": "Why?", "chosen": [], "rejected": [], "reference": "because"}
    path = write_parquet(tmp_path / "q.parquet", [row | {"chosen": ["x"], "rejected": ["y"]}])
    assert read_questions(path).questions == (Question("abc", ("Why?",), "", "abc", ("because",)),)
    assert read_questions(rows(tmp_path / "q.jsonl", row)).questions == read_questions(path).questions
    answered = rows(tmp_path / "a.jsonl", {"prompt_id": "abc", "reply": "So."})
    assert read_answers(answered, read_questions(path).questions).replies == {"abc": ("So.",)}


def test_half_a_surrogate_pair_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"q.jsonl:1 has a question that is not valid Unicode"):
        read_questions(rows(tmp_path / "q.jsonl", {"id": 1, "question": "a\ud83d"}))
