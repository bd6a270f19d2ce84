"""`salsa store remove` and `gc`: nothing goes without --yes, and what goes is what was said."""

import os
from pathlib import Path

import pytest

from salsa.store.artifact import Store
from salsa.store.lock import StageLock
from tests.cli.conftest import Ask, Say
from tests.store.artifacts import dead_pid, numbered


def everything(root: Path) -> set[Path]:
    return set(root.rglob("*"))


def stored(store: Store) -> list[str]:
    return [artifact.fingerprint for artifact in store.artifacts()]


ALL = [numbered(number) for number in (0x100, 0x400, 0x200, 0x201, 0x300)]


@pytest.mark.parametrize("words", [["remove", "201"], ["remove", "2", "--with-dependents"], ["gc"]])
@pytest.mark.parametrize("json", [[], ["--json"]])
def test_without_yes_nothing_is_changed(say: Say, store: Store, words: list[str], json: list[str]) -> None:
    words = ["200" if word == "2" else word for word in words]
    before = everything(store.root)
    code, out, _ = say(*words, *json)
    assert code == 0
    assert numbered(0x201)[:16] in out or "--with-dependents" in words
    assert everything(store.root) == before


def test_remove_says_what_goes_and_removes_it(say: Say, store: Store) -> None:
    code, out, _ = say("remove", "201")
    assert code == 0
    assert out.splitlines()[-1] == "would remove 1 artifact, 1.0 kB; --yes does it"
    code, out, _ = say("remove", "201", "--yes")
    assert code == 0
    assert out.splitlines()[-1] == "removed 1 artifact, 1.0 kB"
    assert stored(store) == [identity for identity in ALL if identity != numbered(0x201)]
    assert list((store.root / "temporary").iterdir()) == []


def test_remove_refuses_while_others_depend_on_it(say: Say, ask: Ask, store: Store) -> None:
    for options in ([], ["--yes"]):
        code, out, err = say("remove", "200", *options)
        assert (code, out) == (1, "")
        assert f"tax SFT1 {numbered(0x300)[:16]}" in err
        assert "--with-dependents" in err
        assert stored(store) == ALL
    code, found = ask("remove", "200", "--with-dependents", "--yes")
    assert code == 0
    assert [row["fingerprint"] for row in found["removed"]] == [numbered(number) for number in (0x400, 0x300, 0x200)]
    assert found["removed"][2] == {"fingerprint": numbered(0x200), "bytes": 1006, "kind": "sft", "name": "sft_1"}
    assert (found["bytes"], found["dry_run"]) == (1008, False)
    assert stored(store) == [numbered(0x100), numbered(0x201)]


def test_remove_takes_several_and_knows_that_they_belong_together(ask: Ask, store: Store) -> None:
    code, found = ask("remove", "300", "400", "300", "--yes")
    assert code == 0
    assert [row["fingerprint"] for row in found["removed"]] == [numbered(0x400), numbered(0x300)]
    assert len(stored(store)) == 3


def test_remove_refuses_what_is_being_worked_on(say: Say, store: Store) -> None:
    with StageLock(store.lock_path("sft", numbered(0x201))):
        code, out, err = say("remove", "201", "--yes")
    assert (code, out) == (1, "")
    assert "is being worked on by process" in err
    assert stored(store) == ALL


def test_gc_keeps_what_the_experiments_need(say: Say, ask: Ask, store: Store) -> None:
    code, out, _ = say("gc")
    assert code == 0
    gone, *others = out.splitlines()
    assert gone.split() == ["sft_2", numbered(0x201)[:16], "1.0", "kB"]
    assert others == [
        "kept: 1 result, 4 artifacts with what they need",
        "would remove 1 artifact and 0 leftovers, 1.0 kB; --yes does it",
    ]
    code, found = ask("gc", "--yes")
    assert code == 0
    assert [row["name"] for row in found["removed"]] == ["sft_2"]
    assert found["results"] == {numbered(0x400): f"experiments/{numbered(0x400)[:16]} is there"}
    assert found["kept"] == sorted(numbered(number) for number in (0x100, 0x200, 0x300, 0x400))
    assert (found["bytes"], found["leftovers"], found["notes"], found["dry_run"]) == (1006, [], [], False)
    assert stored(store) == [identity for identity in ALL if identity != numbered(0x201)]
    assert ask("gc", "--yes")[1]["removed"] == []


