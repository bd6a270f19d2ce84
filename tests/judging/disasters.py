"""Kills and a full disk, on the real command with a local server."""

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from salsa.judging.matches import Asked, pairs
from salsa.judging.prompts import own
from salsa.judging.questions import read_answers, read_questions
from salsa.judging.request import Request
from tests.judging.faults import GOOD, Row, account
from tests.judging.server import Server, serving

QUESTIONS = 30
CONCURRENCY = 4
ROOT = Path(__file__).parents[2]


def files(folder: Path) -> list[str]:
    """Write questions and the answers of two models, and return the arguments that name them."""
    asked = [{"id": n, "question": f"What is {n}?"} for n in range(QUESTIONS)]
    for name, rows in (
        ("questions", asked),
        ("tuned", [{"id": n, "reply": f"It is {n}."} for n in range(QUESTIONS)]),
        ("base", [{"id": n, "reply": f"{n}?"} for n in range(QUESTIONS)]),
    ):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [str(folder / "tuned.jsonl"), str(folder / "base.jsonl"), "--questions", str(folder / "questions.jsonl")]


def requests(folder: Path) -> list[Request]:
    """Return what the command asks for these files."""
    questions = read_questions(folder / "questions.jsonl")
    both = [read_answers(folder / f"{name}.jsonl", questions.questions) for name in ("tuned", "base")]
    return pairs(questions, both[0], both[1], Asked("m", own(), {"temperature": 0.0}))


def start(folder: Path, server: Server, prepare: Callable[[], None] | None = None) -> "subprocess.Popen[str]":
    """Start the command in a process of its own."""
    words = [sys.executable, "-m", "salsa.cli", "judge", *files(folder), "--judge-url", server.url]
    words += ["--judge-model", "m", "--out", str(folder / "v.jsonl"), "--concurrency", str(CONCURRENCY)]
    return subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=prepare
    )


def killed(folder: Path, kills: int) -> Row:
    """Kill the command `kills` times in the middle of its work, with SIGKILL, and let it end after that."""

    def script(exchange: object) -> None:
        time.sleep(0.01)
        exchange.say(GOOD)  # type: ignore[attr-defined]

    with serving(script) as server:
        for number in range(1, kills + 1):
            process = start(folder, server)
            # Kills are spread over the work.
            while server.calls < number * 2 * QUESTIONS // (kills + 1) and process.poll() is None:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=60)
        before = server.calls
        _end(start(folder, server))
        calls = server.calls
    lost, twice = account(folder / "v.jsonl", requests(folder))
    name = f"kill -9, {kills} times ({2 * QUESTIONS} requests, {CONCURRENCY} at once)"
    return Row(name, before, "killed", calls - before, lost, twice)


def full(folder: Path) -> tuple[Row, str]:
    """Run the command where no file may grow beyond 20 kB, then without that limit; return what it said too."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    with serving(lambda exchange: exchange.say(GOOD)) as server:
        process = start(folder, server, limited)
        _, said = process.communicate(timeout=60)
        before = server.calls
        whole = all(line.endswith("}") for line in (folder / "v.jsonl").read_text().splitlines())
        _end(start(folder, server))
        calls = server.calls
    lost, twice = account(folder / "v.jsonl", requests(folder))
    result = f"code {process.returncode}, says so, {'whole lines only' if whole else 'a torn line'}"
    return Row(f"a full disk ({2 * QUESTIONS} requests)", before, result, calls - before, lost, twice), said


def _end(process: "subprocess.Popen[str]") -> None:
    out, said = process.communicate(timeout=60)
    assert process.returncode == 0, out + said
