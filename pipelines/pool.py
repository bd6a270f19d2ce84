"""The worker processes of one command: started when there is work, kept between the jobs of a sweep, ended with it."""

import atexit
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
COMMAND = (sys.executable, "-m", "pipelines.worker")
SAME_DEATHS = 2
"""Deaths of workers at the same step of a stage, or outside of any, after which no other worker is sent there."""

Event = dict[str, Any]


class WorkerDied(RuntimeError):
    """Every worker process ended before the job did."""


@dataclass
class _Worker:
    """A place for a worker process; one that dies is replaced."""

    index: int
    log_path: Path
    environment: Mapping[str, str]
    log: IO[bytes]
    process: "subprocess.Popen[str]"
    stage: Event | None = None
    """The stage that it works on, as the event of its start told it."""
    done: int | None = None
    """Steps of that stage that were done when it last said so."""


@dataclass
class _Deaths:
    """How often workers died at one step of a stage, without any getting further."""

    step: int
    count: int = 1


class Pool:
    """Worker processes that run the same plan side by side; the store's locks share the stages out.

    `environments` has one entry a worker: variables that only it gets, such as the GPU that it may see. A worker that
    is ended may take `save_seconds` to save what it trains before it is killed.
    """

    def __init__(self, environments: Sequence[Mapping[str, str]], log_folder: Path, save_seconds: float = 60.0) -> None:
        self._save_seconds = save_seconds
        self._events: queue.Queue[tuple[_Worker, subprocess.Popen[str], Event | None]] = queue.Queue()
        log_folder.mkdir(parents=True, exist_ok=True)
        self._workers = []
        for index, environment in enumerate(environments, start=1):
            path = log_folder / f"worker_{index}.log"
            log = path.open("ab")
            worker = _Worker(index, path, environment, log, _start(log, environment))
            self._workers.append(worker)
            self._listen(worker)
        atexit.register(self.close)

    def alive(self) -> bool:
        """Return whether any worker is left."""
        return any(worker.process.poll() is None for worker in self._workers)

    def run(
        self,
        job: dict[str, Any],
        handle: Callable[[Event], None],
        tick: Callable[[], None],
        give_up: Callable[[Event, str, int | None], None],
    ) -> dict[str, str]:
        """Run a job on every worker; call `handle(event)` for each event and `tick()` a few times a second.

        A worker that dies is replaced, and its stage resumed. Where that is of no use, because workers die twice at the
        same step, `give_up(start event, reason, step)` is called first, which should note the stage as failed.
        Returns the state of each stage by fingerprint. Raises `WorkerDied` when no worker survives.
        """
        line = json.dumps(job) + "\n"
        running: set[int] = set()
        for worker in self._workers:
            if worker.process.poll() is not None or not _send(worker.process, line):
                self._replace(worker)
                if not _send(worker.process, line):
                    continue
            running.add(worker.index)
        deaths: dict[str, _Deaths] = {}
        state: dict[str, str] = {}
        reasons: list[str] = []
        finished = 0
        while running:
            try:
                worker, process, event = self._events.get(timeout=0.1)
            except queue.Empty:
                tick()
                continue
            if process is not worker.process:
                continue  # the last words of a process that has been replaced
            if event is None:
                running.discard(worker.index)
                stage = worker.stage
                reason = self._reason(worker)
                died = {"event": "died", "worker": worker.index, "log": str(worker.log_path)}
                handle(died | {"during": stage and stage["stage"], "why": reason})
                if self._worth_another(worker, deaths, give_up, reason):
                    self._replace(worker)
                    if _send(worker.process, line):
                        running.add(worker.index)
            elif event["event"] == "finished":
                running.discard(worker.index)
                finished += 1
                state |= event["state"]
            elif event["event"] == "crashed":
                reasons.append(event["error"])
            else:
                self._follow(worker, event)
                handle(event | {"worker": worker.index})
        if not finished:
            logs = ", ".join(str(worker.log_path) for worker in self._workers)
            why = "; ".join(dict.fromkeys(reasons)) or "every worker process ended early"
            raise WorkerDied(f"{why}; logs: {logs}")
        return state

    def close(self) -> None:
        """End the workers, whose work the next run resumes; Ctrl-C does not let them save."""
        processes = [worker.process for worker in self._workers]
        for process in processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + self._save_seconds
        for process in processes:
            try:
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            except KeyboardInterrupt:
                deadline = 0.0
                process.kill()
                process.wait()
        for worker in self._workers:
            worker.log.close()
        atexit.unregister(self.close)

    def _follow(self, worker: _Worker, event: Event) -> None:
        """Keep in mind what a worker works on."""
        name = event["event"]
        if name == "started":
            worker.stage, worker.done = event, None
        elif name == "progress":
            worker.done = event["done"]
        elif name in ("done", "failed"):
            worker.stage, worker.done = None, None

    def _worth_another(
        self,
        worker: _Worker,
        deaths: dict[str, _Deaths],
        give_up: Callable[[Event, str, int | None], None],
        reason: str,
    ) -> bool:
        """Return whether a new worker may get further than the one that died."""
        stage = worker.stage
        key = "" if stage is None else stage["fingerprint"]
        step = -1 if worker.done is None else worker.done
        known = deaths.get(key)
        if known is None or step > known.step:
            deaths[key] = _Deaths(step)
            return True
        known.count += 1
        if known.count < SAME_DEATHS:
            return True
        if stage is None:
            return False
        give_up(stage, f"the worker process died {known.count} times at the same place: {reason}", worker.done)
        return True

    def _reason(self, worker: _Worker) -> str:
        code = worker.process.wait()
        if code >= 0:
            return f"it ended with code {code}"
        return f"signal {-code}" + (" (out of memory?)" if code == -9 else "")

    def _replace(self, worker: _Worker) -> None:
        worker.process = _start(worker.log, worker.environment)
        worker.stage, worker.done = None, None
        self._listen(worker)

    def _listen(self, worker: _Worker) -> None:
        threading.Thread(target=self._pass_on, args=(worker, worker.process), daemon=True).start()

    def _pass_on(self, worker: _Worker, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                # A worker that dies while it writes leaves half a line.
                if line.endswith("\n"):
                    self._events.put((worker, process, json.loads(line)))
        finally:
            self._events.put((worker, process, None))


def _start(log: IO[bytes], environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def _send(process: "subprocess.Popen[str]", line: str) -> bool:
    """Write a line to a process; return False if it is no longer there to read it."""
    assert process.stdin is not None
    try:
        process.stdin.write(line)
        process.stdin.flush()
    except BrokenPipeError:
        # What was not written would be tried once more, and complained about, when the pipe is closed.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        return False
    return True
