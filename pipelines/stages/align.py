"""Stage `align`: PPO with the KL to the reference that the experiment names; SALSA when that is the soup."""

import shutil
from typing import Any

from pipelines.scoring import scorer_of
from pipelines.training import train
from pipelines.work import Work
from salsa.data.chat import encode_prompts
from salsa.data.conversation import Prompt
from salsa.data.lengths import fit_prompts
from salsa.models.families import load_causal, load_scalar, load_tokenizer, save
from salsa.models.heads import critic_from_reward
from salsa.rl.ppo import PPO
from salsa.rl.references import FrozenReference
from salsa.rl.settings import PPOSettings
from salsa.rl.trace import Trace

TRACE = "trace"


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave the policy's model folder, its critic, its training curve, and replies along the way (`trace/`)."""
    config, inputs = work.config, work.inputs
    tokenizer = load_tokenizer(inputs["init"].path)
    settings = _settings(work)
    scorer = scorer_of(inputs["reward"], config["missing_end_score"], work.execution.micro_batch_tokens)
    module = PPO(
        settings,
        policy=load_causal(inputs["init"].path),
        critic=critic_from_reward(load_scalar(inputs["reward"].path)),
        reference=FrozenReference(
            load_causal(inputs["reference"].path), inputs["reference"].fingerprint, settings.micro_batch_tokens
        ),
        scorer=scorer,
        prompts=_prompts(work, tokenizer, settings),
        eos=tokenizer.eos_token_id,
        pad=tokenizer.pad_token_id,
        trace=Trace(work.unfinished / TRACE, _trace_prompts(work, tokenizer)),
    )
    last = train(work, module, lambda step: step, settings.steps)
    save(module.policy, tokenizer, work.folder)
    save(module.critic, tokenizer, work.folder / "critic")
    shutil.copytree(work.unfinished / TRACE, work.folder / TRACE)
    says = f"{settings.steps} steps x {settings.batch_prompts} prompts, KL coefficient {settings.kl_coef:g}"
    says += f", reward {last['reward/score']:.2f}, KL to reference {last['kl/reply_k1']:.2f} nats a reply"
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


def _prompts(work: Work, tokenizer: Any, settings: PPOSettings) -> list[list[int]]:
    """Return the training prompts: enough for every iteration to have its own, where the source has as many."""
    return _ids(
        work, tokenizer, work.source.prompts(work.rng("alignment prompts"), settings.steps * settings.batch_prompts)
    )


def _trace_prompts(work: Work, tokenizer: Any) -> list[list[int]]:
    """Return the first questions of the validation suite, the fixed prompts that replies are stored for."""
    return _ids(work, tokenizer, work.source.suite("validation", work.config["trace_prompts"]))


def _ids(work: Work, tokenizer: Any, prompts: list[Prompt]) -> list[list[int]]:
    generation = work.config["generation"]
    kept = fit_prompts(tokenizer, prompts, generation["context"], generation["max_new_tokens"]).kept
    return encode_prompts(tokenizer, [prompt.conversation() for prompt in kept])
