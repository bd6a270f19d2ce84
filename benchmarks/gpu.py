"""What PPO costs on a GPU: generation, scoring, update and memory at 1B and at Llama-2-7B size, with random weights.

python -m benchmarks.gpu [--size toy 1b 7b] [--seconds 540] [--json]      (on a machine without a GPU: the toy size)

Each cell is a process of its own, so that one that runs out of memory or time is a line of the table and not its end;
what it had measured by then is kept. Weights are drawn on the device, replies never end, and no disk is used. `bf16`
trains weights, gradients and Adam's moments in bfloat16; `mixed` keeps all of them in float32 and computes in bfloat16;
`lora` trains float32 adapters on one bfloat16 base, which policy, critic, reference and reward model share.

The engines: salsa's own loop, which collects log-probabilities and entropies on the way; transformers' `generate` with
a static cache, compiled (the first call apart); transformers' continuous batching. The latter two give tokens only.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu_cell import SIZES, Cell

ROOT = Path(__file__).resolve().parents[1]
ORDER = [
    ("ppo", "lora", "trunk"),
    ("ppo", "lora", "separate"),
    ("engines", "bf16", ""),
    ("ppo", "bf16", "trunk"),
    ("ppo", "bf16", "separate"),
    ("ppo", "mixed", "trunk"),
    ("ppo", "mixed", "separate"),
]
"""The kinds of cells, those first that should not be lost if the time is short."""


def cells(sizes: list[str]) -> list[Cell]:
    """Return all cells of some sizes, in the order of `ORDER`."""
    return [Cell(size, *kind) for kind in ORDER for size in sizes]


def run(cell: Cell, seconds: float) -> dict[str, Any]:
    """Measure a cell in another process within `seconds`; return its settings, phases, and what went wrong (or "")."""
    command = [sys.executable, "-m", "benchmarks.gpu_cell", json.dumps(asdict(cell))]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A cell that nearly fills the memory cannot afford gaps in it. CUDA graphs (the engines) need the usual allocator.
    allocator = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"} if cell.kind == "ppo" else {}
    child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **allocator}, start_new_session=True, **pipes)
    note = ""
    try:
        out, errors = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        # Compilers leave workers behind: end the whole session.
        os.killpg(child.pid, signal.SIGKILL)
        out, errors = child.communicate()
        note = f"stopped after {seconds:.0f} s"
    if child.returncode == -signal.SIGKILL and not note:
        note = f"killed, as for lack of main memory: needs about {cell.needed:.0f} GiB"
    elif child.returncode > 0:
        note = f"failed: {(errors.strip().splitlines() or ['without a word'])[-1][:200]}"
    phases = [json.loads(line) for line in out.splitlines() if line.startswith('{"phase"')]
    return {**asdict(cell), "needed_gib": cell.needed, "phases": phases, "note": note}


def collect(
    wanted: list[Cell], seconds: float, runner: Callable[[Cell, float], dict[str, Any]] = run
) -> list[dict[str, Any]]:
    """Return the results of the cells that can be begun within `seconds`, and a note for each of the others."""
    end = time.monotonic() + seconds
    results = []
    for cell in wanted:
        left, size = end - time.monotonic(), SIZES[cell.size]
        if left < size.least:
            note = f"skipped: {max(left, 0):.0f} s of {seconds:.0f} s were left, it takes {size.least} s or more"
            results.append({**asdict(cell), "needed_gib": cell.needed, "phases": [], "note": note})
            continue
        started = time.monotonic()
        results.append(runner(cell, min(left, size.most)))
        told = " ".join(part for part in (cell.size, cell.kind, cell.weights, cell.critic) if part)
        print(f"{told}: {time.monotonic() - started:.0f} s {results[-1]['note']}", file=sys.stderr, flush=True)
    return results


def tables(results: list[dict[str, Any]]) -> str:
    """Return two Markdown tables: the engines of generation, and the phases of PPO."""
    lines = ["| size | engine | tokens/s | peak GiB | s |", "|---|---|---:|---:|---:|"]
    for found in (each for each in results if each["kind"] == "engines"):
        for phase in (phase for phase in found["phases"] if phase["phase"] != "weights"):
            lines.append(f"| {found['size']} | {phase['phase']} | {_rate(phase)} | {_figures(phase)} |")
        if found["note"]:
            lines.append(f"| {found['size']} | {found['note']} | | | |")
    shown = ("generation", "scoring", "update")
    heads = " | ".join(f"{name}, tokens/s (peak GiB)" for name in shown)
    lines += ["", f"| size | weights | critic | {heads} | states, GiB | note |"]
    lines.append("|---|---|---|---:|---:|---:|---:|---|")
    for found in (each for each in results if each["kind"] == "ppo"):
        phases = {phase["phase"]: phase for phase in found["phases"]}
        kind = f"{found['size']} | {found['weights']} | {found['critic']}"
        rates = " | ".join(_rate(phases.get(name, {}), with_peak=True) for name in shown)
        notes = [f"{phase['phase']}: {phase['failed']}" for phase in found["phases"] if "failed" in phase]
        note = "; ".join([*notes, found["note"]] if found["note"] else notes)
        lines.append(f"| {kind} | {rates} | {found['needed_gib']:.1f} | {note} |")
    return "\n".join(lines)


def _rate(phase: dict[str, Any], with_peak: bool = False) -> str:
    if not phase.get("seconds"):
        return "–"
    return f"{phase['tokens'] / phase['seconds']:.0f}" + (f" ({phase['peak_gib']:.1f})" if with_peak else "")


def _figures(phase: dict[str, Any]) -> str:
    return f"{phase['failed']} | –" if "failed" in phase else f"{phase['peak_gib']:.1f} | {phase['seconds']:.1f}"


def main() -> None:
    """Print the tables, or all results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=SIZES, help="default: 1b and 7b with a GPU, toy without one")
    parser.add_argument("--seconds", type=float, default=540.0, help="for all cells together")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    asked = parser.parse_args()
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    sizes = asked.size or (["toy"] if name == "CPU" else ["1b", "7b"])
    results = collect(cells(sizes), asked.seconds)
    if asked.json:
        print(json.dumps({"device": name, "torch": torch.__version__, "cells": results}, indent=2))
    else:
        print(f"{name}, torch {torch.__version__}\n\n{tables(results)}")


if __name__ == "__main__":
    main()
