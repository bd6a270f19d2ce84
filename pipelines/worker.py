"""A worker process: reads jobs (a plan and how to execute it) as JSON lines, runs them, writes events as JSON lines."""

import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from pipelines.plan import Plan
from pipelines.runner import work
from pipelines.work import Execution
from salsa.store.artifact import Store


def prepare(threads: int) -> None:
    """Set what must be set before torch and the tokenizers are imported."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    logging.captureWarnings(True)
    import lightning.pytorch
    import torch

    torch.set_num_threads(threads)
    logging.getLogger(lightning.pytorch.__name__).setLevel(logging.WARNING)


def run_job(job: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Run one job and say how its stages ended."""
    execution = Execution(**job["execution"])
    prepare(execution.threads)
    plan = Plan.from_json(job["plan"])
    state = work(plan, Store(Path(execution.outputs)), execution, emit)
    emit({"event": "finished", "state": state})


def _emitter(stream: TextIO) -> Callable[[dict[str, Any]], None]:
    lock = threading.Lock()

    def emit(event: dict[str, Any]) -> None:
        with lock:
            stream.write(json.dumps(event) + "\n")
            stream.flush()

    return emit


def main() -> None:
    """Serve jobs until the input ends; everything printed goes to standard error, which is the worker's log."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    with os.fdopen(os.dup(1), "w") as events:
        os.dup2(2, 1)
        emit = _emitter(events)
        for line in sys.stdin:
            run_job(json.loads(line), emit)


if __name__ == "__main__":
    main()