@pytest.mark.parametrize("option", [["--keep", "201"], ["--keep-newer-than", "2h"]])
def test_gc_keeps_more_if_asked(ask: Ask, store: Store, option: list[str]) -> None:
    assert ask("gc", *option, "--yes")[1]["removed"] == []
    assert stored(store) == ALL


def test_gc_takes_a_result_that_was_given_up_but_never_all(say: Say, ask: Ask, store: Store) -> None:
    (store.root / "experiments" / numbered(0x400)[:16]).rmdir()
    code, out, err = say("gc", "--yes")
    assert (code, out) == (1, "")
    assert "no result is kept" in err
    assert stored(store) == ALL
    assert ask("gc", "--keep", "100", "--yes")[0] == 0
    assert stored(store) == [numbered(0x100)]


def test_gc_waits_for_the_end_of_work(say: Say, store: Store) -> None:
    with StageLock(store.lock_path("align", "e" * 64)):
        code, out, _ = say("gc")
        assert code == 0
        assert "note align eeeeeeeeeeeeeeee is being worked on" in out
        code, out, err = say("gc", "--yes")
    assert (code, out) == (1, "")
    assert "wait for its end" in err
    assert stored(store) == ALL


def test_gc_sweeps_leftovers_and_says_their_size(ask: Ask, say: Say, store: Store) -> None:
    dead = store.root / "temporary" / f"sft-{numbered(0x200)}-{os.uname().nodename}-{dead_pid()}-0a1b2c3d"
    dead.mkdir(parents=True)
    (dead / "weights").write_text("w" * 500)
    checkpoints = store.unfinished("sft", numbered(0x201))  # of an artifact that goes, too
    (checkpoints / "last.ckpt").write_text("c" * 300)
    note = store.record_failure("tax", numbered(0x300), {"error": "e"})
    code, found = ask("gc")
    assert code == 0
    assert [(row["path"], row["bytes"]) for row in found["leftovers"]] == [
        (str(dead), 500),
        (str(checkpoints), 300),
        (str(note), note.stat().st_size),
    ]
    assert found["bytes"] == 1006 + 800 + note.stat().st_size
    assert f"temporary folder of a process that is gone: {dead}, 500 B" in say("gc")[1]
    assert ask("gc", "--yes")[1]["leftovers"] == found["leftovers"]
    assert not any(path.exists() for path in (dead, checkpoints, note))
    assert numbered(0x201) not in stored(store)


def test_gc_gives_up_unfinished_work_only_if_asked(ask: Ask, store: Store) -> None:
    store.record_attempt("align", "e" * 64, {"name": "align SALSA", "inputs": {"init": numbered(0x201)}})
    folder = store.unfinished("align", "e" * 64)
    assert ask("gc", "--yes")[1]["removed"] == []
    for path in (*folder.iterdir(), folder):
        os.utime(path, (1e9, 1e9))
    code, found = ask("gc", "--unfinished-older-than", "7d", "--yes")
    assert code == 0
    assert [row["name"] for row in found["removed"]] == ["sft_2"]
    assert [row["path"] for row in found["leftovers"]] == [str(folder)]
    assert not folder.exists()


def test_gc_stops_at_a_broken_manifest_that_a_result_needs(say: Say, store: Store) -> None:
    (store.root / "store" / "tax" / numbered(0x300) / "manifest.json").write_text("{")
    code, out, err = say("gc", "--yes")
    assert (code, out) == (1, "")
    assert f"salsa store verify --set-aside {numbered(0x300)[:16]}" in err
    assert stored(store) == ALL


def test_gc_keeps_what_is_needed_to_make_again_what_was_set_aside(say: Say, ask: Ask, store: Store) -> None:
    (store.root / "store" / "tax" / numbered(0x300) / "result").write_text("R")
    assert say("verify", "--set-aside")[0] == 1
    assert [row["name"] for row in ask("gc", "--yes")[1]["removed"]] == ["sft_2"]
    assert numbered(0x200) in stored(store)
