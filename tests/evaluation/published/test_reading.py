"""Whole files: nothing is dropped unsaid, what was judged twice counts once, a wrong format is named."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.evaluation.published.answers import answers, questions
from salsa.evaluation.published.lines import FormatError
from salsa.evaluation.published.reading import Options, detect, read
from tests.evaluation.judgments import arena, arena_two, battle, pair, single, verdict, write


def load(path, form="mt-bench-single", **options):
    return read([path], form, Options(**options))


def test_every_row_is_accounted_for(tmp_path):
    rows = [single(81), "", "{cut", "[1]", single(82, model=""), '{"model": "m", "score": NaN}', single(81), single(83)]
    found = load(write(tmp_path / "f.jsonl", rows))
    assert found.rows == 7
    assert len(found.used) == 2
    assert sum(found.duplicates.values()) == 1
    places = [text.partition(": ")[0].rpartition(":")[2] for text in found.malformed]
    assert places == ["3", "4", "5", "6"]
    assert found.rows == len(found.used) + sum(found.duplicates.values()) + len(found.malformed)


@given(rows=st.lists(st.tuples(st.integers(81, 84), st.sampled_from("ab"), st.sampled_from([1, 5, None])), min_size=1))
def test_what_was_judged_twice_counts_once(tmp_path_factory, rows):
    path = write(tmp_path_factory.mktemp("f") / "f.jsonl", [single(q, m, s) for q, m, s in rows])
    found, expected = load(path), {}
    for question, model, score in rows:
        if score is not None or expected.get((question, model)) is None:
            expected[(question, model)] = score
    assert {(int(v.question), v.model_a): v.score for v in found.verdicts} == expected
    assert sum(found.duplicates.values()) == len(rows) - len(expected)
    assert len(found.appended) == len(rows)


def test_the_first_judgment_counts_if_asked_for(tmp_path):
    path = write(tmp_path / "f.jsonl", [single(score=2), single(score=9), single(score=9)])
    assert [each.score for each in load(path).verdicts] == [9]
    assert [each.score for each in load(path, first=True).verdicts] == [2]
    assert load(path).same_text == 1


def test_turns_and_judges_are_not_duplicates(tmp_path):
    rows = [single(), single(turn=2), single(judge=["gpt-3.5", "single-v1"])]
    assert len(load(write(tmp_path / "f.jsonl", rows)).used) == 3


def test_gzip_makes_no_difference(tmp_path):
    rows = [pair(question, "12") for question in range(81, 90)]
    plain, zipped = (read([write(tmp_path / name, rows)], "mt-bench-pair", Options()) for name in ("f", "f.gz"))
    assert [each.label for each in plain.verdicts] == [each.label for each in zipped.verdicts]


def test_a_cut_gzip_file_is_named(tmp_path):
    path = tmp_path / "f.gz"
    path.write_bytes(gzip.compress(json.dumps(single()).encode() * 9)[:-9])
    with pytest.raises(FormatError, match="damaged or incomplete gzip"):
        load(path)


@pytest.mark.parametrize(
    ("row", "looks"),
    [
        (single(), "mt-bench-single"),
        (pair(), "mt-bench-pair"),
        (arena(), "arena-hard"),
        (arena_two(), "arena-hard"),
        (battle(), "arena-hard"),
    ],
)
def test_a_wrong_format_is_named(tmp_path, row, looks):
    path = write(tmp_path / "f", [row])
    assert detect(path) == looks
    for form in {"mt-bench-single", "mt-bench-pair", "arena-hard", "verdicts"} - {looks}:
        with pytest.raises(FormatError, match=f"looks like {looks}, not {form}; give --format {looks}"):
            read([path], form, Options())


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"question_id": 1, "model_id": "m", "choices": []}, "a file of answers"),
        ({"question_id": 1, "category": "c", "turns": []}, "a file of questions"),
        ({"m": 1000.0}, "none of"),
    ],
)
def test_what_is_no_judgment_is_named(tmp_path, row, what):
    path = write(tmp_path / "f", [row])
    with pytest.raises(FormatError, match=what):
        read([path], "arena-hard", Options())
    with pytest.raises(FormatError, match=what):
        detect(path)


def test_a_file_without_a_row_is_named(tmp_path):
    for rows in ([], ["text"]):
        path = write(tmp_path / "f", rows)
        with pytest.raises(FormatError, match="no readable row"):
            load(path)
        with pytest.raises(FormatError, match="no readable row"):
            detect(path)


def test_verdicts_are_read_as_they_are(tmp_path):
    failed = verdict(label=None, status="failed", completion="", error="429")
    rows = [
        failed,
        verdict(),
        verdict(key="l", model_a="b", model_b="a", order=1, label="B>>A"),
        {"key": "x", **failed},
    ]
    rows[3] = rows[3] | {"turn": "one"}
    found = read([write(tmp_path / "f", rows)], "verdicts", Options())
    assert [each.label for each in found.verdicts] == ["A>B", "B>>A"]
    assert (found.retries, sum(found.duplicates.values())) == (1, 0)
    assert found.malformed[0].endswith("turn is 'one', expected int")


FAILED = {"label": None, "status": "failed", "completion": "", "error": "429"}
UNPARSED = {"label": None, "status": "unparsed", "completion": "I cannot say."}


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([{}, FAILED], "judged"),
        ([FAILED, {}], "judged"),
        ([UNPARSED, FAILED], "unparsed"),
        ([FAILED, UNPARSED], "unparsed"),
        ([UNPARSED, {}, FAILED], "judged"),
    ],
)
def test_of_a_question_that_was_asked_again_what_says_most_counts(tmp_path, lines, status, first):
    path = write(tmp_path / "f", [verdict(**changes) for changes in lines])
    found = read([path], "verdicts", Options(first=first))
    assert [each.status for each in found.verdicts] == [status]
    assert (found.retries, sum(found.duplicates.values())) == (len(lines) - 1, 0)


def test_verdicts_on_other_replies_are_told_from_retries(tmp_path):
    rows = [verdict(), verdict(key="other", label="B>A", completion="B>A"), verdict(key="other", **FAILED)]
    found = read([write(tmp_path / "f", rows)], "verdicts", Options())
    assert [each.label for each in found.verdicts] == ["B>A"]
    assert (sum(found.duplicates.values()), found.other_asked, found.retries) == (1, 1, 1)
    found = load(write(tmp_path / "g", [single(), single(), single(user_prompt="another reply")]))
    assert (sum(found.duplicates.values()), found.other_asked) == (2, 1)


def test_a_game_is_the_same_whichever_model_is_the_compared_one(tmp_path):
    rows = [verdict(key="1"), verdict(key="2", order=1, label="B>A", completion="")]
    found = read([write(tmp_path / "f", rows)], "verdicts", Options())
    assert (len(found.used), dict(found.duplicates), found.other_asked) == (1, {"a / b": 1}, 0)
    itself = [verdict(key="1", model_b="a"), verdict(key="2", model_b="a", order=1)]
    assert len(read([write(tmp_path / "f", itself)], "verdicts", Options()).used) == 2


def test_our_own_verdicts_are_read_again(tmp_path):
    line = verdict(grammar="own_pair_3", completion="Mine.\nB>A")
    path = write(tmp_path / "f", [line, verdict(question="r", grammar="gone"), verdict(question="s", **FAILED)])
    found = read([path], "verdicts", Options())
    assert [each.label for each in found.verdicts] == ["B>A", "A>B", None]
    assert [(each.compared, each.differs) for each in found.judged] == [(True, True), (False, False), (False, False)]
    found = read([path], "verdicts", Options(stored=True))
    assert [each.label for each in found.verdicts] == ["A>B", "A>B", None]
    assert not any(each.compared for each in found.judged)


def test_numbers_that_nothing_holds_cost_their_row_only(tmp_path):
    long = f"[[{'9' * 400}]]"
    rows = [single(81), single(82, text="", score=10**400), single(83, text=long), '{"question_id": 84, "turn": 1e999}']
    found = load(write(tmp_path / "f", rows))
    scores = {each.question: each.score for each in found.verdicts}
    assert (scores.pop("81"), scores.pop("83", None), scores) == (7, None, {})
    assert found.rows == len(found.used) + len(found.malformed) == 4
    own = [verdict(), verdict(key="l", kind="single", model_b=None, label=None, score=7.0) | {"score": 10**400}]
    found = read([write(tmp_path / "f", own)], "verdicts", Options())
    assert (len(found.used), len(found.malformed)) == (1, 1)


def test_a_stored_score_that_is_no_number_is_none(tmp_path):
    found = load(write(tmp_path / "f", [single(81), single(82, score=float("nan"), text="No verdict.")]))
    assert [each.status for each in found.verdicts] == ["judged", "unparsed"]
    assert found.malformed == []


def test_questions_give_categories_and_topics(tmp_path):
    asked = questions(write(tmp_path / "q", [{"uid": "q", "category": "hard", "cluster": "topic"}]))
    found = read([write(tmp_path / "f", [arena(), battle()])], "arena-hard", Options(), asked)
    assert {(each.category, each.cluster) for each in found.verdicts} == {("hard", "topic")}
    assert {(each.category, each.cluster) for each in found.battles} == {("hard", "topic")}
    with pytest.raises(FormatError, match=":1: question_id or uid is missing"):
        questions(write(tmp_path / "q", [{"prompt": "?"}]))


def test_answers_in_all_layouts(tmp_path):
    rows = [
        {"question_id": 81, "model_id": "a", "choices": [{"turns": ["one", "two"]}]},
        {"question_id": "x", "model_id": "b", "choices": [{"turns": [{"content": "old", "token_len": 3}]}]},
        {
            "uid": "y",
            "model": "c",
            "messages": [{"role": "user", "content": "?"}, _answer("new")],
            "metadata": _COUNTED,
        },
    ]
    rows.append({"question_id": "z", "model_id": "d", "choices": [{"turns": [{"content": "c", "token_len": 10**400}]}]})
    found = answers([write(tmp_path / "f.gz", rows)])
    assert {key: (each.text, each.tokens) for key, each in found.items()} == {
        ("a", "81", 1): ("one", None),
        ("a", "81", 2): ("two", None),
        ("b", "x", 1): ("old", 3),
        ("c", "y", 1): ("new", 9),
        ("d", "z", 1): ("c", None),
    }
    with pytest.raises(FormatError, match=":1 is no answer"):
        answers([write(tmp_path / "f", [{"uid": "y"}])])


_COUNTED = {"token_len": 9}


def _answer(text):
    return {"role": "assistant", "content": {"answer": text}}
