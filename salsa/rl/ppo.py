"""PPO with a frozen reference of any origin, as a Lightning module whose training step is one PPO iteration."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from transformers import PreTrainedModel

from salsa import seeds
from salsa.models.layout import Layout, layouts
from salsa.models.scoring import reply_values, token_logps, token_values
from salsa.models.sequences import Sequences, reply_mask
from salsa.rl.advantages import gae, token_rewards, whiten
from salsa.rl.objectives import PolicyLoss, ValueLoss, k1, k3, policy_loss, value_loss
from salsa.rl.references import Reference
from salsa.rl.rewards import RewardScorer
from salsa.rl.rollout import Rollout, generate
from salsa.rl.settings import PPOSettings
from salsa.rl.trace import Trace, trace_path, write_trace
from salsa.training.batches import batch_indices
from salsa.training.loop import Recorded
from salsa.training.optimiser import OptimiserSettings, adamw, rate_factor

__all__ = ["PPO", "Experience", "PPOSettings"]

# The terms of `PolicyLoss` and `ValueLoss`, under the names of their means over tokens.
_POLICY_METRICS = ("policy/loss", "policy/clip_fraction", "policy/ratio_deviation", "policy/approx_kl")
_CRITIC_METRICS = ("critic/loss", "critic/clip_fraction")


class Experience(NamedTuple):
    """What one iteration learns from: replies, and tables [rows, longest reply] about their tokens."""

    sequences: Sequences
    logps: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor


class PPO(Recorded):
    """Maximises reward - kl_coef KL(policy || reference) by PPO (arXiv:1707.06347; for language, arXiv:1909.08593).

    Only `policy` and `critic` belong to the module and its checkpoints; they are trained in place. Reference and
    reward model are frozen and follow the module to its device. A batch is the number of the iteration: prompts,
    sampling noise and minibatches of iteration k are functions of (seed, k) alone, so a training that is resumed from
    a checkpoint goes on exactly as it would have. Dropout is off in all models.

    With a `trace`, the policy's replies to its prompts at temperature 1, drawn with the same noise each time, are
    written before the first iteration, after every `trace_every` iterations and after the last.

    Raises:
        ValueError: if there are no prompts, or reference and policy share their weights.
    """

    headline = ("reward/score", "kl/reply_k1", "reply/length")

    def __init__(
        self,
        settings: PPOSettings,
        *,
        policy: PreTrainedModel,
        critic: PreTrainedModel,
        reference: Reference,
        scorer: RewardScorer,
        prompts: Sequence[Sequence[int]],
        eos: int,
        pad: int,
        trace: Trace | None = None,
    ) -> None:
        super().__init__()
        if not prompts:
            raise ValueError("PPO needs prompts; check that the data of this stage is not empty")
        for name, model in (("policy", policy), ("critic", critic)):
            if not any(parameter.requires_grad for parameter in model.parameters()):
                raise ValueError(f"no parameter of the {name} may learn; a frozen reference must be a copy of its own")
        self.automatic_optimization = False
        self.settings = settings
        self.policy = policy
        self.critic = critic
        self.reference = reference
        self.scorer = scorer
        self.prompts = prompts
        self.eos = eos
        self.pad = pad
        self.trace = trace

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return one Adam each for policy and critic; `training_step` sets their learning rates."""
        return [
            adamw(self.policy.parameters(), self._rate_settings(self.settings.learning_rate)),
            adamw(self.critic.parameters(), self._rate_settings(self.settings.critic_learning_rate)),
        ]

    def on_fit_start(self) -> None:
        """Bring the frozen models, which Lightning does not know, to the device; switch dropout off."""
        self.eval()
        self.reference.to(self.device)
        self.scorer.to(self.device)

    def training_step(self, iteration: int, batch_idx: int = 0) -> None:
        """Run iteration `iteration` (from 0): roll out, score, update policy and critic, record.

        Raises:
            FloatingPointError: if a loss or gradient is not finite.
        """
        settings = self.settings
        if iteration % settings.trace_every == 0:
            self._write_trace(iteration)
        experience, metrics = self.collect(iteration)
        policy_optimiser, critic_optimiser = self.optimizers()
        rates = {
            "policy/learning_rate": self._set_rate(policy_optimiser, settings.learning_rate, iteration),
            "critic/learning_rate": self._set_rate(critic_optimiser, settings.critic_learning_rate, iteration),
        }
        metrics |= self._update(iteration, experience, policy_optimiser, critic_optimiser)
        # One transfer for all figures: each would wait for the device by itself.
        values = dict(zip(metrics, torch.stack(list(metrics.values())).tolist(), strict=True)) | rates
        broken = [name for name, value in values.items() if not math.isfinite(value)]
        if broken:
            raise FloatingPointError(
                f"iteration {iteration} gave {', '.join(f'{name} = {values[name]}' for name in broken)}; a lower "
                f"learning_rate (now {settings.learning_rate}) or gradient_clip (now {settings.gradient_clip}) may help"
            )
        self.record(iteration, values)
        if iteration + 1 == settings.steps:
            self._write_trace(settings.steps)

    def collect(self, iteration: int) -> tuple[Experience, dict[str, Tensor]]:
        """Return the experience of an iteration, with its metrics; the policy does not change."""
        settings = self.settings
        chosen = batch_indices(settings.seed, iteration, settings.batch_prompts, len(self.prompts))
        rollout = self._generate(
            [self.prompts[row] for row in chosen], settings.temperature, self._generator("sampling", iteration)
        )
        sequences, mask = rollout.sequences, reply_mask(rollout.sequences)
        reference_logps = self.reference.token_logps(sequences, settings.temperature)
        scores = self.scorer.rewards(sequences, rollout.ended)
        with torch.inference_mode():
            values = reply_values(self.critic, sequences, max_tokens=settings.micro_batch_tokens)
        values = values.clone()
        rewards = token_rewards(scores, rollout.logps, reference_logps, mask, settings.kl_coef)
        advantages, returns = gae(rewards, values, mask, settings.gamma, settings.lam)
        kl_1 = torch.where(mask, k1(rollout.logps, reference_logps), 0.0)
        kl_3 = torch.where(mask, k3(rollout.logps, reference_logps), 0.0)
        errors, spread = (returns - values)[mask], returns[mask]
        metrics = {
            "reward/score": scores.mean(),
            "reward/objective": scores.mean() - settings.kl_coef * kl_1.sum(1).mean(),
            "kl/reply_k1": kl_1.sum(1).mean(),
            "kl/reply_k3": kl_3.sum(1).mean(),
            "kl/token_k1": kl_1[mask].mean(),
            "kl/token_k3": kl_3[mask].mean(),
            "reply/entropy": rollout.entropies[mask].mean(),
            "reply/length": sequences.reply_lengths.float().mean(),
            "reply/unfinished": 1 - rollout.ended.float().mean(),
            "critic/explained_variance": 1 - errors.var(correction=0) / spread.var(correction=0).clamp(min=1e-8),
        }
        return Experience(sequences, rollout.logps, values, whiten(advantages, mask), returns), metrics

    def _update(
        self,
        iteration: int,
        experience: Experience,
        policy_optimiser: LightningOptimizer,
        critic_optimiser: LightningOptimizer,
    ) -> dict[str, Tensor]:
        """Make `epochs` passes of `minibatches` steps of both optimisers; return means of their statistics."""
        settings = self.settings
        policy_sums: list[Tensor] = []
        critic_sums: list[Tensor] = []
        counts: list[int] = []
        for epoch in range(settings.epochs):
            generator = self._generator("minibatches", iteration * settings.epochs + epoch)
            order = torch.randperm(len(experience.sequences.ids), generator=generator)
            for rows in order.tensor_split(settings.minibatches):
                parts = layouts(experience.sequences, settings.micro_batch_tokens, rows)
                parts = [part.to(self.device) for part in parts]
                tokens = sum(len(part.targets) for part in parts)
                counts.append(tokens)
                policy_sums.append(
                    self._step(self.policy, policy_optimiser, parts, tokens, partial(self._policy_loss, experience))
                )
                critic_sums.append(
                    self._step(self.critic, critic_optimiser, parts, tokens, partial(self._critic_loss, experience))
                )
        policy, critic, tokens = torch.stack(policy_sums), torch.stack(critic_sums), sum(counts)
        return {
            **dict(zip(_POLICY_METRICS, policy[:, :-1].sum(0) / tokens, strict=True)),
            "policy/first_ratio_deviation": policy[0, _POLICY_METRICS.index("policy/ratio_deviation")] / counts[0],
            "policy/gradient_norm": policy[:, -1].mean(),
            **dict(zip(_CRITIC_METRICS, critic[:, :-1].sum(0) / tokens, strict=True)),
            "critic/gradient_norm": critic[:, -1].mean(),
        }

    def _policy_loss(self, experience: Experience, part: Layout) -> PolicyLoss:
        return policy_loss(
            token_logps(self.policy, part, self.settings.temperature),
            experience.logps.flatten()[part.cells],
            experience.advantages.flatten()[part.cells],
            self.settings.clip,
        )

    def _critic_loss(self, experience: Experience, part: Layout) -> ValueLoss:
        return value_loss(
            token_values(self.critic, part),
            experience.values.flatten()[part.cells],
            experience.returns.flatten()[part.cells],
            self.settings.value_clip,
        )

    def _step(
        self,
        model: PreTrainedModel,
        optimiser: LightningOptimizer,
        parts: list[Layout],
        tokens: int,
        loss_of: Callable[[Layout], PolicyLoss | ValueLoss],
    ) -> Tensor:
        """Make one step on a minibatch of `tokens` reply tokens, the mean over which is the loss.

        Returns the sums of the loss's terms over the tokens and, last, the norm of the gradient before clipping.
        """
        sums = []
        for part in parts:
            terms = loss_of(part)
            self.manual_backward(terms.loss / tokens)
            sums.append(torch.stack([term.detach().to(terms.loss.dtype) for term in terms]))
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), self.settings.gradient_clip, foreach=True)
        optimiser.step()
        optimiser.zero_grad()
        return torch.cat([torch.stack(sums).sum(0), norm[None]])

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

    def _write_trace(self, step: int) -> None:
        """Write the replies of the policy that has finished `step` iterations, if there is a trace."""
        if self.trace is not None:
            rollout = self._generate(self.trace.prompts, 1.0, self._generator("trace", 0))
            write_trace(trace_path(self.trace.folder, step), rollout)

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

    def _set_rate(self, optimiser: LightningOptimizer, learning_rate: float, iteration: int) -> float:
        """Set and return the learning rate of an iteration, which all its minibatches share."""
        rate = learning_rate * rate_factor(self._rate_settings(learning_rate), iteration, self.settings.steps)
        for group in optimiser.param_groups:
            group["lr"] = rate
        return rate
