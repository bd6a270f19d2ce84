"""Stage `align`: an algorithm of the PPO family with the experiment's reference; SALSA when that is the soup."""

import json
import math
import shutil
from typing import Any

from pipelines.adapters import Models, keep
from pipelines.arm import guard_settings
from pipelines.rewards import reward_sum
from pipelines.samples import SampleBook
from pipelines.scoring import reads_text
from pipelines.training import train
from pipelines.work import Work
from salsa.data.chat import encode_prompts
from salsa.data.conversation import Prompt
from salsa.data.lengths import fit_prompts
from salsa.models.families import load_tokenizer
from salsa.models.heads import ValueHead
from salsa.models.source import is_adapter
from salsa.rl.guards import NAMES as GUARD_NAMES
from salsa.rl.ppo import PPO
from salsa.rl.references import FrozenReference, MixtureReference, MovingReference, Reference
from salsa.rl.settings import PPOSettings
from salsa.rl.text_rewards import RewardModelError
from salsa.rl.trace import Trace, load_best

TRACE = "trace"
SAMPLES = "samples.md"
BEST = "best"
VALIDATION = "validation.json"

_OTHER_KEYS = (
    "data",
    "generation",
    "guards",
    "keep_best",
    "missing_end_score",
    "reference",
    "replicate",
    "rewards",
    "seed",
    "trace_prompts",
)


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave the policy's model folder, its critic, its training curve, and replies along the way (`trace/`)."""
    config, inputs = work.config, work.inputs
    tokenizer = load_tokenizer(inputs["init"].path)
    settings = _settings(work)
    models = Models.of(work, adapted=is_adapter(inputs["init"].path))
    policy = models.language("policy", inputs["init"].path)
    prompts = _training_prompts(work, tokenizer, settings)
    traced = _fitting(work, tokenizer, work.source.suite("validation", config["trace_prompts"]))
    asked, asked_along = _ids(tokenizer, prompts), _ids(tokenizer, traced)
    best = work.unfinished / "best.safetensors" if config["keep_best"] else None
    book = SampleBook(work, tokenizer, traced, work.unfinished / SAMPLES, work.unfinished / TRACE)
    module = PPO(
        settings,
        policy=policy,
        critic=_critic(work, settings, models),
        reference=_reference(work, settings, models, policy),
        scorer=reward_sum(
            work,
            tokenizer,
            [*prompts, *traced],
            [*asked, *asked_along],
            lambda folder: models.scalar("reward", folder),
        ),
        prompts=asked,
        eos=tokenizer.eos_token_id,
        pad=tokenizer.pad_token_id,
        trace=Trace(work.unfinished / TRACE, asked_along, best, book.add),
    )
    last = train(work, module, lambda step: step, settings.steps)
    keep(work, module.policy, tokenizer)
    if module.critic is not None and not isinstance(module.critic, ValueHead):
        keep(work, module.critic, tokenizer, "critic")
    shutil.copytree(work.unfinished / TRACE, work.folder / TRACE)
    shutil.copyfile(work.unfinished / SAMPLES, work.folder / SAMPLES)
    says = _save_best(work, module, tokenizer)
    return _summary(settings, last) + says, _finite(last)


def _save_best(work: Work, module: PPO, tokenizer: Any) -> str:
    """Save the best policy in `best/`, unless it is the last one, and say where the best one is."""
    tracer = module.tracer
    assert tracer is not None
    kept = work.config["keep_best"] and tracer.best_step not in (None, module.settings.steps)
    objective = None if tracer.best_step is None else tracer.best_objective
    (work.folder / VALIDATION).write_text(
        json.dumps({"best_step": tracer.best_step, "best_objective": objective, "kept": kept}, indent=1)
    )
    if not kept:
        return ""
    load_best(work.unfinished / "best.safetensors", module.policy)
    keep(work, module.policy, tokenizer, BEST)
    return f"; best on validation after {tracer.best_step} steps (in {BEST}/)"


def _summary(settings: PPOSettings, last: dict[str, float]) -> str:
    says = f"{settings.steps} steps x {settings.episodes} replies, KL coefficient {settings.kl_coef:g}"
    says += f", reward {last['reward/score']:.2f}, KL to reference {last['kl/reply_k1']:.2f} nats a reply"
    crossed = {name: int(last[f"guard/{name}"]) for name in GUARD_NAMES if f"guard/{name}" in last}
    if crossed:
        says += "; guards crossed: " + ", ".join(f"{name} in {count} steps" for name, count in crossed.items())
    return says


def _finite(metrics: dict[str, float]) -> dict[str, float | None]:
    """Return metrics as a manifest takes them: the last iteration may be one that the guard non_finite has skipped."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _settings(work: Work) -> PPOSettings:
    config = work.config
    own = {key: value for key, value in config.items() if key not in _OTHER_KEYS}
    generation = config["generation"]
    return PPOSettings(
        **own | {"betas": tuple(config["betas"])},
        guards=guard_settings(dict(work.stage.execution["guards"])),
        temperature=generation["temperature"],
        max_new_tokens=generation["max_new_tokens"],
        seed=work.seed("align"),
        micro_batch_tokens=work.execution.micro_batch_tokens,
    )


def _critic(work: Work, settings: PPOSettings, models: Models) -> Any:
    """Return the separate critic of an arm that has one, else None; its first values are zero."""
    if settings.credit != "gae" or settings.critic == "trunk":
        return None
    if settings.critic == "reward":
        if reads_text(work.inputs["reward"]):
            raise RewardModelError(
                "policy.critic=reward: the reward model has another tokenizer than the policy, whose states a critic "
                "must read; use policy.critic=sft"
            )
        return models.critic(work.inputs["reward"].path, from_reward=True)
    return models.critic(work.inputs["init"].path, from_reward=False)


def _reference(work: Work, settings: PPOSettings, models: Models, policy: Any) -> Reference:
    """Return what the KL is measured to; a reference that follows the policy starts as its copy."""
    reference, tokens = work.config["reference"], settings.micro_batch_tokens
    if reference["kind"] == "moving":
        identity = f"policy, moving by {reference['rate']:g} every {reference['every']}"
        own = models.copy("reference", policy)
        return MovingReference(own, identity, rate=reference["rate"], every=reference["every"], max_tokens=tokens)
    shares = reference.get("shares", [1.0])
    roles = [f"reference_{index}" for index in range(1, len(shares) + 1)]
    frozen = [
        FrozenReference(models.language(role, work.inputs[role].path), work.inputs[role].fingerprint, tokens)
        for role in roles
    ]
    return frozen[0] if len(frozen) == 1 else MixtureReference(list(zip(shares, frozen, strict=True)))


def _training_prompts(work: Work, tokenizer: Any, settings: PPOSettings) -> list[Prompt]:
    """Return the training prompts: enough for every iteration to have its own, where the source has as many."""
    wanted = settings.steps * settings.batch_prompts
    return _fitting(work, tokenizer, work.source.prompts(work.rng("alignment prompts"), wanted))


def _fitting(work: Work, tokenizer: Any, prompts: list[Prompt]) -> list[Prompt]:
    generation = work.config["generation"]
    return list(fit_prompts(tokenizer, prompts, generation["context"], generation["max_new_tokens"]).kept)


def _ids(tokenizer: Any, prompts: list[Prompt]) -> list[list[int]]:
    return encode_prompts(tokenizer, [prompt.conversation() for prompt in prompts])
