"""PPO episodes per CPU second beside TRL 1.12, the last release with a PPO trainer: one thread, in turns.

python -m benchmarks.ppo [--batch 64 256] [--shape 4x1 2x4] [--rounds 3] [--check] [--json FILE]

Two tasks: `natural`, the embedded world's SFT model with its prompts and lengths; `full length`, random tokens where
every reply runs to the limit. A shape is epochs x minibatches; TRL's own default is 4x1. The floor is the time of the
counted floating-point operations at the matrix rate measured in the same process (of a large product / of the model's).
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers import environment
from benchmarks.peers.comparison import Comparison, Figures, in_turns, report, screen

PROGRAMS = Path(__file__).parent / "peers"
TASKS = {"natural": (2.0, 3.0), "full length": (1.3, 2.0)}
"""The ratio that must hold, and the one aimed at, by task."""


@dataclass(frozen=True)
class Shape:
    """How often replies are learned, and in how many parts each time."""

    epochs: int
    minibatches: int

    @classmethod
    def parse(cls, text: str) -> "Shape":
        """Read `4x1`; raises ValueError for anything else."""
        epochs, _, minibatches = text.partition("x")
        return cls(int(epochs), int(minibatches))

    def __str__(self) -> str:
        return f"{self.epochs}x{self.minibatches}"


def write(task: str, folder: Path, outputs: Path, batch: int, updates: int, shape: Shape) -> Path:
    """Write the workload of a task into a folder and return it."""
    from benchmarks.peers import workload

    sizes: dict[str, Any] = {
        "batch": batch,
        "updates": updates,
        "epochs": shape.epochs,
        "minibatches": shape.minibatches,
    }
    if task == "natural":
        return workload.natural(folder, outputs, **sizes)
    return workload.full_length(folder, **sizes)


def compare(task: str, folder: Path, batch: int, updates: int, shape: Shape, rounds: int, peers: Path) -> Comparison:
    """Run both programs on a workload in turns; the peer in the faster one of its two ways to cut a rollout."""
    python = environment.interpreter(peers, environment.PPO)

    def peer(rollout_rows: int) -> Figures:
        return environment.call(python, PROGRAMS / "trl_ppo.py", folder, updates, rollout_rows)

    def ours() -> Figures:
        return environment.call(Path(sys.executable), PROGRAMS / "salsa_ppo.py", folder, updates)

    rows = best_rollout({rows: peer(rows) for rows in sorted({min(batch, 64), batch})})
    runs = in_turns(ours, lambda: peer(rows), rounds)
    least, aim = TASKS[task]
    return Comparison(f"{task}, batch {batch}, {shape}", "episodes", least, aim, *runs)


def best_rollout(tried: Mapping[int, Figures]) -> int:
    """Return the number of rows with which the peer took least CPU time."""
    return min(tried, key=lambda rows: sum(tried[rows]["seconds"]))


def models(outputs: Path) -> None:
    """Run the default experiment up to its models where `outputs` does not have them; the policies are not needed."""
    if all(any((outputs / "store" / kind).glob("*")) for kind in ("base", "sft", "reward")):
        return
    print(f"training the embedded world's models in {outputs}; this takes a minute", file=sys.stderr)
    small = ["policy.steps=1", "policy.batch_prompts=16", "suite.names=[single]", "suite.prompts=8"]
    small += ["suite.anchor_prompts=8", "suite.tax_documents=4", "suite.samples=2"]
    command = [sys.executable, "run.py", f"outputs.dir={outputs}", "logger=none", *small]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=environment.ROOT, check=True, env=environ, stdout=subprocess.DEVNULL)


def arguments(parser: argparse.ArgumentParser, updates: int) -> None:
    """Add what the comparisons of PPO and of fine-tuning have in common."""
    cache = environment.default_folder()
    parser.add_argument("--updates", type=int, default=updates, help="training steps a run; the first warms up")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each program")
    parser.add_argument("--peers", type=Path, default=cache, help="folder of the peers' environments")
    parser.add_argument("--outputs", type=Path, default=cache / "outputs", help="outputs of run.py, for their models")
    parser.add_argument("--task", nargs="+", help="some of the tasks only")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    parser.add_argument("--check", action="store_true", help="exit with code 1 if a ratio or the memory does not hold")


def parse(given: Sequence[str] | None = None) -> Any:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256], help="episodes an update")
    parser.add_argument("--shape", type=Shape.parse, nargs="+", default=[Shape(4, 1)], help="epochs x minibatches")
    arguments(parser, updates=8)
    return parser.parse_args(given)


def main(options: Any) -> int:
    """Compare on every task, batch and shape; return the exit code."""
    console = screen()
    models(options.outputs)
    comparisons = []
    for task in options.task or TASKS:
        for batch in options.batch:
            for shape in options.shape:
                with tempfile.TemporaryDirectory() as scratch:
                    folder = write(task, Path(scratch), options.outputs, batch, options.updates + 1, shape)
                    done = compare(task, folder, batch, options.updates, shape, options.rounds, options.peers)
                comparisons.append(done)
                console.print(f"{done.task}: {done.ratio:.2f}", highlight=False)
    return report(comparisons, f"salsa beside TRL {environment.PPO}", console, options.json, options.check)


if __name__ == "__main__":
    sys.exit(main(parse()))
