"""SIGTERM ends asynchronous work wherever it arrives, and only if something answers it so."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from salsa.ending import answering, run_async
from tests.judging.server import serving

ROOT = Path(__file__).parents[1]
ASKS = """
import os
import signal
import socket
import sys
from pathlib import Path
from pipelines.ending import TERMINATED, Terminated, terminable
from salsa.judging.endpoint import Endpoint
from salsa.judging.judgment import Spending, judge
from salsa.judging.log import VerdictLog
from salsa.judging.matches import Asked, singles
from salsa.judging.prompts import own
from salsa.judging.questions import Answers, Question, QuestionSet
from salsa.judging.schedule import Limits

url, folder, method, count = sys.argv[1:]
real, calls = getattr(socket.socket, method), 0

def signalled(self, *given):
    global calls
    calls += 1
    if calls == int(count):
        os.kill(os.getpid(), signal.SIGTERM)
    return real(self, *given)

setattr(socket.socket, method, signalled)
questions = QuestionSet("s", tuple(Question(str(number), (f"q{number}",)) for number in range(200)))
replies = Answers("m", "s", {each.id: (f"a{each.id}",) for each in questions.questions})
requests = singles(questions, replies, Asked("j", own()))
try:
    with terminable(), VerdictLog(Path(folder) / "v.jsonl") as log:
        judge(requests, Endpoint(url, "j", ""), log, Limits(8), Spending())
except Terminated:
    sys.exit(TERMINATED)
"""


def terminate_soon() -> None:
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()


async def for_ever(ended: list[str]) -> None:
    try:
        await asyncio.sleep(60)
    finally:
        ended.append("cancelled")


def test_what_runs_is_cancelled_before_the_answer_is_raised() -> None:
    ended: list[str] = []
    with answering():
        before = signal.getsignal(signal.SIGTERM)
        terminate_soon()
        with pytest.raises(SystemExit) as raised:
            run_async(for_ever(ended))
        assert signal.getsignal(signal.SIGTERM) is before
    assert raised.value.code == 128 + signal.SIGTERM
    assert ended == ["cancelled"]


@pytest.fixture
def seen() -> Iterator[list[int]]:
    """Signals that came in, which a handler does no more than note, as launchers do that let the job finish."""
    noted: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: noted.append(number))
    yield noted
    signal.signal(signal.SIGTERM, before)


def test_what_is_answered_without_an_end_goes_on(seen: list[int]) -> None:
    terminate_soon()

    async def short() -> str:
        while not seen:
            await asyncio.sleep(0.01)
        return "done"

    assert run_async(short()) == "done"
    assert seen == [signal.SIGTERM]


def test_another_thread_runs_as_ever() -> None:
    async def answer() -> int:
        return 3

    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(run_async(answer())))
    thread.start()
    thread.join()
    assert found == [3]


@pytest.mark.parametrize(("method", "count"), [("send", 1), ("send", 60), ("recv", 2), ("recv", 90)])
def test_no_sigterm_is_lost_while_a_judge_is_asked(method: str, count: int, tmp_path: Path) -> None:
    """It arrives while asyncio writes or reads, which catches what a handler raises there."""
    with serving(lambda exchange: exchange.say("Verdict: 5")) as server:
        words = [sys.executable, "-c", ASKS, server.url, str(tmp_path), method, str(count)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert "Fatal" not in done.stderr
    kept = (tmp_path / "v.jsonl").read_text().splitlines()
    assert len(kept) < 200
    assert all(line.endswith("}") for line in kept)
