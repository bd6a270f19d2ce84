"""A worker process: reads jobs (a plan and how to execute it) as JSON lines, runs them, writes events as JSON lines."""

import gc
import json
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.ending import TERMINATED, Terminated, terminable
from pipelines.memory import keep_freed
from pipelines.plan import Plan
from pipelines.runner import work
from pipelines.work import Execution
from salsa.store.artifact import Store
from salsa.training.interruption import Interrupted

CHUNK_BYTES = 1 << 16


def prepare(threads: int) -> None:
    """Set what must be set before torch and the tokenizers are imported."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    logging.captureWarnings(True)
    keep_freed()
    import lightning.pytorch
    import torch

    if gc.get_freeze_count() == 0:  # torch's heap stays as it is: collections need not walk it
        gc.collect()
        gc.freeze()
    torch.set_num_threads(threads)
    logging.getLogger(lightning.pytorch.__name__).setLevel(logging.WARNING)


def run_job(job: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Run one job and say how its stages ended."""
    execution = Execution(**job["execution"])
    prepare(execution.threads)
    plan = Plan.from_json(job["plan"])
    state = work(plan, Store(Path(execution.outputs)), execution, emit)
    emit({"event": "finished", "state": state})


def _emitter(stream: int) -> Callable[[dict[str, Any]], None]:
    lock = threading.Lock()

    def emit(event: dict[str, Any]) -> None:
        line = (json.dumps(event) + "\n").encode()
        with lock:
            try:
                while line:
                    line = line[os.write(stream, line) :]
            except BrokenPipeError:
                # The command is gone: nobody wants the rest, and the stage that runs is not to blame.
                raise Terminated from None

    return emit


def _read(stream: int, jobs: "queue.Queue[dict[str, Any]]") -> None:
    """Pass the jobs on; when there can be no more, because the command has ended or was killed, end this process."""
    rest = b""
    while chunk := os.read(stream, CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            jobs.put(json.loads(line))
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Serve jobs until SIGTERM or the end of the input, and return the exit code.

    Everything printed goes to standard error, which is the worker's log. Ctrl-C reaches all processes of a terminal;
    the command answers it and ends its workers, which then save what they train.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Slurm sends it to all processes of a job that is to be requeued; the job answers it and ends its workers.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    logging.raiseExceptions = False  # see `pipelines.job.run`
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    events = os.dup(1)
    os.dup2(2, 1)
    emit = _emitter(events)
    jobs: queue.Queue[dict[str, Any]] = queue.Queue()
    try:
        with terminable():
            threading.Thread(target=_read, args=(0, jobs), daemon=True).start()
            while True:
                run_job(jobs.get(), emit)
    except Terminated:
        return TERMINATED
    except Interrupted as interruption:
        logging.getLogger(__name__).warning("%s", interruption)
        return TERMINATED
    except Exception as error:
        # Outside the stages: a folder that cannot be written, a package that cannot be imported.
        logging.getLogger(__name__).exception("this worker cannot go on")
        emit({"event": "crashed", "error": f"{type(error).__name__}: {error}"})
        return 1


if __name__ == "__main__":
    sys.exit(main())
