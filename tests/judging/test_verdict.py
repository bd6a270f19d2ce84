"""A verdict is a line of JSON that comes back as it was; what is none is told with its place."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.judging import verdict as verdicts
from salsa.judging.log import known
from salsa.judging.verdict import FLIPPED, Verdict, VerdictError
from tests.judging.cases import VERDICT, verdict


@given(
    st.text(),
    st.sampled_from(list(FLIPPED)),
    st.integers(0, 1),
    st.one_of(st.none(), st.floats(0, 1e6)),
    st.one_of(st.none(), st.integers(0, 10**9)),
)
def test_it_comes_back_as_it_was(text: str, label: str, order: int, price: float | None, tokens: int | None) -> None:
    found = replace(VERDICT, completion=text, label=label, order=order, price=price, tokens_in=tokens)
    assert Verdict.from_json(json.loads(json.dumps(found.as_json()))) == found


def test_a_single_one_comes_back_as_it_was() -> None:
    found = verdict(kind="single", model_b=None, label=None, score=7.5)
    assert Verdict.from_json(json.loads(json.dumps(found.as_json()))) == found


def test_labels_flip_there_and_back() -> None:
    assert all(FLIPPED[FLIPPED[label]] == label for label in FLIPPED)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label": "A"}, "label is 'A'"),
        ({"label": None}, "label is None with 'judged'"),
        ({"status": "failed"}, "label is 'A>B' with 'failed'"),
        ({"status": "sent"}, "status is 'sent'"),
        ({"kind": "triple"}, "kind is 'triple'"),
        ({"order": 2}, "order is 2"),
        ({"turn": 0}, "turn is 0"),
        ({"model_b": None}, "model_b is None"),
        ({"score": 3.0}, "score is 3.0"),
        ({"kind": "single", "model_b": None, "label": None, "score": float("nan")}, "finite"),
        ({"schema": 2}, "schema is 2"),
        ({"turn": "1"}, "turn is '1', expected int"),
        ({"turn": True}, "turn is True"),
        ({"key": None}, "key is None, expected str"),
    ],
)
def test_what_it_cannot_be_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(VerdictError, match=words.replace("(", "[(]")):
        Verdict.from_json(VERDICT.as_json() | changes)


def test_a_missing_key_is_named() -> None:
    values = VERDICT.as_json()
    del values["completion"]
    with pytest.raises(VerdictError, match="completion is missing"):
        Verdict.from_json(values)


def line(found: Verdict) -> bytes:
    return json.dumps(found.as_json()).encode() + b"\n"


@pytest.mark.parametrize("opened", [Path.open, gzip.open])
def test_files_are_read_plain_and_gzipped(tmp_path: Path, opened: Any) -> None:
    with opened(tmp_path / "v.jsonl", "wb") as file:
        file.write(line(verdict(1)) + b"\n" + line(verdict(2)))
    assert verdicts.read(tmp_path / "v.jsonl") == [verdict(1), verdict(2)]


def test_the_last_line_of_a_key_counts(tmp_path: Path) -> None:
    failed = verdict(1, label=None, status="failed", completion="", error="HTTP 500")
    (tmp_path / "v.jsonl").write_bytes(line(failed) + line(verdict(2)) + line(verdict(1)))
    assert verdicts.read(tmp_path / "v.jsonl") == [verdict(1), verdict(2)]
    assert len(list(verdicts.lines(tmp_path / "v.jsonl"))) == 3


def test_a_failure_does_not_undo_a_completion(tmp_path: Path) -> None:
    judged, unparsed = verdict(1), verdict(1, label=None, status="unparsed")
    failed = verdict(1, label=None, status="failed", completion="", error="HTTP 500")
    orders = {(failed, unparsed, failed): unparsed, (unparsed, judged, unparsed): judged, (judged, failed): judged}
    for order, counts in orders.items():
        (tmp_path / "v.jsonl").write_bytes(b"".join(map(line, order)))
        assert verdicts.read(tmp_path / "v.jsonl") == [counts]
        assert known(tmp_path / "v.jsonl") == {counts.key: counts}


def test_a_torn_last_line_is_left_out_and_any_other_is_named(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    path.write_bytes(line(verdict(1)) + line(verdict(2))[:-40])
    assert verdicts.read(path) == [verdict(1)]
    path.write_bytes(line(verdict(1))[:-40] + b"\n" + line(verdict(2)))
    with pytest.raises(VerdictError, match=r"v\.jsonl:1 is no verdict: not JSON"):
        verdicts.read(path)
    path.write_bytes(b'{"question": 1}\n')
    with pytest.raises(VerdictError, match=r"v\.jsonl:1 is no verdict: key is missing"):
        verdicts.read(path)


def test_a_cut_gzip_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "v.gz").write_bytes(gzip.compress(line(verdict(1)) * 100)[:-20])
    with pytest.raises(VerdictError, match="damaged or incomplete"):
        verdicts.read(tmp_path / "v.gz")


def test_counts() -> None:
    unparsed = verdict(2, label=None, status="unparsed")
    assert verdicts.counts([verdict(1), unparsed]) == {"sent": 2, "judged": 1, "unparsed": 1, "failed": 0}
