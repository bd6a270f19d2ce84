"""One PPO update on small models whose replies are given, so that two programs learn from the same."""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers import workload
from benchmarks.peers.salsa_ppo import build
from salsa.models.sequences import pack
from salsa.rl import ppo as implementation
from salsa.rl.ppo import PPO, Experience
from salsa.rl.rollout import Rollout
from salsa.training.loop import fit

SIZES = {"vocabulary": 40, "hidden": 32, "layers": 2, "heads": 4, "prompt": 5, "max_new": 8}
CHANGES = {"learning_rate": 0.004, "kl_coef": 0.3, "gamma": 0.97, "seed": 3}
"""A rate so large that the second pass clips."""
_EPOCHS, _BATCH = 3, 12


def write(folder: Path, *, ended: bool) -> Path:
    """Write a workload with `replies.json`: replies up to the limit or, if `ended`, of all lengths with an end token.

    Reference, reward model and critic differ from each other and from the policy, so that no term is zero.
    """
    workload.full_length(folder, batch=_BATCH, updates=1, epochs=_EPOCHS, minibatches=1, sizes=SIZES)
    for number, name in enumerate(("policy", "reference", "reward", "critic"), start=1):
        _stir(folder / name, number)
    settings = json.loads((folder / "settings.json").read_text()) | CHANGES
    (folder / "settings.json").write_text(json.dumps(settings))
    generator = torch.Generator().manual_seed(7)
    replies = torch.randint(1, SIZES["vocabulary"], (_BATCH, SIZES["max_new"]), generator=generator).tolist()
    if ended:
        # An end token that the model has; none is longer than the limit and one fills it.
        settings["eos"] = 0
        (folder / "settings.json").write_text(json.dumps(settings))
        _name_end(folder / "policy")
        replies = [[*reply[: row % SIZES["max_new"]], 0] for row, reply in enumerate(replies)]
    (folder / "replies.json").write_text(json.dumps(replies))
    return folder


def write_model(folder: Path) -> None:
    """Write a small language model with its tokenizer."""
    with tempfile.TemporaryDirectory() as scratch:
        workload.full_length(Path(scratch), batch=1, updates=1, epochs=1, minibatches=1, sizes=SIZES)
        (Path(scratch) / "policy").rename(folder)


def update(folder: Path, rows: list[int]) -> tuple[Experience, dict[str, Tensor]]:
    """Make the update on the prompts and replies `rows`; return the experience and the weights after it.

    As the peer does, without clipping gradients, and with advantages whitened by the unbiased variance.
    """
    prompts = json.loads((folder / "prompts.json").read_text())
    replies = json.loads((folder / "replies.json").read_text())
    module = build(folder, 1, gradient_clip=float("inf"))
    collected: list[Experience] = []
    collect = module.collect

    def watched(iteration: int) -> tuple[Experience, dict[str, Tensor]]:
        experience, metrics = collect(iteration)
        count = experience.sequences.reply_lengths.sum()
        collected.append(experience._replace(advantages=experience.advantages * torch.sqrt((count - 1) / count)))
        return collected[0], metrics

    def generate(model: Any, asked: Any, **named: Any) -> Rollout:
        return _rollout(module, [prompts[row] for row in rows], [replies[row] for row in rows])

    module.collect = watched  # type: ignore[method-assign]
    original = implementation.generate
    implementation.generate = generate  # type: ignore[assignment]  # it looks at nothing but the rows
    try:
        with tempfile.TemporaryDirectory() as scratch:
            fit(module, lambda step: step, 1, Path(scratch), accelerator="cpu")
    finally:
        implementation.generate = original
    return collected[0], module.state_dict()


def _rollout(module: PPO, prompts: list[list[int]], replies: list[list[int]]) -> Rollout:
    from salsa.models.scoring import reply_logps

    sequences = pack(prompts, replies, module.pad)
    with torch.no_grad():
        logps, entropies = reply_logps(module.policy, sequences, module.settings.temperature, entropy=True)
    assert entropies is not None
    ended = torch.tensor([reply[-1] == module.eos for reply in replies])
    return Rollout(sequences, logps, ended, entropies)


def _stir(folder: Path, seed: int) -> None:
    """Give a model random weights of a size at which its outputs differ."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    generator = torch.Generator().manual_seed(seed)
    stirred = {
        name: weight if weight.dim() == 1 else 0.2 * torch.randn(weight.shape, generator=generator)
        for name, weight in load_file(path).items()
    }
    save_file(stirred, path, {"format": "pt"})


def _name_end(folder: Path) -> None:
    """Make the word 0 the tokenizer's end token."""
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token": "w0"}))
