"""What the chunked head saves: peak memory of the policy's pass in a PPO update, with the words of Llama 2 and Gemma.

python -m benchmarks.memory [--vocabulary 32000 256000] [--rows 64] [--reply 128] [--json]

Each cell runs in a process of its own: forward and backward passes over a batch of random replies in parts of
2048 tokens, on the CPU with one thread. Its memory is the highest resident size during the passes less
the size before them, so it holds the gradients but not the model.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROOT = Path(__file__).resolve().parents[1]
HIDDEN, PROMPT = 64, 16
TOKENS = 2048
"""Most tokens of a forward pass."""
WHOLE = 2**62
"""A bound on logits that no vocabulary reaches: the head in one piece."""
_COPIES = 3
"""Matrices of all logits that the head in one piece has in memory at its peak."""


def measure(vocabulary: int, rows: int, reply: int, max_logits: int) -> dict[str, float]:
    """Return peak memory (MiB) and CPU seconds of the passes, and the sum of the log-probabilities (nats)."""
    import torch

    from salsa.models import head
    from salsa.models.layout import layouts
    from salsa.models.scoring import token_logps
    from salsa.models.sequences import Sequences

    torch.set_num_threads(1)
    head.MAX_LOGITS = max_logits
    model = _model(vocabulary, PROMPT + reply)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (rows, PROMPT + reply), generator=generator)
    parts = layouts(Sequences(ids, torch.full((rows,), PROMPT), torch.full((rows,), reply)), TOKENS)
    total = 0.0
    before, started = _resident(reset=True), time.process_time()
    for part in parts:
        logps = token_logps(model, part)
        total += logps.detach().double().sum().item()
        # The clipped loss of PPO's first step: every ratio is 1.
        (logps - logps.detach()).exp().mul(torch.randn(len(logps), generator=generator)).sum().backward()
    seconds = time.process_time() - started
    return {"mebibytes": _highest() - before, "cpu_seconds": seconds, "logps": total}


def cell(vocabulary: int, rows: int, reply: int, chunked: bool) -> dict[str, object]:
    """Return the figures of one cell, measured in another process, or why there are none."""
    from salsa.models.head import MAX_LOGITS

    known: dict[str, object] = {"vocabulary": vocabulary, "head": "chunked" if chunked else "whole"}
    needed = _COPIES * 4 * vocabulary * min(rows * reply, TOKENS) / 2**20
    if not chunked and needed > 0.9 * _available():
        return known | {"skipped": f"needs about {needed / 1024:.0f} GiB, {_available() / 1024:.0f} are free"}
    arguments = [str(number) for number in (vocabulary, rows, reply, MAX_LOGITS if chunked else WHOLE)]
    command = [sys.executable, "-m", "benchmarks.memory", "--cell", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        return known | {"skipped": f"failed with status {done.returncode}: {done.stderr.strip()[-200:]}"}
    return known | json.loads(done.stdout.splitlines()[-1])


def table(cells: list[dict[str, object]]) -> str:
    """Return the cells as a Markdown table."""
    lines = ["| vocabulary | head | peak memory, MiB | CPU s |", "|---:|---|---:|---:|"]
    for found in cells:
        figures = (
            f"{found['mebibytes']:.0f} | {found['cpu_seconds']:.1f}"
            if "mebibytes" in found
            else f"{found['skipped']} | –"
        )
        lines.append(f"| {found['vocabulary']} | {found['head']} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, or its cells as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, nargs="+", default=[32_000, 256_000], help="words")
    parser.add_argument("--rows", type=int, default=64, help="replies of the batch")
    parser.add_argument("--reply", type=int, default=128, help="tokens of each reply")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    parser.add_argument("--cell", type=int, nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.cell:
        print(json.dumps(measure(*asked.cell)))
        return
    cells = [
        cell(vocabulary, asked.rows, asked.reply, chunked)
        for vocabulary in asked.vocabulary
        for chunked in (False, True)
    ]
    print(json.dumps(cells, indent=2) if asked.json else table(cells))


def _model(vocabulary: int, context: int) -> "PreTrainedModel":
    """Return a small Llama with tied embeddings, whose head is nearly all there is of it."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    sizes = {"hidden_size": HIDDEN, "intermediate_size": 2 * HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=vocabulary, max_position_embeddings=context, tie_word_embeddings=True, **sizes)
    return AutoModelForCausalLM.from_config(config)


def _resident(reset: bool) -> float:
    """Return the resident size of this process in MiB; with `reset` its highest one counts from now on."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return _kibibytes("/proc/self/status", "VmRSS") / 1024


def _highest() -> float:
    return _kibibytes("/proc/self/status", "VmHWM") / 1024


def _available() -> float:
    return _kibibytes("/proc/meminfo", "MemAvailable") / 1024


def _kibibytes(path: str, name: str) -> int:
    lines = Path(path).read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


if __name__ == "__main__":
    main()
