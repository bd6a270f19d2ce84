"""Our PPO on a workload folder, in a process of its own; prints one line of JSON.

python -m benchmarks.peers.salsa_ppo WORKLOAD UPDATES
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
from salsa.models.families import load_causal, load_scalar
from salsa.rl.ppo import PPO, PPOSettings
from salsa.rl.references import FrozenReference
from salsa.rl.rewards import usual_reward
from salsa.training.loop import fit
from salsa.training.metrics import FILE_NAME, JsonLines, read_metrics


def build(folder: Path, updates: int, **changes: Any) -> PPO:
    """Return the training that a workload folder describes, with `changes` of its settings."""
    settings = json.loads((folder / "settings.json").read_text())
    return PPO(
        PPOSettings(
            steps=updates,
            batch_prompts=settings["batch"],
            epochs=settings["epochs"],
            minibatches=settings["minibatches"],
            learning_rate=settings["learning_rate"],
            critic_learning_rate=settings["learning_rate"],
            final_fraction=0.0,
            warmup_steps=0,
            betas=tuple(settings["betas"]),
            adam_eps=settings["adam_eps"],
            clip=settings["clip"],
            value_clip=settings["value_clip"],
            kl_coef=settings["kl_coef"],
            gamma=settings["gamma"],
            lam=settings["lam"],
            temperature=settings["temperature"],
            max_new_tokens=settings["max_new"],
            seed=settings["seed"],
            **changes,
        ),
        policy=load_causal(folder / "policy"),
        critic=load_scalar(folder / "critic"),
        reference=FrozenReference(load_causal(folder / "reference"), "reference"),
        scorer=usual_reward(load_scalar(folder / "reward"), mean=0.0, std=1.0, missing_end_score=None),
        prompts=json.loads((folder / "prompts.json").read_text())[: settings["batch"] * updates],
        eos=settings["eos"],
        pad=settings["pad"],
    )


def main(folder: Path, updates: int) -> dict[str, Any]:
    """Train and return the figures: CPU seconds of each update but the first, reply tokens, peak memory, operations.

    The operations are those of one more update behind the measured ones, because counting takes time.
    """
    prepare(1)
    ppo = build(folder, updates + 1)
    loaded = peak_mebibytes()
    operations, timed = Operations(), Steps(updates)

    def make_batch(step: int) -> int:
        timed.begin(step, operations)
        return step

    with tempfile.TemporaryDirectory() as scratch:
        loggers = [JsonLines(Path(scratch))]
        fit(ppo, make_batch, updates + 1, Path(scratch), loggers=loggers, progress=timed.end, accelerator="cpu")
        lengths = [line["reply/length"] for line in read_metrics(Path(scratch) / FILE_NAME)[1:updates]]
    operations.stop()
    episodes = ppo.settings.batch_prompts
    return {
        "program": "salsa",
        "torch": torch.__version__,
        "seconds": timed.seconds,
        "units": [episodes] * (updates - 1),
        "reply_tokens": episodes * sum(lengths) / len(lengths),
        "loaded_mib": loaded,
        "peak_mib": timed.peak_mebibytes,
        "operations": operations.total,
        "rates": matrix_rates(ppo.policy.config),
        "metrics": ppo.latest,
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
