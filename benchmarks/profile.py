"""Where the CPU time of one PPO iteration goes, phase by phase, on the tasks of benchmarks.ppo; one thread.

python -m benchmarks.profile [--task natural] [--batch 64] [--shape 4x1] [--outputs DIR] [--json FILE]

A phase's time is its own: what it calls and what is a phase itself is left out.
"""

import argparse
import functools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.peers import environment
from benchmarks.peers.comparison import screen
from benchmarks.ppo import TASKS, Shape, models, write

WARM_UP = 2
"""Iterations before the measured ones."""


class Phases:
    """Adds up the CPU seconds of functions by phase."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._inner: list[float] = []

    def watch(self, owner: Any, name: str, phase: str) -> None:
        """Count what the function `name` of a class or module takes."""
        function: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(function)
        def watched(*given: Any, **named: Any) -> Any:
            begin = time.process_time()
            self._inner.append(0.0)
            try:
                return function(*given, **named)
            finally:
                taken = time.process_time() - begin
                self.seconds[phase] += taken - self._inner.pop()
                if self._inner:
                    self._inner[-1] += taken

        setattr(owner, name, watched)


def measure(folder: Path, iterations: int) -> tuple[float, dict[str, float]]:
    """Return the CPU seconds of an iteration, and those of its phases."""
    from pipelines.worker import prepare

    prepare(1)
    import torch

    import salsa.rl.learner as learner
    import salsa.rl.ppo as ppo
    from benchmarks.peers.salsa_ppo import build
    from salsa.training.loop import fit

    training = build(folder, WARM_UP + iterations)
    phases = Phases()
    phases.watch(ppo, "generate", "generation")
    phases.watch(type(training.reference), "token_logps", "scoring: reference")
    phases.watch(type(training.scorer), "terms", "scoring: reward model")
    phases.watch(ppo, "reply_values", "scoring: critic")
    phases.watch(learner, "token_logps", "policy, forward")
    phases.watch(learner, "token_values", "critic, forward")
    phases.watch(ppo.PPO, "manual_backward", "backward of both")
    phases.watch(torch.nn.utils, "clip_grad_norm_", "clipping and Adam")
    phases.watch(torch.optim.AdamW, "step", "clipping and Adam")
    phases.watch(learner, "layouts", "laying out minibatches")
    training._learner.backward = training.manual_backward
    marks: list[float] = []

    def make_batch(step: int) -> int:
        if step == WARM_UP:
            phases.seconds.clear()
            marks.append(time.process_time())
        return step

    with tempfile.TemporaryDirectory() as scratch:
        fit(training, make_batch, WARM_UP + iterations, Path(scratch), accelerator="cpu")
    whole = (time.process_time() - marks[0]) / iterations
    each = {phase: seconds / iterations for phase, seconds in phases.seconds.most_common()}
    return whole, each | {"everything else": whole - sum(each.values())}


def main(options: argparse.Namespace) -> int:
    """Print the phases of each task."""
    from rich.table import Table

    from benchmarks.peers.floor import rates

    console, found = screen(), {}
    models(options.outputs)
    speeds = ", ".join(f"{name} {speed / 1e9:.0f} GF/s" for name, speed in rates(2048, 64, 256).items())
    console.print(f"products of [2048, 64] and [64, 256]: {speeds}", highlight=False)
    for task in options.task:
        with tempfile.TemporaryDirectory() as scratch:
            updates = WARM_UP + options.iterations
            folder = write(task, Path(scratch), options.outputs, options.batch, updates, options.shape)
            whole, phases = measure(folder, options.iterations)
        table = Table(title=f"{task}, batch {options.batch}, {options.shape}: {1e3 * whole:.0f} ms an iteration")
        table.add_column("phase")
        table.add_column("CPU ms", justify="right")
        table.add_column("share", justify="right")
        for phase, seconds in phases.items():
            table.add_row(phase, f"{1e3 * seconds:.1f}", f"{seconds / whole:.0%}")
        console.print(table)
        found[f"{task}, batch {options.batch}, {options.shape}"] = {"iteration": whole, **phases}
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return 0


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=["natural"])
    parser.add_argument("--batch", type=int, default=64, help="episodes an iteration")
    parser.add_argument("--shape", type=Shape.parse, default=Shape(4, 1), help="epochs x minibatches")
    parser.add_argument("--iterations", type=int, default=7, help="measured iterations")
    parser.add_argument("--outputs", type=Path, default=environment.default_folder() / "outputs")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(parse()))
