"""A worker whose stages are fakes of the kind "fake" and which imports no torch, to be run as a process."""

import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from pipelines import plan, worker
from pipelines.work import Work
from salsa.training.interruption import Interrupted, signals_deferred


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Do what the stage's configuration says."""
    getattr(sys.modules[__name__], work.config["does"])(work)
    return "done", {}


def nothing(work: Work) -> None:
    """Be done at once."""


def sleep(work: Work) -> None:
    """Work for a minute without a further word."""
    work.progress(0, 1, "begun")
    time.sleep(60)


def train(work: Work) -> None:
    """Like a training: go on after SIGTERM until the step is saved, then say that it was interrupted."""
    with signals_deferred() as sigterm:
        work.progress(0, 1, "begun")
        for step in range(600):
            time.sleep(0.1)
            if sigterm.received is not None:
                (work.unfinished / "saved").write_text(str(step))
                raise Interrupted("training was interrupted")


def talk(work: Work) -> None:
    """Report progress without end, and take the end of the input for nothing: only a broken pipe ends it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for _ in range(600):
        time.sleep(0.25)
        work.progress(1, 600, "still at it")


def die_once(work: Work) -> None:
    """Be killed at the first try."""
    tried = Path(work.execution.outputs) / "tried"
    if not tried.exists():
        tried.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def die(work: Work) -> None:
    """Be killed at every try, at the same step."""
    work.progress(1, 2, "so far, no further")
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_each_step(work: Work) -> None:
    """Be killed four times, each time a step later."""
    done = len(list(work.unfinished.glob("step_*")))
    (work.unfinished / f"step_{done}").touch()
    time.sleep(0.25)
    work.progress(done + 1, 10, "a step further")
    if done < 4:
        os.kill(os.getpid(), signal.SIGKILL)


module = ModuleType("pipelines.stages.fake")
module.run = run  # type: ignore[attr-defined]
sys.modules["pipelines.stages.fake"] = module
plan.VERSIONS["fake"] = 1

if __name__ == "__main__":
    worker.prepare = lambda threads: None
    sys.exit(worker.main())
