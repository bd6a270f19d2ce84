"""A journal reads back whatever a kill left of its last line, and the starts of a stage are kept in one."""

import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from salsa.store import journal
from salsa.store.artifact import Store
from tests.store.artifacts import FP, OTHER, publish


def test_entries_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "journal.jsonl"
    assert journal.read(path) == []
    assert not path.parent.exists()
    assert [journal.append(path, {"n": number}) for number in range(3)] == [1, 2, 3]
    assert journal.read(path) == [{"n": 0}, {"n": 1}, {"n": 2}]


@settings(max_examples=60, deadline=None)
@given(earlier=st.integers(0, 3), said=st.text(max_size=20), data=st.data())
def test_a_kill_in_mid_write_costs_at_most_that_entry(earlier: int, said: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j" / "journal.jsonl"
        for number in range(earlier):
            journal.append(path, {"n": number})
        whole = path.stat().st_size if earlier else 0
        journal.append(path, {"said": said})
        end = data.draw(st.integers(whole, path.stat().st_size))
        size = path.stat().st_size
        os.truncate(path, end)
        kept = [{"n": number} for number in range(earlier)] + ([{"said": said}] if end >= size - 1 else [])
        assert journal.read(path) == kept
        assert journal.append(path, {"next": True}) == len(kept) + 1
        assert journal.read(path) == [*kept, {"next": True}]
        assert path.read_bytes().count(b"\n") == len(kept) + 1


def test_what_a_power_cut_leaves_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "j" / "journal.jsonl"
    journal.append(path, {"n": 1})
    for torn in (b"\0" * 50, b"\xff\xfe", b"[1, 2]", b'"text"'):
        with path.open("ab") as file:
            file.write(torn)
        count = len(journal.read(path))
        assert journal.append(path, {"after": "it"}) == count + 1


def test_what_has_no_json_is_written_as_text(tmp_path: Path) -> None:
    path = tmp_path / "j" / "journal.jsonl"
    journal.append(path, {"where": Path("x")})
    assert journal.read(path) == [{"where": "x"}]


def test_starts_of_a_stage_are_counted_until_it_succeeds(store: Store) -> None:
    assert store.attempts("sft", FP) == []
    assert not store.root.exists()
    assert store.record_attempt("sft", FP, {"inputs": {"base": OTHER}}) == 1
    assert store.record_attempt("sft", FP, {"time": 3.0}) == 2
    assert store.record_attempt("sft", OTHER, {}) == 1
    first, second = store.attempts("sft", FP)
    assert (first["host"], first["pid"]) == (os.uname().nodename, os.getpid())
    assert first["inputs"] == {"base": OTHER}
    assert first["time"] > 3.0
    assert second["time"] == 3.0
    assert (store.unfinished("sft", FP) / "attempts.jsonl").is_file()
    publish(store)
    assert store.attempts("sft", FP) == []
    assert len(store.attempts("sft", OTHER)) == 1
