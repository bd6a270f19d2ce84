"""TRL's PPO trainer on a workload folder; run by the peer's own Python, imports nothing of salsa.

python trl_ppo.py WORKLOAD UPDATES ROLLOUT_ROWS      prints one line of JSON
"""

import gc
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
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
    TrainerCallback,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer
from trl.experimental.ppo import ppo_trainer as implementation


class Stamps(TrainerCallback):
    """Notes the CPU time at the end of each update, and the trainer's last figures."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.figures: dict[str, Any] = {}

    def on_step_end(self, *arguments: Any, **named: Any) -> None:
        """Note the time; called by the trainer."""
        self.seconds.append(time.process_time())

    def on_log(self, *arguments: Any, logs: dict[str, Any] | None = None, **named: Any) -> None:
        """Keep the figures; called by the trainer."""
        self.figures = dict(logs or {})


def peak_mebibytes() -> float:
    """Return the largest resident size so far (Linux counts it in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tokenizer(folder: Path, settings: dict[str, Any]) -> PreTrainedTokenizerFast:
    """Return the model's tokenizer, padding on the left, as this trainer wants it."""
    loaded = PreTrainedTokenizerFast.from_pretrained(folder / "policy", padding_side="left")
    assert (loaded.eos_token_id, loaded.pad_token_id) == (settings["eos"], settings["pad"])
    return loaded


def configuration(settings: dict[str, Any], updates: int, rollout_rows: int) -> PPOConfig:
    """Return the trainer's settings; without gradient accumulation, like ours."""
    batch = settings["batch"]
    return PPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=batch,  # a minibatch is cut from it; with accumulation it would make no step
        gradient_accumulation_steps=1,
        num_mini_batches=settings["minibatches"],
        num_ppo_epochs=settings["epochs"],
        total_episodes=batch * updates,
        local_rollout_forward_batch_size=rollout_rows,
        response_length=settings["max_new"],
        stop_token_id=settings["eos"],
        temperature=settings["temperature"],
        missing_eos_penalty=None,
        kl_coef=settings["kl_coef"],
        cliprange=settings["clip"],
        cliprange_value=settings["value_clip"],
        vf_coef=1.0,
        gamma=settings["gamma"],
        lam=settings["lam"],
        learning_rate=settings["learning_rate"],
        adam_beta1=settings["betas"][0],
        adam_beta2=settings["betas"][1],
        adam_epsilon=settings["adam_eps"],
        weight_decay=0.0,
        num_sample_generations=0,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        seed=settings["seed"],
    )


def main(folder: Path, updates: int, rollout_rows: int) -> dict[str, Any]:
    """Train and return the figures: CPU seconds of each update but the first, reply tokens, peak memory."""
    settings = json.loads((folder / "settings.json").read_text())
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    gc_collect, gc.collect = gc.collect, lambda *_: 0  # twice an update: a fixed cost that would flatter any rival
    words = tokenizer(folder, settings)
    prompts = json.loads((folder / "prompts.json").read_text())[: settings["batch"] * updates]
    data = Dataset.from_dict({"input_ids": prompts})
    stamps = Stamps()
    tokens: list[int] = []
    whiten = implementation.masked_whiten

    def counted(values: torch.Tensor, mask: torch.Tensor, **named: Any) -> torch.Tensor:
        tokens.append(int(mask.sum()))
        return whiten(values, mask, **named)

    implementation.masked_whiten = counted
    trainer = PPOTrainer(
        args=configuration(settings, updates, rollout_rows),
        processing_class=words,
        model=AutoModelForCausalLM.from_pretrained(folder / "policy"),
        ref_model=AutoModelForCausalLM.from_pretrained(folder / "reference"),
        reward_model=AutoModelForSequenceClassification.from_pretrained(folder / "reward"),
        value_model=AutoModelForSequenceClassification.from_pretrained(folder / "critic"),
        train_dataset=data,
        eval_dataset=data.select(range(settings["batch"])),
        callbacks=[stamps],
    )
    loaded = peak_mebibytes()
    trainer.train()
    gc.collect = gc_collect
    return {
        "program": f"TRL {trl.__version__}",
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "seconds": [late - early for early, late in itertools.pairwise(stamps.seconds)],
        "units": [settings["batch"]] * (updates - 1),
        "reply_tokens": sum(tokens[1:]) / len(tokens[1:]),
        "loaded_mib": loaded,
        "peak_mib": peak_mebibytes(),
        "metrics": {name: value for name, value in stamps.figures.items() if isinstance(value, (int, float))},
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
