"""Our fine-tuning on a workload folder, in a process of its own; prints one line of JSON.

python -m benchmarks.peers.salsa_sft WORKLOAD STEPS
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.floor import Operations, matrix_rates
from benchmarks.peers.measurement import Steps, peak_mebibytes
from pipelines.worker import prepare
from salsa.models.families import load_causal
from salsa.models.layout import Layout
from salsa.training.language import LanguageModeling, OptimiserSettings, collate
from salsa.training.loop import fit
from salsa.training.metrics import FILE_NAME, JsonLines, read_metrics


def main(folder: Path, steps: int) -> dict[str, Any]:
    """Train and return the figures: CPU seconds and real tokens of each step but the first, losses, peak memory.

    The operations are those of one more step behind the measured ones, because counting takes time; each step has
    as many.
    """
    settings = json.loads((folder / "settings.json").read_text())
    rows = json.loads((folder / "rows.json").read_text())
    prepare(1)
    model, size = load_causal(folder / "model"), settings["batch"]
    optimiser = OptimiserSettings(
        learning_rate=settings["learning_rate"],
        betas=tuple(settings["betas"]),
        gradient_clip=settings["gradient_clip"],
    )
    module = LanguageModeling(model, optimiser, steps)
    chosen = [rows[step * size : (step + 1) * size] for step in range(steps)]
    operations, timed = Operations(), Steps(steps)

    def make_batch(step: int) -> Layout:
        timed.begin(step, operations)
        return collate(chosen[step % steps])

    loaded = peak_mebibytes()
    with tempfile.TemporaryDirectory() as scratch:
        loggers = [JsonLines(Path(scratch))]
        fit(module, make_batch, steps + 1, Path(scratch), loggers=loggers, progress=timed.end, accelerator="cpu")
        losses = [line["loss"] for line in read_metrics(Path(scratch) / FILE_NAME)[:steps]]
    operations.stop()
    return {
        "program": "salsa",
        "torch": torch.__version__,
        "seconds": timed.seconds,
        "units": [sum(len(ids) for ids, _ in batch) for batch in chosen[1:]],
        "losses": losses,
        "loaded_mib": loaded,
        "peak_mib": timed.peak_mebibytes,
        "operations": operations.total,
        "rates": matrix_rates(model.config),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
