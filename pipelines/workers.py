"""How many worker processes a job has, and which GPU each of them sees. Imports no torch."""

import os
import subprocess
from collections.abc import Mapping

from pipelines.configuration import Accelerator, Compute
from pipelines.preflight import gpu_problem

VISIBLE = "CUDA_VISIBLE_DEVICES"
MOST = 8
"""Workers on CPU cores: each takes half a gigabyte and six seconds to start, and a plan has few stages to share."""


def environments(compute: Compute, side_by_side: bool) -> list[Mapping[str, str]]:
    """Return what is set for each worker process; an empty list: the job runs in its own process.

    `side_by_side` tells that a launcher runs several jobs at once, each with its share of the machine.
    """
    gpus = [] if compute.accelerator is Accelerator.cpu else visible_gpus()
    if compute.workers is not None:
        count = compute.workers
    elif side_by_side:
        count = 1
    else:
        count = len(gpus) or min(cores() // compute.threads or 1, MOST)
    if len(gpus) > 1:
        return [{VISIBLE: gpus[index % len(gpus)]} for index in range(count)]
    return [{} for _ in range(count)]


def cores() -> int:
    """Return how many cores this process may use, which a scheduler may have limited."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if gpu_problem():
        return []
    if VISIBLE in os.environ:
        return [name for name in os.environ[VISIBLE].split(",") if name]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ["0"]
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return [str(index) for index in range(len(lines))] or ["0"]
