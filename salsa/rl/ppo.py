"""The PPO family with a reference of any kind, as a Lightning module whose training step is one iteration."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from transformers import PreTrainedModel

from salsa import seeds
from salsa.models.heads import TrunkCritic, ValueHead
from salsa.models.scoring import reply_values
from salsa.models.sequences import Sequences
from salsa.rl.experience import Experience, experience
from salsa.rl.guards import NAMES as GUARD_NAMES
from salsa.rl.guards import Crossing, act, crossings
from salsa.rl.learner import Learner
from salsa.rl.references import Reference
from salsa.rl.rollout import Rollout, generate
from salsa.rl.settings import PPOSettings
from salsa.rl.trace import Trace, Tracer
from salsa.training.batches import batch_indices
from salsa.training.loop import Recorded
from salsa.training.optimiser import OptimiserSettings, adamw, rate_factor

__all__ = ["PPO", "Experience", "PPOSettings", "Rewarder"]

_STATE = "salsa_alignment"


class Rewarder(Protocol):
    """Gives replies their rewards, term by term."""

    def terms(self, sequences: Sequences, ended: Tensor) -> dict[str, Tensor]:
        """Return the terms [rows] of the rewards of replies; `ended` [rows] tells which have their end token."""
        ...

    def total(self, terms: dict[str, Tensor], ended: Tensor) -> Tensor:
        """Return the rewards [rows] that the terms amount to."""
        ...

    def to(self, device: torch.device) -> None:
        """Move to the device of the policy."""
        ...


class PPO(Recorded):
    """Maximises reward - kl_coef KL(policy || reference) by PPO (arXiv:1707.06347; for language, arXiv:1909.08593).

    What the settings make of it: PPO, SALSA, APA, GRPO, RLOO, REINFORCE (docs/algorithms.md). Only `policy` and critic
    belong to the module and its checkpoints; they are trained in place. A `critic` is needed by the credit gae, unless
    it is a head on the policy's trunk, which is made here. Reference and reward model are frozen (a moving reference
    leaves its state in the checkpoint) and follow the module to its device. A batch is the number of the iteration:
    prompts, sampling noise and minibatches of iteration k are functions of (seed, k) alone, so a training that is
    resumed from a checkpoint goes on exactly as it would have. Dropout is off in all models.

    With a `trace`, the policy's replies to its prompts at temperature 1, drawn with the same noise each time, are
    written and scored before the first iteration, after every `trace_every` iterations and after the last.

    Raises:
        ValueError: if there are no prompts, a critic is missing or superfluous, or reference and policy share weights.
    """

    headline = ("reward/score", "kl/reply_k1", "reply/length")

    def __init__(
        self,
        settings: PPOSettings,
        *,
        policy: PreTrainedModel,
        critic: PreTrainedModel | None,
        reference: Reference,
        scorer: Rewarder,
        prompts: Sequence[Sequence[int]],
        eos: int,
        pad: int,
        trace: Trace | None = None,
    ) -> None:
        super().__init__()
        if not prompts:
            raise ValueError("PPO needs prompts; check that the data of this stage is not empty")
        own = settings.credit == "gae" and settings.critic != "trunk"
        if own != (critic is not None):
            wants = "needs" if own else "takes no"
            raise ValueError(f"credit {settings.credit} with critic {settings.critic} {wants} separate critic")
        for name, model in (("policy", policy), ("critic", critic)):
            if model is not None and not any(parameter.requires_grad for parameter in model.parameters()):
                raise ValueError(f"no parameter of the {name} may learn; a frozen reference must be a copy of its own")
        self.automatic_optimization = False
        self.settings = settings
        self.policy = policy
        self.critic = ValueHead(policy) if settings.credit == "gae" and settings.critic == "trunk" else critic
        self.reference = reference
        self.scorer = scorer
        self.prompts = prompts
        self.eos = eos
        self.pad = pad
        self.tracer = None if trace is None else Tracer(trace)
        self.kl_coef = settings.kl_coef
        self.guard_counts = dict.fromkeys(GUARD_NAMES, 0)
        self._learner = Learner(settings, policy, self.critic, self.manual_backward)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return one Adam each for policy (with a head on its trunk) and critic; `training_step` sets their rates."""
        settings, shared = self.settings, isinstance(self.critic, ValueHead)
        head = list(self.critic.parameters()) if self.critic is not None and shared else []
        optimisers = [adamw([*self.policy.parameters(), *head], self._rate_settings(settings.learning_rate))]
        if self.critic is not None and not shared:
            rate = self._rate_settings(settings.critic_learning_rate)
            optimisers.append(adamw(self.critic.parameters(), rate))
        return list(optimisers)

    def on_fit_start(self) -> None:
        """Bring the frozen models, which Lightning does not know, to the device; switch dropout off."""
        self.eval()
        self.reference.to(self.device)
        self.scorer.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what changes beside the weights: the KL coefficient, a moving reference, the best validation, guards."""
        checkpoint[_STATE] = {
            "kl_coef": self.kl_coef,
            "reference_identity": self.reference.identity,
            "reference": self.reference.state(),
            "best": None if self.tracer is None else self.tracer.state(),
            "guards": dict(self.guard_counts),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over what `on_save_checkpoint` added; raises ValueError for a training with another reference."""
        state = checkpoint[_STATE]
        if state["reference_identity"] != self.reference.identity:
            raise ValueError(
                f"the checkpoint belongs to a training with the reference {state['reference_identity']!r}, this one "
                f"has {self.reference.identity!r}: delete the checkpoint to start over"
            )
        self.kl_coef = float(state["kl_coef"])
        self.reference.load_state(state["reference"])
        self.guard_counts = dict(state["guards"])
        if self.tracer is not None:
            self.tracer.load_state(state["best"])

    def training_step(self, iteration: int, batch_idx: int = 0) -> None:
        """Run iteration `iteration` (from 0): roll out, score, update policy and critic, record.

        Raises:
            GuardError: if a guard stops the training: a figure that is not finite, or a limit that is crossed.
        """
        if iteration == 0:
            self._trace(0)
        experience, measured = self.collect(iteration)
        rates = self._set_rates(iteration)
        values = _numbers(measured) | rates | {"kl/coefficient": self.kl_coef}
        if not self._guard(iteration, values, values):
            learned = _numbers(self._learn(iteration, experience))
            values |= learned
            self._guard(iteration, learned, values)
        self._adapt(values["kl/reply_k1"])
        self.reference.follow(self.policy, iteration + 1)
        if (iteration + 1) % self.settings.trace_every == 0 or iteration + 1 == self.settings.steps:
            values |= self._trace(iteration + 1)
        self.record(iteration, values | self._counted())

    def collect(self, iteration: int) -> tuple[Experience, dict[str, Tensor]]:
        """Return the experience of an iteration, with its metrics; the policy does not change."""
        settings = self.settings
        chosen = batch_indices(settings.seed, iteration, settings.batch_prompts, len(self.prompts))
        prompts = [self.prompts[row] for row in chosen for _ in range(settings.replies_per_prompt)]
        rollout = self._generate(prompts, settings.temperature, self._generator("sampling", iteration))
        references = self.reference.token_logps(rollout.sequences, settings.temperature)
        terms = self.scorer.terms(rollout.sequences, rollout.ended)
        scores = self.scorer.total(terms, rollout.ended)
        collected, metrics = experience(
            rollout, scores, references, self._values(rollout.sequences), settings, self.kl_coef
        )
        by_term = {f"reward/{name}": term.mean() for name, term in terms.items()} if len(terms) > 1 else {}
        return collected, metrics | by_term

    def _values(self, sequences: Sequences) -> Tensor | None:
        if self.critic is None:
            return None
        critic = TrunkCritic(self.policy, self.critic) if isinstance(self.critic, ValueHead) else self.critic
        with torch.inference_mode():
            values = reply_values(critic, sequences, max_tokens=self.settings.micro_batch_tokens)
        return values.clone()

    def _learn(self, iteration: int, experience: Experience) -> dict[str, Tensor]:
        rows, epochs = len(experience.sequences.ids), self.settings.epochs

        def permutation(each_pass: int) -> Tensor:
            return torch.randperm(rows, generator=self._generator("minibatches", iteration * epochs + each_pass))

        optimisers = self.optimizers()
        optimisers = optimisers if isinstance(optimisers, list) else [optimisers]
        return self._learner.update(experience, self.kl_coef, optimisers, permutation)

    def _guard(self, iteration: int, measured: dict[str, float], values: dict[str, float]) -> bool:
        """Count the guards that `measured` crosses, do what they lead to, return whether the update is to be skipped.

        A training that is stopped leaves the `values` of the iteration in the log.
        """
        found = crossings(measured, self.settings.guards)
        fresh: list[Crossing] = [crossing for crossing in found if not self.guard_counts[crossing.guard]]
        for crossing in found:
            self.guard_counts[crossing.guard] += 1
        if any(crossing.action == "stop" for crossing in found):
            self.record(iteration, values | self._counted())
        return act(found, fresh, iteration)

    def _counted(self) -> dict[str, float]:
        """Return how many iterations have crossed each guard so far, of those that were crossed."""
        return {f"guard/{name}": float(count) for name, count in self.guard_counts.items() if count}

    def _adapt(self, divergence: float) -> None:
        """Steer an adaptive coefficient: a factor 1 + error x episodes / horizon, the error clipped to 20 %.

        Ziegler et al., arXiv:1909.08593, section 2.2; `divergence` is the KL to the reference, nats a reply.
        """
        settings = self.settings
        if settings.kl_target is not None and math.isfinite(divergence):
            error = min(max(divergence / settings.kl_target - 1, -0.2), 0.2)
            self.kl_coef *= 1 + error * settings.episodes / settings.kl_horizon

    def _generate(self, prompts: Sequence[Sequence[int]], temperature: float, generator: torch.Generator) -> Rollout:
        settings = self.settings
        return generate(
            self.policy,
            prompts,
            eos=self.eos,
            pad=self.pad,
            max_new=settings.max_new_tokens,
            temperature=temperature,
            noise=torch.rand(len(prompts), settings.max_new_tokens, generator=generator),
            max_tokens=settings.micro_batch_tokens,
        )

    def _trace(self, step: int) -> dict[str, float]:
        """Write and score the replies of the policy that has finished `step` iterations, if there is a trace."""
        if self.tracer is None:
            return {}
        rollout = self._generate(self.tracer.trace.prompts, 1.0, self._generator("trace", 0))
        scores = self.scorer.total(self.scorer.terms(rollout.sequences, rollout.ended), rollout.ended)
        references = self.reference.token_logps(rollout.sequences, 1.0)
        charged = self.settings.kl_placement != "none" or self.settings.loss == "square"
        price = self.settings.kl_coef if charged else 0.0
        return self.tracer.take(step, rollout, scores, references, price, self.policy)

    def _generator(self, role: str, index: int) -> torch.Generator:
        """Return the source of noise for one purpose and one turn: a function of the seed and of nothing else."""
        return torch.Generator().manual_seed(seeds.integer(self.settings.seed, 0, f"ppo {role}", index))

    def _rate_settings(self, learning_rate: float) -> OptimiserSettings:
        settings = self.settings
        return OptimiserSettings(
            learning_rate=learning_rate,
            schedule="linear",
            warmup_steps=settings.warmup_steps,
            final_fraction=settings.final_fraction,
            betas=settings.betas,
            eps=settings.adam_eps,
        )

    def _set_rates(self, iteration: int) -> dict[str, float]:
        """Set and return the learning rates of an iteration, which all its minibatches share."""
        optimisers = self.optimizers()
        optimisers = optimisers if isinstance(optimisers, list) else [optimisers]
        settings = self.settings
        peaks = {"policy": settings.learning_rate, "critic": settings.critic_learning_rate}
        rates = {}
        for (name, peak), optimiser in zip(peaks.items(), optimisers, strict=False):
            rates[f"{name}/learning_rate"] = self._set_rate(optimiser, peak, iteration)
        return rates

    def _set_rate(self, optimiser: LightningOptimizer, learning_rate: float, iteration: int) -> float:
        rate = learning_rate * rate_factor(self._rate_settings(learning_rate), iteration, self.settings.steps)
        for group in optimiser.param_groups:
            group["lr"] = rate
        return rate


def _numbers(metrics: dict[str, Tensor]) -> dict[str, float]:
    """Return metrics as numbers, in one transfer: each would wait for the device by itself."""
    return dict(zip(metrics, torch.stack([value.float() for value in metrics.values()]).tolist(), strict=True))
