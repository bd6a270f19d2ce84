"""Audit events are told apart, and an armed process dies where it says it does."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import killer, points
from tests.chaos.ledger import Budget, Ledger
from tests.chaos.points import Fact, Report, Sighting, Torn, Watcher
from tests.chaos.shells import ROOT, SITE

FINGERPRINT = "ab" * 32
STAGE = f"align/{FINGERPRINT}"
READ, WRITE, APPEND = os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_WRONLY | os.O_APPEND


@pytest.fixture
def watcher(tmp_path: Path) -> Watcher:
    for folder in (f"unfinished/{STAGE}/trace", f"temporary/align-{FINGERPRINT}-host-1-ab", "store/align", "locks"):
        (tmp_path / folder).mkdir(parents=True)
    return Watcher(tmp_path)


def told(reports: Iterator[Report]) -> list[str]:
    return [report.point if isinstance(report, Sighting) else report.what for report in reports]


def opens(watcher: Watcher, path: Path, flags: int) -> list[str]:
    return told(watcher.see("open", (path, "w", flags)))


def test_an_artifact_is_followed_from_its_folder_to_the_removal_of_its_checkpoints(
    watcher: Watcher, tmp_path: Path
) -> None:
    draft, target = tmp_path / f"temporary/align-{FINGERPRINT}-host-1-ab", tmp_path / "store" / STAGE
    (tmp_path / f"locks/align-{FINGERPRINT}.lock.owner.json").write_text(json.dumps({"pid": os.getpid()}))
    assert told(watcher.see("os.mkdir", (draft, 0o777, -1))) == ["began", points.BEGUN]
    assert told(watcher.see("os.mkdir", (draft, 0o777, -1))) == [], "tried again after its parent was made"
    assert opens(watcher, draft / "config.json", WRITE) == []
    assert opens(watcher, draft / "config.json", READ) == []
    assert opens(watcher, draft / "critic/config.json", WRITE) == [points.BETWEEN_FILES]
    assert opens(watcher, draft / "manifest.json", WRITE) == [points.MANIFEST]
    (draft / "manifest.json").write_text("{}")
    assert told(watcher.see("os.rename", (draft, target, -1, -1))) == ["attempted", points.BEFORE_PUBLICATION]
    draft.rename(target)
    assert opens(watcher, target.parent, READ) == ["published", points.AFTER_PUBLICATION]
    assert told(watcher.see("shutil.rmtree", (tmp_path / "unfinished" / STAGE, None))) == [points.BEFORE_CLEANING]
    assert told(watcher.see("os.remove", ("progress.json", 5))) == []
    assert told(watcher.see("os.remove", ("last.ckpt", 5))) == [points.CLEANING]


def test_a_rename_that_did_not_happen_publishes_nothing(watcher: Watcher, tmp_path: Path) -> None:
    draft, target = tmp_path / f"temporary/align-{FINGERPRINT}-host-1-ab", tmp_path / "store" / STAGE
    (draft / "manifest.json").write_text("{}")
    target.mkdir()
    (target / "manifest.json").write_text("{}")
    assert told(watcher.see("os.rename", (draft, target, -1, -1))) == ["refused", points.BEFORE_PUBLICATION]
    assert told(watcher.see("shutil.rmtree", (draft, None))) == []


def test_a_training_is_followed_through_its_log_its_checkpoints_and_its_resuming(
    watcher: Watcher, tmp_path: Path
) -> None:
    folder = tmp_path / "unfinished" / STAGE
    log, new = folder / "metrics.jsonl", folder / "last.ckpt.17.new"
    assert opens(watcher, folder / "progress.json", WRITE) == [points.NOTE]
    assert opens(watcher, log, APPEND) == ["trains"]
    log.write_text('{"step": 0}\n{"step": 1}\n{"st')
    assert opens(watcher, folder / "progress.json", WRITE) == [points.LOG, points.NOTE]
    assert opens(watcher, folder / "trace/step_00002.safetensors.new", WRITE) == [points.TRACE]
    assert opens(watcher, new, WRITE) == [points.CHECKPOINT]
    assert told(watcher.see("os.rename", ("/tmp/somewhere", new, -1, -1))) == [points.CHECKPOINT]
    new.write_text("weights")
    assert told(watcher.see("os.rename", (new, folder / "last.ckpt", -1, -1))) == [points.BEFORE_CHECKPOINT]
    new.rename(folder / "last.ckpt")
    saved, at = watcher.see("open", (folder, None, READ))
    assert isinstance(saved, Fact)
    assert (saved.what, saved.values) == ("saved", {"steps": 2})
    assert told(iter([at])) == [points.AFTER_CHECKPOINT]
    assert opens(watcher, folder / "attempts.jsonl", APPEND) == [points.JOURNAL]
    assert told(watcher.see("os.rename", (new, folder / "last.ckpt.damaged-1", -1, -1))) == ["set aside"]
    kept = folder / "metrics.jsonl.new"
    kept.write_text('{"step": 0}\n')
    assert told(watcher.see("os.rename", (kept, log, -1, -1))) == [points.REWIND]
    kept.rename(log)
    (resumed,) = watcher.see("open", (log, "r", READ))
    assert isinstance(resumed, Fact)
    assert (resumed.what, resumed.values["steps"], resumed.values["repeated"]) == ("resumed", 1, 1)


def test_a_lock_is_waited_for_only_if_another_living_process_holds_it(watcher: Watcher, tmp_path: Path) -> None:
    lock = tmp_path / f"locks/align-{FINGERPRINT}.lock"
    owner = lock.with_name(f"{lock.name}.owner.json")
    assert opens(watcher, lock, WRITE) == []
    assert opens(watcher, owner, WRITE) == [points.LOCKING]
    for process, expected in ((os.getpid(), []), (2**30, []), (os.getppid(), [points.WAITING])):
        owner.write_text(json.dumps({"host": "here", "pid": process}))
        assert opens(watcher, lock, WRITE) == expected


def test_reports_for_people_are_seen_and_other_folders_are_not(watcher: Watcher, tmp_path: Path) -> None:
    draft = tmp_path / f"temporary/report-{FINGERPRINT}-host-1-ab"
    assert told(watcher.see("os.mkdir", (draft, 0o777, -1))) == [], "it does not hold the stage: it begins no work"
    assert opens(watcher, draft / "table.md", WRITE) == []
    assert opens(watcher, draft / "page.html", WRITE) == [points.EXPORT]
    assert told(watcher.see("os.rename", (draft, tmp_path / "experiments/abcd", -1, -1))) == [points.BEFORE_EXPORT]
    assert opens(watcher, tmp_path.parent / draft.name / "page.html", WRITE) == []
    assert told(watcher.see("os.remove", ("progress.json", 5))) == []


@pytest.mark.parametrize("seed", range(20))
def test_a_torn_log_keeps_what_was_durable_and_ends_in_half_a_line(tmp_path: Path, seed: int) -> None:
    log = tmp_path / "metrics.jsonl"
    lines = b"".join(json.dumps({"step": step}).encode() + b"\n" for step in range(5))
    log.write_bytes(lines)
    durable = len(lines) * 2 // 5
    killer.tear(Torn(log, appends=True, durable=durable), random.Random(seed))
    torn = log.read_bytes()
    assert torn != lines
    assert torn.startswith(lines[:durable])
    assert torn.startswith(lines) or lines.startswith(torn)


def test_a_torn_file_has_half_of_what_it_was_to_hold(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"12345678")
    killer.tear(Torn(tmp_path / "last.ckpt.17.new", like=tmp_path / "last.ckpt"), random.Random(0))
    assert (tmp_path / "last.ckpt.17.new").read_bytes() == b"1234"
    assert (tmp_path / "last.ckpt").read_bytes() == b"12345678"


PUBLISH = """
import sys
from pathlib import Path
from salsa.store.artifact import Store
from salsa.store.lock import StageLock
store, fingerprint = Store(Path(sys.argv[1])), "ab" * 32
lock = StageLock(store.lock_path("soup", fingerprint))
assert lock.try_acquire()
folder = store.temporary("soup", fingerprint)
for name in ("one", "two"):
    (folder / name).write_text(name)
