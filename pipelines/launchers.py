"""What a multirun's launchers need, and what they leave undone when they end early. Imports no launcher, no torch."""

import atexit
import logging
import os
import signal
import sys
import traceback
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from omegaconf import DictConfig, OmegaConf

RAY = "hydra_plugins.hydra_ray_launcher"
SUBMITIT = "hydra_plugins.hydra_submitit_launcher"
EXTRAS = {"hydra_plugins.hydra_joblib_launcher": "joblib", RAY: "ray", SUBMITIT: "slurm"}
"""The project's extra that installs each launcher."""

CANCEL_SECONDS = 65.0
"""How long jobs may take to save what they train when the command is stopped: their workers get 60 by default."""

_HANDLES = {f"{RAY}._core": "runs", f"{SUBMITIT}.submitit_launcher": "jobs"}
"""Module of a launcher that does not wait for all of its jobs, and the variable in which it keeps them."""

_RAY_ENVIRONMENT = {"RAY_DEDUP_LOGS": "0", "RAY_USAGE_STATS_ENABLED": "0"}
"""What Ray reads when it is imported: it would fold lines of several jobs that look alike, and reports on its use."""

_failed = False


def prepare(launcher: DictConfig) -> None:
    """Start what the launcher of that configuration needs, before its jobs; end with a sentence if it cannot start.

    Ray answers SIGTERM by crashing, and leaves processes behind; Ctrl-C it survives, so SIGTERM is made to be Ctrl-C.
    """
    if not launcher._target_.startswith(f"{RAY}."):
        return
    for name, value in _RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    arguments = OmegaConf.to_container(launcher.ray.init, resolve=True)
    assert isinstance(arguments, dict)
    try:
        import_module("ray").init(**{str(key): value for key, value in arguments.items()})
    except (ConnectionError, ValueError, RuntimeError, TypeError) as error:
        sys.exit(f"error hydra.launcher.ray.init: {error}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def missing_extra(target: str) -> str:
    """Return what to install for the launcher of that class, "" if it is there or none of ours."""
    for package, extra in EXTRAS.items():
        if target.startswith(f"{package}.") and find_spec(package) is None:
            plugin = package.partition(".")[2]
            return f"hydra/launcher: {plugin} is not installed: pip install -c constraints.txt '.[{extra}]'"
    return ""


def starts_again(target: str) -> bool:
    """Return whether the launcher of that class answers the end of a job's process: it requeues or restarts the job.

    Such a launcher ends jobs by SystemExit when they are to be requeued, and this must not be taken for a failure.
    """
    return target.startswith((f"{RAY}.", f"{SUBMITIT}."))


def wait_for_the_rest(error: BaseException) -> None:
    """Wait for the jobs that a launcher left running when it raised this error.

    Ray's and submitit's stop at the first job without a result, in the order of the jobs, though the others run on;
    whoever collects the results then would miss them, and Ray would end them with the command.
    """
    module, jobs = _left(error)
    if module.startswith(RAY):
        import_module("ray").wait(jobs, num_returns=len(jobs))
    else:
        for job in jobs:
            job.wait()


def end_the_rest(error: BaseException) -> None:
    """End the jobs of this machine that a launcher left running when it raised this error; a cluster's queue goes on.

    They save what they train, which an end of the command alone would not let all of them do.
    """
    module, jobs = _left(error)
    if module.startswith(RAY):
        ray = import_module("ray")
        for job in jobs:
            ray.cancel(job)
        ray.wait(jobs, num_returns=len(jobs), timeout=CANCEL_SECONDS)
        return
    for job in jobs:
        if type(job).__name__ == "LocalJob":
            job.cancel(check=False)


def fail_at_exit() -> None:
    """Let a job's process that submitit has started end with code 1, once its result is saved.

    Hydra turns a job's exception into a result, so that a cluster would list a failed job as completed.
    """
    global _failed
    _failed = "SUBMITIT_EXECUTOR" in os.environ


def _left(error: BaseException) -> tuple[str, list[Any]]:
    """Return a launcher's module and the jobs it had started, from its frame: it tells nobody else of them."""
    frames = [frame for each in _chain(error) for frame, _ in traceback.walk_tb(each.__traceback__)]
    for frame in frames:
        module = str(frame.f_globals.get("__name__"))
        jobs = frame.f_locals.get(_HANDLES.get(module, ""))
        if jobs:
            return module, list(jobs)
    return "", []


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and those that it came out of: Ctrl-C may fall into the wait for the jobs of a lost one."""
    found: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in found:
        found.append(each)
        each = each.__context__
    return found


def _end() -> None:
    if _failed:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


# What is registered first runs last: the worker processes, which are registered when they start, end before this.
atexit.register(_end)
