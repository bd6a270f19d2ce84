"""What TRL makes of given tensors; run by the peer's own Python, imports nothing of salsa.

python trl_losses.py ppo WORKLOAD      one update of its PPO trainer, generation replaced by `replies.json`
python trl_losses.py group FOLDER      losses and advantages of its GRPO and RLOO trainers for `given.safetensors`

Both write `peer.safetensors` into the folder. Nothing of TRL is rewritten here: its trainers run, and what they have
computed is read from the frames of their own functions.
"""

import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast

Tensors = dict[str, Tensor]
PLAIN = {"use_bias_correction_kl": False}
"""The k3 of GRPO's paper; by default this release multiplies it by the ratio."""
COLLECTED = ("logprobs", "ref_logprobs", "values", "scores", "rewards", "returns", "padding_mask", "padding_mask_p1")
LEARNED = ("new_logprobs", "vpred", "mb_logprobs", "mb_advantage", "mb_values", "mb_return", "pg_loss", "vf_loss")


def ppo(folder: Path) -> Tensors:
    """Return the tensors of one update, the trained weights, and the row of the workload that each row comes from."""
    from trl.experimental.ppo import PPOTrainer, ppo_trainer
    from trl_ppo import configuration, tokenizer

    settings = json.loads((folder / "settings.json").read_text())
    prompts = json.loads((folder / "prompts.json").read_text())
    replies = json.loads((folder / "replies.json").read_text())
    found: Tensors = {}
    ppo_trainer.batch_generation = _fixed_replies(prompts, replies, settings, found)
    ppo_trainer.masked_whiten = _watched(ppo_trainer.masked_whiten, found)
    data = Dataset.from_dict({"input_ids": prompts})
    policy = AutoModelForCausalLM.from_pretrained(folder / "policy")
    critic = AutoModelForSequenceClassification.from_pretrained(folder / "critic")
    trainer = PPOTrainer(
        args=configuration(settings, 1, settings["batch"]),
        processing_class=tokenizer(folder, settings),
        model=policy,
        ref_model=AutoModelForCausalLM.from_pretrained(folder / "reference"),
        reward_model=AutoModelForSequenceClassification.from_pretrained(folder / "reward"),
        value_model=critic,
        train_dataset=data,
        eval_dataset=data,
    )
    backward = trainer.accelerator.backward
    passes: list[Tensor] = []

    def watched_backward(loss: Tensor) -> None:
        frame = sys._getframe(1).f_locals
        rows = torch.as_tensor(frame["micro_batch_inds"])
        for name in LEARNED:
            found[f"pass{len(passes)}.{name}"] = frame[name].detach().clone()
        for name in ("padding_mask", "padding_mask_p1"):
            found[f"pass{len(passes)}.{name}"] = frame[name][rows].clone()
        passes.append(rows)
        backward(loss)

    trainer.accelerator.backward = watched_backward
    trainer.train()
    found |= {f"policy.{name}": weight for name, weight in policy.state_dict().items()}
    found |= {f"critic.{name}": weight for name, weight in critic.state_dict().items()}
    return found


