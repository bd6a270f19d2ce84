"""What adapters over one base save: peak memory and checkpoint of a PPO run with four full models and with adapters.

python -m benchmarks.lora [--layers 12] [--hidden 768] [--rank 8] [--steps 2] [--json]

Policy, critic, reference (a soup of two SFT models) and reward model of random weights in float32; the same rollouts in
every cell, up to what random adapters change. Each cell runs in a process of its own, on the CPU with one thread. Its
memory is the highest resident size less the size before the models are made, so it holds weights, gradients, Adam's
moments and activations, but not Python and its libraries.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORDS, PROMPT, REPLY, PROMPTS = 8192, 16, 16, 8
KINDS = ("full", "adapters")
CRITICS = ("reward", "trunk")
MEBI = 2**20


def measure(kind: str, critic: str, layers: int, hidden: int, rank: int, steps: int) -> dict[str, float]:
    """Return peak memory and checkpoint (MiB), parameters, those that are trained, and CPU seconds an iteration."""
    import torch

    from salsa.rl.ppo import PPO, PPOSettings
    from salsa.rl.references import FrozenReference
    from salsa.rl.rewards import usual_reward
    from salsa.training.loop import CHECKPOINT, fit

    torch.set_num_threads(1)
    before = _resident(reset=True)
    make = _full if kind == "full" else _adapters
    policy, value_model, reference, reward = make(_base(layers, hidden), rank)
    base = policy if kind == "full" else policy.shared.model
    size = sum(parameter.numel() for parameter in base.parameters() if kind == "full" or not parameter.requires_grad)
    settings = PPOSettings(
        steps=steps, batch_prompts=PROMPTS, minibatches=2, epochs=1, max_new_tokens=REPLY, critic=critic, trace_every=99
    )
    module = PPO(
        settings,
        policy=policy,
        critic=value_model if critic == "reward" else None,
        reference=FrozenReference(reference, "soup"),
        scorer=usual_reward(reward, mean=0.0, std=1.0, missing_end_score=None),
        prompts=torch.randint(3, WORDS, (4 * PROMPTS, PROMPT), generator=torch.Generator().manual_seed(0)).tolist(),
        eos=WORDS,  # no word: every reply has its full length
        pad=0,
    )
    del value_model
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        fit(module, lambda step: step, steps, Path(folder), checkpoint_steps=steps, accelerator="cpu")
        seconds = time.process_time() - started
        checkpoint = (Path(folder) / CHECKPOINT).stat().st_size / MEBI
    trained = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    return {
        "mebibytes": _highest() - before,
        "checkpoint_mebibytes": checkpoint,
        "parameters": size,
        "trained": trained,
        "cpu_seconds": seconds / steps,
    }


def cell(kind: str, critic: str, sizes: list[int]) -> dict[str, Any]:
    """Return the figures of one cell, measured in another process."""
    arguments = [kind, critic, *(str(size) for size in sizes)]
    command = [sys.executable, "-m", "benchmarks.lora", "--cell", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{kind}, critic {critic}: {done.stderr.strip()[-400:]}")
    return {"models": kind, "critic": critic} | json.loads(done.stdout.splitlines()[-1])


def table(cells: list[dict[str, Any]]) -> str:
    """Return the cells as a Markdown table."""
    lines = [
        f"Base: {cells[0]['parameters'] / 1e6:.0f} million parameters, {cells[0]['parameters'] * 4 / MEBI:.0f} MiB.",
        "",
        "| models | critic | trained, millions | peak memory, MiB | checkpoint, MiB | CPU s an iteration |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for found in cells:
        figures = (found["trained"] / 1e6, found["mebibytes"], found["checkpoint_mebibytes"], found["cpu_seconds"])
        shown = "{:.1f} | {:.0f} | {:.0f} | {:.1f}".format(*figures)
        critic = "its own" if found["critic"] == "reward" else "a head on the policy"
        lines.append(f"| {found['models']} | {critic} | {shown} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, or its cells as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12, help="layers of the base")
    parser.add_argument("--hidden", type=int, default=768, help="width of the base, a multiple of 64")
    parser.add_argument("--rank", type=int, default=8, help="rank of the adapters")
    parser.add_argument("--steps", type=int, default=2, help="PPO iterations")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    parser.add_argument("--cell", nargs=6, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.cell:
        kind, critic, *sizes = asked.cell
        print(json.dumps(measure(kind, critic, *(int(size) for size in sizes))))
        return
    sizes = [asked.layers, asked.hidden, asked.rank, asked.steps]
    cells = [cell(kind, critic, sizes) for critic in CRITICS for kind in KINDS]
    print(json.dumps(cells, indent=2) if asked.json else table(cells))


def _base(layers: int, hidden: int) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        max_position_embeddings=PROMPT + REPLY,
        tie_word_embeddings=True,
        pad_token_id=0,
    )
    return AutoModelForCausalLM.from_config(config)


def _full(base: Any, rank: int) -> tuple[Any, Any, Any, Any]:
    """Return policy, critic, reference and reward model as models of their own."""
    import copy

    from salsa.models.heads import critic_from_reward, reward_from_causal

    reward = reward_from_causal(base, head_seed=0)
    return base, critic_from_reward(reward), copy.deepcopy(base), reward


def _adapters(base: Any, rank: int) -> tuple[Any, Any, Any, Any]:
    """Return policy, critic, reference (the soup of two adapters) and reward model as adapters over one base."""
    import torch

    from salsa.models.adapters import SharedBase
    from salsa.models.heads import head_weight
    from salsa.models.lora import LINEAR_LAYERS, LoraSettings
    from salsa.soup.adapters import soup_of

    shared, settings = SharedBase(base), LoraSettings(rank, 2.0 * rank, LINEAR_LAYERS)
    policy = shared.new("policy", settings, seed=1)
    reference = shared.load("reference", soup_of([policy.adapter(), policy.adapter()], [0.5, 0.5]))
    hidden = base.config.hidden_size
    reward = shared.new("reward", settings, seed=2).give_head(head_weight(hidden, 0))
    return policy, reward.copy("critic").give_head(torch.zeros(1, hidden)), reference, reward


def _resident(reset: bool) -> float:
    """Return the resident size of this process in MiB; with `reset` its highest one counts from now on."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return _mebibytes("VmRSS")


def _highest() -> float:
    return _mebibytes("VmHWM")


def _mebibytes(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) / 1024


if __name__ == "__main__":
    main()
