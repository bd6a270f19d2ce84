"""What a sweep costs beside its work: planning a thousand jobs, and a job that is stored already.

python -m benchmarks.sweep
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SMALL = [
    "base.steps=20",
    "sft.steps=6",
    "sft.demonstrations=40",
    "preferences.pairs=48",
    "preferences.heldout=24",
    "reward.steps=6",
    "reward.normaliser_replies=24",
    "policy.steps=2",
    "policy.batch_prompts=16",
    "suite.names=[single]",
    "suite.prompts=12",
    "suite.anchor_prompts=12",
    "suite.tax_documents=8",
    "suite.samples=4",
]
# Ranges of whole numbers: rounding gives those of fractions an eleventh value.
THOUSAND = ["policy.steps=range(1,11)", "sft.steps=range(1,11)", "seed=range(0,10)"]
JOBS = (4, 12)


def run(*arguments: str) -> tuple[float, float]:
    """Run the command; return its wall and CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    command = [sys.executable, "run.py", *arguments, "logger=none"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print both figures."""
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = run("-m", f"outputs.dir={folder}", "plan=true", *THOUSAND)
        print(f"planning 1,000 jobs: {wall:.1f} s, {cpu:.1f} CPU s")
        few, many = (f"judge.level={','.join(f'{0.6 + 0.02 * index:.2f}' for index in range(count))}" for count in JOBS)
        run("-m", f"outputs.dir={folder}", many, *SMALL)
        (short, _), (long, _) = (run("-m", f"outputs.dir={folder}", keys, *SMALL) for keys in (few, many))
        print(f"a stored job after the first: {(long - short) / (JOBS[1] - JOBS[0]):.2f} s")


if __name__ == "__main__":
    main()