def _fixed_replies(
    prompts: list[list[int]], replies: list[list[int]], settings: dict[str, Any], found: Tensors
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return what takes the place of generation: the reply to each prompt, with the logits of the model itself."""
    rows = {tuple(prompt): row for row, prompt in enumerate(prompts)}

    def generation(model: Any, queries: Tensor, batch: int, pad: int, config: Any) -> tuple[Tensor, Tensor]:
        chosen = [rows[tuple(token for token in query if token != pad)] for query in queries.tolist()]
        found["row"] = torch.tensor(chosen)
        # Behind the end it samples on, as generation does: any word will do.
        filled = [replies[row] + [1] * (settings["max_new"] - len(replies[row])) for row in chosen]
        together = torch.cat([queries, torch.tensor(filled)], dim=1)
        seen = together != pad
        output = model(
            input_ids=together.masked_fill(~seen, 0), attention_mask=seen, position_ids=seen.cumsum(1) - seen.long()
        )
        return together, output.logits[:, queries.shape[1] - 1 : -1] / settings["temperature"]

    return generation


def _watched(whiten: Callable[..., Tensor], found: Tensors) -> Callable[..., Tensor]:
    def watched(values: Tensor, mask: Tensor, **named: Any) -> Tensor:
        frame = sys._getframe(1).f_locals
        found.update({name: frame[name].detach().clone() for name in COLLECTED})
        found["advantages"] = values.clone()
        found["whitened"] = whiten(values, mask, **named)
        return found["whitened"]

    return watched


def group(folder: Path) -> Tensors:
    """Return losses with their gradients in the log-probabilities, and advantages of the given rewards."""
    given = load_file(folder / "given.safetensors")
    settings = json.loads((folder / "settings.json").read_text())
    found: Tensors = {}
    for kind in ("grpo", "dapo"):
        trainer = _trainer("grpo", folder, settings, given["rewards"], loss_type=kind, beta=settings["beta"], **PLAIN)
        found |= _loss(trainer, given, f"grpo.{kind}", old_per_token_logps=given["old_logps"])
        found["grpo.advantages"] = _advantages(trainer)
    trainer = _trainer("rloo", folder, settings, given["rewards"], beta=0.0)
    # At the policy that rolled out, where the ratio is 1.
    found |= _loss(trainer, given, "rloo", old_logps=(given["logps"] * given["mask"]).sum(1))
    found["rloo.advantages"] = _advantages(trainer)
    return found


def _trainer(kind: str, folder: Path, settings: dict[str, Any], rewards: Tensor, **own: Any) -> Any:
    """Return a trainer of one step whose replies, whatever they are, get the given rewards."""
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    config, trainer = (GRPOConfig, GRPOTrainer) if kind == "grpo" else (RLOOConfig, RLOOTrainer)
    size, count = settings["group"], len(rewards)
    arguments = config(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=count,
        num_generations=size,
        max_completion_length=4,
        max_steps=1,
        learning_rate=0.0,
        epsilon=settings["clip"],
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        **own,
    )
    words = PreTrainedTokenizerFast.from_pretrained(folder / "model", padding_side="left")
    return trainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "model"),
        reward_funcs=lambda completions, **_: rewards[: len(completions)].tolist(),
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": [f"w{row + 1} w{row + 2}" for row in range(count // size)]}),
        processing_class=words,
    )


def _loss(trainer: Any, given: Tensors, name: str, **old: Tensor) -> Tensors:
    """Return the trainer's own loss for given log-probabilities, and its gradient in them."""
    logps = given["logps"].clone().requires_grad_()
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (logps, torch.zeros_like(logps), None)
    mask = given["mask"].long()
    empty = torch.zeros(len(mask), 1, dtype=torch.long)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    inputs = {
        "prompt_ids": empty,
        "prompt_mask": empty,
        "completion_ids": torch.zeros_like(mask),
        "completion_mask": mask,
        "advantages": given["advantages"],
        "ref_per_token_logps": given["ref_logps"],
        "num_items_in_batch": mask.sum(),
        **old,
    }
    loss = trainer._compute_loss(trainer.model, inputs)
    (gradient,) = torch.autograd.grad(loss, logps)
    del trainer._get_per_token_logps_and_entropies
    return {f"{name}.loss": loss.detach(), f"{name}.gradient": gradient}


def _advantages(trainer: Any) -> Tensor:
    """Return the advantages of one real training step."""
    trainer.train()
    return torch.tensor(list(trainer._logs["advantages"]))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    place = Path(sys.argv[2])
    tensors = {"ppo": ppo, "group": group}[sys.argv[1]](place)
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, place / "peer.safetensors")
    print(json.dumps({"tensors": sorted(tensors)}))
