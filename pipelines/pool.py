"""The worker processes of one command: started when there is work, kept between the jobs of a sweep, ended with it."""

import atexit
import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
COMMAND = (sys.executable, "-m", "pipelines.worker")
CLOSE_SECONDS = 10.0
"""How long a worker may take to save what it trains before it is killed."""


class WorkerDied(RuntimeError):
    """Every worker process ended before the job did."""


class Pool:
    """Worker processes that run the same plan side by side; the store's locks share the stages out."""

    def __init__(self, workers: int, log_folder: Path) -> None:
        self._events: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self._logs: list[IO[bytes]] = []
        self._processes: list[subprocess.Popen[str]] = []
        log_folder.mkdir(parents=True, exist_ok=True)
        self.log_paths = [log_folder / f"worker_{index}.log" for index in range(1, workers + 1)]
        for index, path in enumerate(self.log_paths):
            log = path.open("ab")
            process = subprocess.Popen(
                COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
            )
            self._logs.append(log)
            self._processes.append(process)
            threading.Thread(target=self._listen, args=(index, process), daemon=True).start()
        atexit.register(self.close)

    def alive(self) -> bool:
        """Return whether any worker is left."""
        return any(process.poll() is None for process in self._processes)

    def run(self, job: dict[str, Any], handle: Any, tick: Any) -> dict[str, str]:
        """Run a job on every worker; call `handle(event)` for each event and `tick()` a few times a second.

        Returns the state of each stage by fingerprint. Raises `WorkerDied` when no worker survives; one that dies
        leaves its stages to the others.
        """
        line = json.dumps(job) + "\n"
        running = set()
        for index, process in enumerate(self._processes):
            if process.poll() is None and _send(process, line):
                running.add(index)
        state: dict[str, str] = {}
        finished = 0
        while running:
            try:
                index, event = self._events.get(timeout=0.1)
            except queue.Empty:
                tick()
                continue
            if event is None:
                running.discard(index)
                handle({"event": "died", "worker": index + 1, "log": str(self.log_paths[index])})
            elif event["event"] == "finished":
                running.discard(index)
                finished += 1
                state |= event["state"]
            else:
                handle(event | {"worker": index + 1})
        if not finished:
            raise WorkerDied(f"every worker process ended early; their logs: {', '.join(map(str, self.log_paths))}")
        return state

    def close(self) -> None:
        """End the workers; what they had not finished is resumed by the next run."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + CLOSE_SECONDS
        for process in self._processes:
            try:
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for log in self._logs:
            log.close()
        self._logs.clear()
        atexit.unregister(self.close)

    def _listen(self, index: int, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                # A worker that dies while it writes leaves half a line.
                if line.endswith("\n"):
                    self._events.put((index, json.loads(line)))
        finally:
            self._events.put((index, None))


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
