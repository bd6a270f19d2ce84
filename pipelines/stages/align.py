"""Stage `align`: PPO with the KL to the reference that the experiment names; SALSA when that is the soup."""

import json
from pathlib import Path
from typing import Any

from pipelines.prompts import fitting
from pipelines.scoring import scorer_of
from pipelines.training import train
from pipelines.work import Work
from salsa.data.chat import encode_prompts
from salsa.models.families import load_causal, load_scalar, load_tokenizer, save
from salsa.models.heads import critic_from_reward
from salsa.rl.ppo import PPO, PPOSettings, Trace
from salsa.rl.references import FrozenReference
from salsa.training.metrics import FILE_NAME as METRICS

TRACE = "trace"


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave the policy's model folder, its critic, its training curve, and replies along the way (`trace/`)."""
    config, inputs = work.config, work.inputs
    tokenizer = load_tokenizer(inputs["init"].path)
    settings = _settings(work)
    scorer = scorer_of(inputs["reward"], config["missing_end_score"], work.execution.micro_batch_tokens)
    module = PPO(
        load_causal(inputs["init"].path),
        critic_from_reward(load_scalar(inputs["reward"].path)),
        FrozenReference(load_causal(inputs["reference"].path), inputs["reference"].fingerprint),
        scorer,
        _prompts(work, tokenizer, settings),
        settings,
        eos=tokenizer.eos_token_id,
        pad=tokenizer.pad_token_id,
        trace=_trace(work, tokenizer),
    )
    last = train(work, module, module.make_batch, settings.steps)
    save(module.policy, tokenizer, work.folder)
    save(module.critic, tokenizer, work.folder / "critic")
    _keep_trace(work)
    says = f"{settings.steps} steps x {settings.batch_prompts} prompts, KL coefficient {settings.kl_coef:g}"
    says += f", reward {last['reward']:.2f}, KL to reference {last['kl']:.2f} nats a reply"
    return says, last


def _settings(work: Work) -> PPOSettings:
    config = work.config
    own = {
        key: config[key]
        for key in (
            "steps",
            "batch_prompts",
            "epochs",
            "minibatches",
            "learning_rate",
            "critic_learning_rate",
            "final_fraction",
            "warmup_steps",
            "adam_eps",
            "clip",
            "value_clip",
            "kl_coef",
            "gamma",
            "lam",
            "missing_end_score",
            "gradient_clip",
            "trace_every",
        )
    }
    generation = config["generation"]
    return PPOSettings(
        **own,
        betas=tuple(config["betas"]),
        temperature=generation["temperature"],
        max_new_tokens=generation["max_new_tokens"],
        seed=work.seed("align"),
        micro_batch_tokens=work.execution.micro_batch_tokens,
    )