store.publish("soup", fingerprint, folder, {"metrics": {}})
lock.release()
"""
DIED_AT = (
    *(points.LOCKING, points.BEGUN, points.BETWEEN_FILES, points.MANIFEST, points.BEFORE_PUBLICATION),
    *(points.AFTER_PUBLICATION, points.BEFORE_CLEANING),
)


def _publish(outputs: Path, ledger: Ledger, start: int) -> int:
    environment = {
        killer.LEDGER: str(ledger.folder),
        killer.OUTPUTS: str(outputs),
        killer.SHELL: "0",
        killer.START: str(start),
        killer.SEED: "0",
        killer.HARNESS: str(os.getpgrp()),
        "PYTHONPATH": os.pathsep.join([str(SITE), str(ROOT)]),
    }
    command = [sys.executable, "-c", PUBLISH, str(outputs)]
    return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode


def test_an_armed_process_dies_once_at_each_point_and_then_lives(tmp_path: Path) -> None:
    ledger, killed = Ledger(tmp_path / "ledger"), []
    ledger.open(Budget(str(tmp_path), named=len(DIED_AT), random=0, weights={}, total=1, slack=len(DIED_AT)))
    for start in range(60):
        # A folder a life, because a stage that is published is not published again; the ledger is the same.
        code = _publish(tmp_path / "outputs" / str(start), ledger, start)
        assert code in (0, -signal.SIGKILL)
        killed += [start] if code else []
        if len(killed) == len(DIED_AT):
            break
    assert [kill["start"] for kill in ledger.kills()] == killed
    assert {kill["point"] for kill in ledger.kills()} == set(DIED_AT)
    assert _publish(tmp_path / "outputs/last", ledger, 60) == 0
    assert ledger.facts()[-1]["what"] == "published"
    assert ledger.exhausted()


def test_another_sitecustomize_still_runs_and_nothing_is_armed_unasked(
    tmp_path: Path,
) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('theirs')")
    path = os.pathsep.join([str(SITE), str(tmp_path)])
    command = [sys.executable, "-c", "import sys; print('tests.chaos.killer' in sys.modules)"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["theirs", "False"]
