"""TRL's SFT trainer on a workload folder, documents kept apart; run by the peer's own Python, imports nothing of salsa.

python trl_sft.py WORKLOAD STEPS padded|packed|padding_free      prints one line of JSON
"""

import itertools
import json
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

LAYOUTS: dict[str, dict[str, Any]] = {
    "padded": {},
    "packed": {"packing": True, "packing_strategy": "bfd"},
    "padding_free": {"padding_free": True, "max_length": None},
}
"""Ways in which no document sees another. On a CPU the first is by far the fastest."""


class Stamps(TrainerCallback):
    """Notes the CPU time at the end of each step, and the losses."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def on_step_end(self, *arguments: Any, **named: Any) -> None:
        """Note the time; called by the trainer."""
        self.seconds.append(time.process_time())

    def on_log(self, *arguments: Any, logs: dict[str, Any] | None = None, **named: Any) -> None:
        """Keep the figures; called by the trainer."""
        if logs and "loss" in logs:
            self.losses.append(logs["loss"])


class InOrder(SFTTrainer):
    """Takes the rows in the order in which the workload has them, as the other program does."""

    def _get_train_sampler(self, *arguments: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


def peak_mebibytes() -> float:
    """Return the largest resident size so far (Linux counts it in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def configuration(settings: dict[str, Any], steps: int, layout: str) -> SFTConfig:
    """Return the trainer's settings; the same optimiser and schedule as ours."""
    own: dict[str, Any] = {"max_length": settings["longest"], **LAYOUTS[layout]}
    return SFTConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=settings["batch"],
        max_steps=steps,
        learning_rate=settings["learning_rate"],
        lr_scheduler_type="cosine",
        warmup_steps=0,
        adam_beta1=settings["betas"][0],
        adam_beta2=settings["betas"][1],
        weight_decay=0.0,
        max_grad_norm=settings["gradient_clip"],
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        dataloader_num_workers=0,
        **own,
    )


def main(folder: Path, steps: int, layout: str) -> dict[str, Any]:
    """Train and return the figures: CPU seconds and real tokens of each step but the first, losses, peak memory."""
    settings = json.loads((folder / "settings.json").read_text())
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    rows = json.loads((folder / "rows.json").read_text())[: settings["batch"] * steps]
    labels = [[token if wanted else -100 for token, wanted in zip(*row, strict=True)] for row in rows]
    data = Dataset.from_dict({"input_ids": [ids for ids, _ in rows], "labels": labels})
    stamps = Stamps()
    trainer = InOrder(
        model=AutoModelForCausalLM.from_pretrained(folder / "model"),
        args=configuration(settings, steps, layout),
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        callbacks=[stamps],
    )
    tokens: list[int] = []
    collate = trainer.data_collator

    def counted(examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        tokens.append(sum(len(example["input_ids"]) for example in examples))
        return collate(examples)

    trainer.data_collator = counted
    loaded = peak_mebibytes()
    trainer.train()
    return {
        "program": f"TRL {trl.__version__}",
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "seconds": [late - early for early, late in itertools.pairwise(stamps.seconds)],
        "units": tokens[1 : len(stamps.seconds)],
        "losses": stamps.losses,
        "loaded_mib": loaded,
        "peak_mib": peak_mebibytes(),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])))
