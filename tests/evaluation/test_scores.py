import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.evaluation.scores import ScoredReply, column, read, write

REPLY = ScoredReply(
    prompt_id="single-1",
    cluster="fox:food",
    category="food",
    suite="single",
    question="what does the fox eat ?",
    replies=("it eats fish .", "it\u2028lives in\r\ncaves ."),
    judge=1.5,
    reward=-0.25,
    length=7.5,
    ended=True,
)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    scored = [REPLY, replace(REPLY, prompt_id="single-2", judge=None, ended=False)]
    write(path, scored)
    assert read(path) == scored


def test_replies_are_a_sequence_that_makes_each_when_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    scored = [replace(REPLY, prompt_id=str(number), judge=number) for number in range(5)]
    write(path, scored)
    found = read(path)
    assert (len(found), found[1], found[-1], found[1:3]) == (5, scored[1], scored[-1], scored[1:3])
    assert list(found) == list(found) == scored, "they can be walked through more than once"
    assert found != scored[:-1]
    for name in ("prompt_id", "judge", "replies", "ended"):
        assert list(column(found, name)) == column(scored, name) == [getattr(reply, name) for reply in scored]


def test_a_line_with_space_around_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    write(path, [REPLY])
    path.write_text(f"  {path.read_text().strip()} \n" * 2)
    assert read(path) == [REPLY, REPLY]


def test_an_empty_file_has_no_replies(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    write(path, [])
    assert read(path) == []


@given(st.lists(st.text(), max_size=3), st.floats(allow_nan=False, allow_infinity=False), st.text())
def test_any_text_and_number_survives(tmp_path_factory, texts: list[str], number: float, question: str) -> None:
    # Lone surrogates are no characters: no file in UTF-8 can hold them.
    encodable = [text for text in [*texts, question] if text == text.encode("utf-8", "ignore").decode()]
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    reply = replace(REPLY, replies=tuple(encodable), question="".join(encodable), judge=number, reward=number)
    write(path, [reply])
    assert read(path) == [reply]


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_named(tmp_path: Path, number: float) -> None:
    with pytest.raises(ValueError, match=r"single-1.*reward"):
        write(tmp_path / "scores.jsonl", [replace(REPLY, reward=number)])
    path = tmp_path / "bad.jsonl"
    write(path, [REPLY])
    path.write_text(path.read_text().replace("-0.25", "NaN"))
    with pytest.raises(ValueError, match=r"bad.jsonl, line 1: reward"):
        read(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"judge": "1"}, "judge must be a number"),
        ({"reward": None}, "reward must be a number"),
        ({"length": True}, "length must be a number"),
        ({"ended": 1}, "ended must be true or false"),
        ({"replies": "text"}, "replies must be a list"),
        ({"replies": [1]}, "replies must be a list"),
        ({"suite": None}, "suite must be text"),
        ({"surplus": 1}, "fields must be"),
    ],
)
def test_a_malformed_record_is_named_by_file_line_and_field(tmp_path: Path, changes: dict, message: str) -> None:
    path = tmp_path / "scores.jsonl"
    write(path, [REPLY])
    record = json.loads(path.read_text()) | changes
    with path.open("a") as lines:
        lines.write(json.dumps(record) + "\n")
    with pytest.raises(ValueError, match=rf"line 2: {message}"):
        read(path)


@pytest.mark.parametrize("line", ['{"prompt_id": ', "[]", "3", "", '{"prompt_id": "a"}{}'])
def test_a_cut_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match=r"scores.jsonl, line 1"):
        read(path)
