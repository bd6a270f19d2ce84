"""A stage's lock excludes processes, ends with its holder however that dies, and says who holds it."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from salsa.store.lock import StageLock, gone, working

ROOT = Path(__file__).parents[2]

HOLD = """
import sys, time
from salsa.store.lock import StageLock
lock = StageLock(sys.argv[1])
assert lock.try_acquire()
print("held", flush=True)
time.sleep(60)
"""

HOLD_WITH_CHILD = """
import os, sys, time
from salsa.store.lock import StageLock
lock = StageLock(sys.argv[1])
assert lock.try_acquire()
child = os.fork()
if child == 0:
    lock.release()  # not the child's to give back
    print("child", lock.held, StageLock(sys.argv[1]).try_acquire(), os.getpid(), flush=True)
    time.sleep(60)
time.sleep(60)
"""

COMPETE = """
import os, sys
from salsa.store.lock import StageLock
lock, room = StageLock(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
entered = 0
while entered < 150:
    if lock.try_acquire():
        os.close(os.open(room, os.O_CREAT | os.O_EXCL))  # fails if the other one is inside
        os.unlink(room)
        entered += 1
        lock.release()
"""


@contextmanager
def started(program: str, *arguments: Path) -> Iterator[subprocess.Popen[str]]:
    """A Python process that is killed at the end, whatever happens."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "locks" / "sft.lock"


def test_one_object_holds_it_at_a_time_also_within_a_process(path: Path) -> None:
    first, second = StageLock(path), StageLock(path)
    assert first.try_acquire()
    assert not second.try_acquire()
    assert (first.held, second.held) == (True, False)
    second.release()  # gives back nothing
    assert not second.try_acquire()
    first.release()
    assert second.try_acquire()
    second.release()


def test_taking_it_twice_is_holding_it_once(path: Path) -> None:
    lock = StageLock(path)
    assert lock.try_acquire()
    assert lock.try_acquire()
    lock.release()
    assert not lock.held
    other = StageLock(path)
    assert other.try_acquire()
    other.release()


def test_with_keeps_what_was_acquired_and_releases_also_after_an_error(path: Path) -> None:
    lock = StageLock(path)
    assert lock.try_acquire()
    with lock:
        assert not StageLock(path).try_acquire()
    assert not lock.held
    with pytest.raises(KeyError), lock:
        raise KeyError
    assert not lock.held
    with StageLock(path) as other:
        assert other.held


def test_with_waits_until_it_is_free(path: Path) -> None:
    first = StageLock(path)
    assert first.try_acquire()
    threading.Timer(0.2, first.release).start()
    begin = time.monotonic()
    with StageLock(path) as second:
        assert second.held
    assert time.monotonic() - begin > 0.15


def test_the_owner_is_known_while_it_is_held(path: Path) -> None:
    lock = StageLock(path)
    assert StageLock(path).owner() is None
    before = time.time()
    with lock:
        owner = StageLock(path).owner()
        assert owner is not None
        assert (owner["host"], owner["pid"]) == (os.uname().nodename, os.getpid())
        assert before <= owner["since"] <= time.time()
    assert StageLock(path).owner() is None
    assert [file.name for file in path.parent.iterdir()] in ([], [path.name])


def test_owners_on_other_hosts_are_believed_and_broken_files_are_not(path: Path) -> None:
    path.parent.mkdir()
    file = path.with_name(path.name + ".owner.json")
    elsewhere = {"host": "another-host", "pid": 1, "since": 0.0}
    file.write_text(json.dumps(elsewhere))
    assert StageLock(path).owner() == elsewhere
    for text in ("", '{"host": "a', "[]", '{"host": "a"}', '{"host": "a", "pid": null}'):
        file.write_text(text)
        assert StageLock(path).owner() is None


def test_kill_9_of_the_holder_frees_it(path: Path) -> None:
    lock = StageLock(path)
    with started(HOLD, path) as holder:
        assert line_of(holder) == "held"
        assert not lock.try_acquire()
        owner = lock.owner()
        assert owner is not None
        assert owner["pid"] == holder.pid
        holder.send_signal(signal.SIGKILL)
        assert holder.wait(10) == -signal.SIGKILL
        assert lock.owner() is None
        assert lock.try_acquire()
        owner = lock.owner()
        assert owner is not None
        assert owner["pid"] == os.getpid()
        lock.release()


def test_forked_children_of_the_holder_neither_have_it_nor_keep_it_after_its_death(path: Path) -> None:
    lock = StageLock(path)
    with started(HOLD_WITH_CHILD, path) as holder:
        word, held, got, child = line_of(holder).split()
        try:
            assert (word, held, got) == ("child", "False", "False")
            assert not lock.try_acquire()
            assert lock.owner() is not None
            holder.send_signal(signal.SIGKILL)
            holder.wait(10)
            assert not gone(os.uname().nodename, int(child))
            assert lock.try_acquire()
            lock.release()
        finally:
            os.kill(int(child), signal.SIGKILL)


def test_two_processes_that_race_are_never_both_inside(path: Path, tmp_path: Path) -> None:
    arguments = (path, tmp_path / "room")
    with started(COMPETE, *arguments) as first, started(COMPETE, *arguments) as second:
        for process in (first, second):
            assert line_of(process) == "ready"
        for process in (first, second):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert (first.wait(20), second.wait(20)) == (0, 0)


def test_gone_tells_dead_processes_of_this_host_only() -> None:
    host = os.uname().nodename
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait(10)
    assert gone(host, process.pid)
    assert not gone("another-host", process.pid)
    assert not gone(host, os.getpid())
    assert not gone(host, 1)  # exists; belongs to somebody else unless the tests run as root


def test_working_file_systems_are_recognised_without_a_trace(tmp_path: Path) -> None:
    assert working(tmp_path / "new" / "locks")
    assert list((tmp_path / "new" / "locks").iterdir()) == []


def test_file_systems_that_only_pretend_to_lock_are_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    assert not working(tmp_path)


@pytest.mark.filterwarnings("ignore:flock not supported")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def test_file_systems_without_locks_are_found_out(
    number: int, tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    assert not working(tmp_path)
    with pytest.raises(OSError, match=r"locks do not work on this file system.*sft\.lock"):
        StageLock(path).try_acquire()
    monkeypatch.undo()
    assert StageLock(path).try_acquire()  # nothing of the failed attempt stays in the way


def test_a_folder_that_cannot_be_made_is_an_error_not_an_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        working(tmp_path / "file" / "locks")
