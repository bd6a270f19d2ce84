"""Real tokens that fine-tuning learns from per CPU second, beside TRL 1.16 with documents apart: one thread, in turns.

python -m benchmarks.sft [--rounds 3] [--layout padded packed padding_free] [--check] [--json FILE]

Two tasks: `demonstrations`, the embedded world's fine-tuning batches; `spread`, random documents of 8 to 127 tokens.
Both programs see the same rows in the same order, and their losses are compared as well. The peer runs in the fastest
of the layouts.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import environment
from benchmarks.peers.comparison import Comparison, Figures, in_turns, rate, report, screen
from benchmarks.ppo import PROGRAMS, arguments, models

TASKS = ("demonstrations", "spread")
LAYOUTS = ("padded", "packed", "padding_free")
LEAST, AIM = 2.0, 2.0
_TRIED = 8
"""Steps after which the peer's layouts are told apart."""


def write(task: str, folder: Path, outputs: Path, steps: int) -> Path:
    """Write the workload of a task into a folder and return it."""
    from benchmarks.peers import workload

    if task == "demonstrations":
        return workload.demonstrations(folder, outputs, steps=steps)
    return workload.spread(folder, steps=steps)


def compare(task: str, folder: Path, steps: int, layouts: Sequence[str], rounds: int, peers: Path) -> Comparison:
    """Run both programs on a workload in turns; the peer in its fastest layout."""
    python = environment.interpreter(peers, environment.SFT)

    def peer(layout: str, count: int) -> Figures:
        return environment.call(python, PROGRAMS / "trl_sft.py", folder, count, layout)

    def ours() -> Figures:
        return environment.call(Path(sys.executable), PROGRAMS / "salsa_sft.py", folder, steps)

    layout = fastest({layout: peer(layout, _TRIED) for layout in layouts}) if len(layouts) > 1 else layouts[0]
    runs = in_turns(ours, lambda: peer(layout, steps), rounds)
    return Comparison(f"{task} (peer: {layout})", "real tokens", LEAST, AIM, *runs, memory_counts=False)


def fastest(tried: Mapping[str, Figures]) -> str:
    """Return the layout with the most tokens per CPU second."""
    return max(tried, key=lambda layout: rate(tried[layout]))


def parse(given: Sequence[str] | None = None) -> Any:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", nargs="+", choices=LAYOUTS, default=list(LAYOUTS), help="how the peer may pad")
    arguments(parser, updates=40)
    return parser.parse_args(given)


def main(options: Any) -> int:
    """Compare on every task; return the exit code."""
    console = screen()
    models(options.outputs)
    comparisons = []
    for task in options.task or TASKS:
        with tempfile.TemporaryDirectory() as scratch:
            folder = write(task, Path(scratch), options.outputs, options.updates)
            done = compare(task, folder, options.updates, options.layout, options.rounds, options.peers)
        comparisons.append(done)
        same = f"losses of all steps within {done.loss_difference:.0e} of the peer's"
        console.print(f"{done.task}: {done.ratio:.2f}; {same}", highlight=False)
    return report(comparisons, f"salsa beside TRL {environment.SFT}", console, options.json, options.check)


if __name__ == "__main__":
    sys.exit(main(parse()))
