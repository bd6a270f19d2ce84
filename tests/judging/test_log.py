"""A log keeps what was written, whatever ends the process, and has one writer."""

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from salsa.judging import verdict as verdicts
from salsa.judging.log import LogError, VerdictLog, known
from salsa.judging.verdict import VerdictError
from tests.judging.cases import verdict


def test_what_was_written_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "v.jsonl"
    assert known(path) == {}
    with VerdictLog(path) as log:
        log.append(verdict(1, price=0.5))
        assert verdicts.read(path) == [verdict(1, price=0.5)]  # at once, not at the end
        log.append(verdict(2, attempt=3))
    with VerdictLog(path) as log:
        assert list(log.verdicts.values()) == [verdict(1, price=0.5), verdict(2, attempt=3)]
        assert (log.calls, log.spent) == (4, 0.5)
    assert list(known(path)) == [verdict(1).key, verdict(2).key]


@settings(deadline=None)  # each example waits for the disk
@given(st.integers(0, 2000))
@example(1)
def test_a_torn_end_is_removed_and_nothing_else(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("torn") / "v.jsonl"
    with VerdictLog(path) as log:
        for number in range(3):
            log.append(verdict(number))
    whole = path.read_bytes()
    size = len(whole) // 3
    cut = min(cut, len(whole))
    path.write_bytes(whole[: len(whole) - cut])
    # A line that lacks nothing but its newline is whole.
    kept = (len(whole) - cut + 1) // size
    with VerdictLog(path) as log:
        assert len(log.verdicts) == kept
        log.append(verdict(7))
    assert verdicts.read(path) == [*(verdict(number) for number in range(kept)), verdict(7)]


def test_a_line_that_went_bad_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    with VerdictLog(path) as log:
        for number in range(3):
            log.append(verdict(number))
    good = path.read_text().splitlines(keepends=True)
    path.write_text(good[0] + good[1][:40] + "\n" + good[2])
    with pytest.raises(VerdictError, match=r"v\.jsonl:2 is no verdict: .*; if .* a log of verdicts, delete that line"):
        VerdictLog(path).__enter__()
    path.write_text(good[0] + good[2])
    with VerdictLog(path) as log:
        assert list(log.verdicts) == [verdict(0).key, verdict(2).key]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with VerdictLog(tmp_path / "v.jsonl"), pytest.raises(LogError, match=f"another process \\({os.getpid()} on"):
        VerdictLog(tmp_path / "v.jsonl").__enter__()
    with VerdictLog(tmp_path / "v.jsonl"):
        pass


@pytest.mark.parametrize("content", [b"notes\n", b"notes", b'{"question": 1}\n', b'{"question": 1}', b"\x1f\x8b\x08"])
def test_another_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes").write_bytes(content)
    with pytest.raises((LogError, VerdictError)):
        VerdictLog(tmp_path / "notes").__enter__()
    assert (tmp_path / "notes").read_bytes() == content
    with pytest.raises((LogError, VerdictError)):  # and not because it is still locked
        VerdictLog(tmp_path / "notes").__enter__()


def test_a_full_disk_is_told_and_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "v.jsonl"
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        real(descriptor, bytes(data)[:50])
        raise OSError(errno.ENOSPC, "No space left on device")

    with VerdictLog(path) as log:
        log.append(verdict(1))
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(LogError, match=r"v\.jsonl: no room is left; its verdicts so far \(1\) are safe"):
            log.append(verdict(2))
        monkeypatch.setattr(os, "write", real)
        log.append(verdict(3))
    assert verdicts.read(path) == [verdict(1), verdict(3)]


def test_a_failure_costs_and_leaves_what_was_there(tmp_path: Path) -> None:
    unparsed = verdict(1, label=None, status="unparsed", price=0.5)
    with VerdictLog(tmp_path / "v.jsonl") as log:
        log.append(unparsed)
        log.append(verdict(1, label=None, status="failed", completion="", error="HTTP 500", price=0.25, attempt=3))
        assert (list(log.verdicts.values()), log.calls, log.spent) == ([unparsed], 4, 0.75)
    with VerdictLog(tmp_path / "v.jsonl") as log:
        assert (list(log.verdicts.values()), log.calls, log.spent) == ([unparsed], 4, 0.75)


def test_rewriting_replaces_all_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    with VerdictLog(path) as log:
        log.append(verdict(1, label=None, status="unparsed"))
        log.rewrite([verdict(1)])
        log.append(verdict(2))
        assert list(log.verdicts.values()) == [verdict(1), verdict(2)]
    assert len(path.read_text().splitlines()) == 2
    assert json.loads(path.read_text().splitlines()[0])["label"] == "A>B"
