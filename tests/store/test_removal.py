"""Nothing is removed from under what was made of it, or from under those who work on it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from salsa.store.artifact import Store
from salsa.store.lineage import Lineage
from salsa.store.lock import StageLock
from salsa.store.removal import RemovalError, planned, removed
from tests.store.artifacts import FP, numbered, place, publish, written

ROOT = Path(__file__).parents[2]

REMOVE_AND_DIE = """
import os, shutil, signal, sys
from salsa.store.artifact import Store
def fatal(path):
    os.unlink(path / "result")
    os.kill(os.getpid(), signal.SIGKILL)
shutil.rmtree = fatal
Store(sys.argv[1]).remove("sft", sys.argv[2])
"""


@pytest.fixture
def chain(store: Store) -> Lineage:
    place(store, 1)
    place(store, 2, {"base": 1})
    place(store, 3, {"model": 2})
    place(store, 4, {"base": 1})
    return Lineage(store.artifacts())


def test_an_artifact_is_removed_once(store: Store) -> None:
    artifact = publish(store)
    assert store.remove("sft", FP) is True
    assert not artifact.path.exists()
    assert store.find("sft", FP) is None
    assert store.remove("sft", FP) is False
    assert list((store.root / "temporary").iterdir()) == []


def test_a_kill_in_the_middle_leaves_no_half_artifact_and_the_rest_is_swept(store: Store) -> None:
    publish(store)
    command = [sys.executable, "-c", REMOVE_AND_DIE, str(store.root), FP]
    assert subprocess.run(command, cwd=ROOT, timeout=20).returncode == -signal.SIGKILL
    assert store.find("sft", FP) is None
    assert not (store.root / "store" / "sft" / FP).exists()
    (left,) = (store.root / "temporary").iterdir()
    assert store.clean_temporary() == [left]


def test_what_others_were_made_from_stays_unless_they_go_too(store: Store, chain: Lineage) -> None:
    with pytest.raises(RemovalError, match=r"--with-dependents") as caught:
        planned(store, chain, [numbered(2)], with_dependents=False)
    assert numbered(3)[:16] in str(caught.value)
    assert numbered(4)[:16] not in str(caught.value)
    plan = planned(store, chain, [numbered(2)], with_dependents=True)
    assert [artifact.fingerprint for artifact in plan] == [numbered(3), numbered(2)]
    assert planned(store, chain, [numbered(2), numbered(3)], with_dependents=False) == plan
    assert list(removed(store, plan)) == plan
    assert [artifact.fingerprint for artifact in store.artifacts()] == [numbered(1), numbered(4)]


def test_what_is_being_worked_on_stays(store: Store, chain: Lineage) -> None:
    with StageLock(store.lock_path("sft", numbered(3))):
        for chosen in (3, 2):
            with pytest.raises(RemovalError, match=rf"sft {numbered(3)[:16]} is being worked on by process"):
                planned(store, chain, [numbered(chosen)], with_dependents=True)
        with pytest.raises(RemovalError, match="is being worked on"):
            list(removed(store, [chain.artifacts[numbered(3)]]))
    assert len(list(store.artifacts())) == 4


def test_what_a_stage_at_work_is_known_to_read_stays(store: Store, chain: Lineage) -> None:
    working = "e" * 64
    store.record_attempt("align", working, {"inputs": {"init": numbered(3)}})
    planned(store, chain, [numbered(3)], with_dependents=False)  # it was given up: nobody is at work
    with StageLock(store.lock_path("align", working)):
        with pytest.raises(RemovalError, match=rf"align {working[:16]} is being worked on .* and reads sft 3"):
            planned(store, chain, [numbered(3)], with_dependents=False)
        planned(store, chain, [numbered(4)], with_dependents=False)


def test_another_artifact_with_a_broken_manifest_can_be_removed(store: Store) -> None:
    (place(store, 1).path / "manifest.json").write_text("{")
    plan = planned(store, Lineage(store.artifacts()), [numbered(1)], with_dependents=False)
    assert [artifact.fingerprint for artifact in removed(store, plan)] == [numbered(1)]
    assert list(store.artifacts()) == []


def test_removal_disturbs_no_temporary_folder_of_the_living(store: Store) -> None:
    publish(store)
    working = written(store, {"result": "half"}, "sft", "e" * 64)
    store.remove("sft", FP)
    assert (working / "result").read_text() == "half"
    assert list((store.root / "temporary").iterdir()) == [working]
