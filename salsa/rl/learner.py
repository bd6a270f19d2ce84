"""Learning from one iteration's experience: passes of minibatches, each a step of the optimisers."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from salsa.models.heads import ValueHead
from salsa.models.layout import Layout, layouts
from salsa.models.scoring import token_logps, token_logps_and_values, token_values
from salsa.rl.experience import Experience
from salsa.rl.objectives import PolicyLoss, ValueLoss, reply_weights, token_loss, value_loss
from salsa.rl.settings import PPOSettings

# The figures of `PolicyLoss` and `ValueLoss`, under the names of their means over tokens.
_POLICY_METRICS = ("policy/loss", "policy/clip_fraction", "policy/ratio_deviation", "policy/approx_kl")
_CRITIC_METRICS = ("critic/loss", "critic/clip_fraction")
_RATIO_DEVIATION = _POLICY_METRICS.index("policy/ratio_deviation")
_APPROX_KL = _POLICY_METRICS.index("policy/approx_kl")


class _Minibatch(NamedTuple):
    """The parts of a minibatch, its number of tokens, and the weight [all rows] of a token of each row."""

    parts: list[Layout]
    tokens: int
    weights: Tensor


class _Step(NamedTuple):
    """Figures of a minibatch (sums over its tokens), the gradient's norm before clipping, and why it was not made.

    `too_far`: the policy had moved further than it may; `broken`: its gradient was not finite, and the guard says skip.
    """

    sums: Tensor
    norm: Tensor
    too_far: bool
    broken: bool

    @property
    def made(self) -> bool:
        """Return whether the optimiser made the step."""
        return not (self.too_far or self.broken)


class Learner:
    """Trains policy and critic in place; `backward` is what Lightning calls its backward pass.

    The critic is a model of its own, which the second optimiser trains, a head on the policy's trunk, which the first
    one trains with it, or none.
    """

    def __init__(
        self,
        settings: PPOSettings,
        policy: PreTrainedModel,
        critic: PreTrainedModel | ValueHead | None,
        backward: Callable[[Tensor], None],
    ) -> None:
        self.settings = settings
        self.policy = policy
        self.critic = critic
        self.backward = backward

    def update(
        self, experience: Experience, kl_coef: float, optimisers: Sequence[Any], permutation: Callable[[int], Tensor]
    ) -> dict[str, Tensor]:
        """Make the passes of an iteration, pass p in the order `permutation(p)` [rows]; return its metrics.

        A minibatch whose policy has moved further than `update_kl_limit` from the one that rolled out ends the passes
        before its step. One whose gradient is not finite makes no step, if the guard says skip.
        """
        settings = self.settings
        policy_steps: list[_Step] = []
        critic_steps: list[_Step] = []
        counts: list[int] = []
        for each_pass in range(settings.epochs):
            for rows in permutation(each_pass).tensor_split(settings.minibatches):
                minibatch = self._minibatch(experience, rows)
                step = self._policy_step(experience, minibatch, kl_coef, optimisers[0])
                policy_steps.append(step)
                counts.append(minibatch.tokens)
                if step.too_far:
                    return self._metrics(policy_steps, critic_steps, counts)
                if self.critic is not None and not isinstance(self.critic, ValueHead):
                    critic_steps.append(self._critic_step(experience, minibatch, self.critic, optimisers[1]))
        return self._metrics(policy_steps, critic_steps, counts)

    def _minibatch(self, experience: Experience, rows: Tensor) -> _Minibatch:
        sequences, device = experience.sequences, experience.logps.device
        parts = [part.to(device) for part in layouts(sequences, self.settings.micro_batch_tokens, rows)]
        rows = rows.to(device)
        weights = torch.zeros(len(sequences.ids), device=device, dtype=experience.logps.dtype)
        lengths = sequences.reply_lengths.to(device)[rows]
        weights[rows] = reply_weights(self.settings.aggregate, lengths.to(weights.dtype))
        return _Minibatch(parts, sum(len(part.targets) for part in parts), weights)

    def _policy_step(self, experience: Experience, minibatch: _Minibatch, kl_coef: float, optimiser: Any) -> _Step:
        width, settings = experience.logps.shape[1], self.settings
        head = self.critic if isinstance(self.critic, ValueHead) else None

        def loss_of(part: Layout) -> tuple[Tensor, list[Tensor]]:
            if head is None:
                logps, values = token_logps(self.policy, part, settings.temperature), None
            else:
                logps, values = token_logps_and_values(self.policy, head.score, part, settings.temperature)
            terms = self._policy_loss(experience, part, logps, kl_coef)
            weights = minibatch.weights[torch.div(part.cells, width, rounding_mode="floor")]
            total, figures = (terms.losses * weights).sum(), [terms.losses.sum(), *terms[1:]]
            if values is not None:
                of_critic = self._value_loss(experience, part, values)
                total = total + settings.value_coef * of_critic.losses.sum() / minibatch.tokens
                figures += [of_critic.losses.sum(), of_critic.clipped]
            return total, figures

        parameters = [*self.policy.parameters(), *(head.parameters() if head is not None else ())]
        return self._step(parameters, optimiser, minibatch, loss_of, settings.update_kl_limit)

    def _critic_step(
        self, experience: Experience, minibatch: _Minibatch, critic: PreTrainedModel, optimiser: Any
    ) -> _Step:
        def loss_of(part: Layout) -> tuple[Tensor, list[Tensor]]:
            terms = self._value_loss(experience, part, token_values(critic, part))
            total = terms.losses.sum()
            return total / minibatch.tokens, [total, terms.clipped]

        return self._step(list(critic.parameters()), optimiser, minibatch, loss_of, None)

    def _policy_loss(self, experience: Experience, part: Layout, logps: Tensor, kl_coef: float) -> PolicyLoss:
        settings = self.settings
        return token_loss(
            settings.loss,
            logps,
            experience.logps.flatten()[part.cells],
            [(weight, table.flatten()[part.cells]) for weight, table in experience.references],
            experience.advantages.flatten()[part.cells],
            kl_placement=settings.kl_placement,
            kl_coef=kl_coef,
            clip=settings.clip,
            awr_temperature=settings.awr_temperature,
        )

    def _value_loss(self, experience: Experience, part: Layout, values: Tensor) -> ValueLoss:
        assert experience.values is not None
        assert experience.returns is not None
        return value_loss(
            values,
            experience.values.flatten()[part.cells],
            experience.returns.flatten()[part.cells],
            self.settings.value_clip,
        )

    def _step(
        self,
        parameters: list[torch.nn.Parameter],
        optimiser: Any,
        minibatch: _Minibatch,
        loss_of: Callable[[Layout], tuple[Tensor, list[Tensor]]],
        kl_limit: float | None,
    ) -> _Step:
        """Add up the gradients of a minibatch's parts and make the step, unless something speaks against it."""
        sums = []
        for part in minibatch.parts:
            loss, figures = loss_of(part)
            self.backward(loss)
            sums.append(torch.stack([figure.detach().to(loss.dtype) for figure in figures]))
        total = torch.stack(sums).sum(0)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.settings.gradient_clip, foreach=True)
        # A KL that is not a number is not too far: the guard of what is not finite has to see it.
        too_far = kl_limit is not None and total[_APPROX_KL].item() > kl_limit * minibatch.tokens
        skips = self.settings.guards.non_finite == "skip"
        broken = skips and not bool(torch.isfinite(norm) & torch.isfinite(total).all())
        step = _Step(total, norm, too_far, broken)
        if step.made:
            optimiser.step()
        optimiser.zero_grad()
        return step

    def _metrics(self, policy_steps: list[_Step], critic_steps: list[_Step], counts: list[int]) -> dict[str, Tensor]:
        """Return the means over all tokens of the minibatches, broken ones left out where they were skipped."""
        made = [index for index, step in enumerate(policy_steps) if step.made]
        skipped = sum(step.broken for step in policy_steps)
        kept = made or list(range(len(policy_steps)))
        sums = torch.stack([policy_steps[index].sums for index in kept])
        tokens = sum(counts[index] for index in kept)
        means = sums.sum(0) / tokens
        of_policy = len(_POLICY_METRICS)
        metrics = dict(zip(_POLICY_METRICS, means[:of_policy], strict=True))
        metrics |= dict(zip(_CRITIC_METRICS, means[of_policy:], strict=False))
        metrics["policy/first_ratio_deviation"] = policy_steps[0].sums[_RATIO_DEVIATION] / counts[0]
        metrics["policy/gradient_norm"] = torch.stack([policy_steps[index].norm for index in kept]).mean()
        metrics["policy/updates"] = sums.new_tensor(len(made))
        metrics["policy/skipped_updates"] = sums.new_tensor(skipped)
        if critic_steps:
            used = [index for index, step in enumerate(critic_steps) if step.made] or list(range(len(critic_steps)))
            critic_sums = torch.stack([critic_steps[index].sums for index in used])
            critic_means = critic_sums.sum(0) / sum(counts[index] for index in used)
            metrics |= dict(zip(_CRITIC_METRICS, critic_means, strict=True))
            metrics["critic/gradient_norm"] = torch.stack([critic_steps[index].norm for index in used]).mean()
            metrics["critic/skipped_updates"] = sums.new_tensor(sum(step.broken for step in critic_steps))
        return metrics
