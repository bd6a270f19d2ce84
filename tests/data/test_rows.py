"""Formats by content, places of rows, and files that cannot be read."""

import gzip
import json
from pathlib import Path

import pytest

from salsa.data.rows import DataError, FileTable, Row
from tests.data.files import write_lines, write_parquet

ROWS = [{"text": "one", "extra": 1}, {"text": "zwei ä", "extra": 2}]


def texts(path: Path) -> list[str]:
    return [row.values["text"] for row in FileTable(path).rows(frozenset({"text"}))]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("rows.jsonl", lambda path: write_lines(path, ROWS)),
        ("rows.jsonl.gz", lambda path: write_lines(path, ROWS, compress=True)),
        ("named_wrongly.jsonl", lambda path: write_lines(path, ROWS, compress=True)),
        ("named_wrongly.jsonl.gz", lambda path: write_lines(path, ROWS)),
        ("list.json", lambda path: path.write_text(json.dumps(ROWS, indent=2))),
        ("rows.parquet", lambda path: write_parquet(path, ROWS)),
        ("parquet_without_extension", lambda path: write_parquet(path, ROWS)),
        (
            "mark.jsonl",
            lambda path: path.write_bytes(b"\xef\xbb\xbf" + b"\n".join(json.dumps(r).encode() for r in ROWS)),
        ),
    ],
)
def test_the_content_tells_the_format(name: str, write, tmp_path: Path) -> None:
    write(tmp_path / name)
    assert texts(tmp_path / name) == ["one", "zwei ä"]
    assert FileTable(tmp_path / name).columns() == ("text", "extra")


def test_parquet_reads_only_what_is_wanted(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "rows.parquet", ROWS)
    assert list(FileTable(path).rows(frozenset({"text"}))) == [
        Row(f"{path}, row 1", {"text": "one"}),
        Row(f"{path}, row 2", {"text": "zwei ä"}),
    ]
    assert [row.values for row in FileTable(path).rows(frozenset())] == [{}, {}]


def test_rows_know_their_line_and_what_is_wrong_with_them(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "dirty.jsonl", [ROWS[0], b"", b"{broken", b"[1, 2]", b'{"text": "\xff"}', ROWS[1]])
    assert [(row.place.removeprefix(str(path)), row.problem) for row in FileTable(path).rows(frozenset())] == [
        (":1", ""),
        (":3", "not JSON"),
        (":4", "not a JSON object"),
        (":5", "not UTF-8"),
        (":6", ""),
    ]


def incomplete_gzip(path: Path) -> None:
    path.write_bytes(gzip.compress(b"".join(json.dumps(ROWS[0]).encode() + b"\n" for _ in range(1000)))[:-20])


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("missing.jsonl", lambda path: None, "does not exist"),
        ("folder.jsonl", lambda path: path.mkdir(), "is a folder"),
        ("empty.jsonl", lambda path: path.touch(), "is empty"),
        ("pointer.jsonl", lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
        ("cut.jsonl.gz", incomplete_gzip, "incomplete gzip file"),
        ("not.parquet", lambda path: path.write_text("{}"), "is not one"),
        ("cut.parquet", lambda path: path.write_bytes(b"PAR1 and then nothing"), "incomplete Parquet file"),
        ("cut.json", lambda path: path.write_text('[{"text": "one"},'), "begins like a JSON list"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(name: str, write, message: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    with pytest.raises(DataError, match=message) as raised:
        texts(tmp_path / name)
    assert name in str(raised.value)
