"""Which steps an update makes, and which it does not."""

import copy
from typing import Any, NamedTuple

import pytest
import torch

from salsa.models.sequences import reply_mask
from salsa.rl.learner import Learner
from salsa.rl.settings import GuardSettings
from tests.rl.updates import (
    Standing,
    critic_of,
    difference,
    experience_of,
    naive_logps,
    named,
    optimisers_of,
    permutation_of,
    policy_of,
    settings_of,
    update,
)


class Stepped(NamedTuple):
    """What an update has gone through."""

    policies: list[dict[str, torch.Tensor]]
    critic: Standing
    metrics: dict[str, Any]


class TestSteps:
    """Which steps an update makes."""

    def _standing(self, experience=None, permutation=permutation_of, critic=None, **changes):
        policy = policy_of()
        optimisers = [Standing(policy.parameters())]
        if critic is not None:
            optimisers.append(Standing(critic.parameters()))
        learner = Learner(settings_of(**changes), policy, critic, torch.Tensor.backward)
        return optimisers, learner.update(experience or experience_of(), 0.3, optimisers, permutation)

    def test_each_minibatch_of_each_pass_is_one_step_of_policy_and_critic(self):
        optimisers, metrics = self._standing(critic=critic_of(), minibatches=3, epochs=2)
        assert [len(optimiser.gradients) for optimiser in optimisers] == [6, 6]
        assert metrics["policy/updates"] == 6
        assert metrics["policy/skipped_updates"] == metrics["critic/skipped_updates"] == 0

    def test_the_norm_is_that_before_clipping_and_the_step_has_the_clipped_gradient(self):
        (free,), metrics = self._standing(gradient_clip=1e9, minibatches=1, epochs=1)
        (clipped,), same = self._standing(gradient_clip=1e-3, minibatches=1, epochs=1)
        norms = [sum(g.square().sum() for g in one.gradients[0]).sqrt().item() for one in (free, clipped)]
        assert norms == pytest.approx([metrics["policy/gradient_norm"].item(), 1e-3], rel=1e-4)
        assert metrics["policy/gradient_norm"] == same["policy/gradient_norm"]

    def test_metrics_are_means_over_all_tokens(self):
        _, parts = self._standing(epochs=1, minibatches=3)
        _, whole = self._standing(epochs=1, minibatches=1)
        for name in ("policy/loss", "policy/clip_fraction", "policy/ratio_deviation", "policy/approx_kl"):
            assert parts[name].item() == pytest.approx(whole[name].item(), rel=1e-10)
        assert 0 < whole["policy/clip_fraction"] < 1
        assert whole["policy/first_ratio_deviation"] == whole["policy/ratio_deviation"]

    def test_a_minibatch_beyond_the_limit_ends_the_passes_before_its_step(self):
        """With large steps the policy is soon too far: of the steps up to there, none is made differently."""
        limit, changes = 0.05, {"minibatches": 5, "epochs": 3, "kl_placement": "none"}
        made = {each: self._stepping(update_kl_limit=each, **changes) for each in (None, limit, 1e9)}
        free, stopped = made[None], made[limit]
        count = len(stopped.policies)
        assert len(free.policies) == len(made[1e9].policies) == 15
        # The first step after which the minibatch at hand lies beyond the limit.
        rows = [part for each_pass in range(3) for part in permutation_of(each_pass).tensor_split(5)]
        beyond = [self._moved(policy, part) > limit for policy, part in zip(free.policies, rows[1:], strict=False)]
        assert count == beyond.index(True) + 1
        assert 2 < count < 15
        assert difference(stopped.policies[-1], free.policies[count - 1]) == 0
        assert difference(made[1e9].policies[-1], free.policies[-1]) == 0
        # The critic learns as long as the policy does, not from the minibatch that ended it or the later ones.
        assert len(stopped.critic.gradients) == count
        assert stopped.metrics["policy/updates"] == count
        assert stopped.metrics["policy/skipped_updates"] == 0
        assert stopped.metrics["policy/approx_kl"] <= limit < free.metrics["policy/approx_kl"]

    def _stepping(self, **changes):
        """Make real steps of the policy; return the policies after each of them, the critic's optimiser and metrics."""
        policy, critic, policies = policy_of(), critic_of(), []
        optimiser, standing = optimisers_of(policy, None, rate=2e-3)[0], Standing(critic.parameters())
        step = optimiser.step

        def stepping():
            step()
            policies.append(copy.deepcopy(policy))

        optimiser.step = stepping
        learner = Learner(settings_of(**changes), policy, critic, torch.Tensor.backward)
        metrics = learner.update(self._own_experience(), 0.3, [optimiser, standing], permutation_of)
        return Stepped([dict(named(each)) for each in policies], standing, metrics)

    @staticmethod
    def _own_experience():
        """Return experience that the policy itself has made."""
        experience = experience_of()
        return experience._replace(logps=naive_logps(policy_of(), experience.sequences))

    def _moved(self, parameters, rows):
        """Return the k3 estimate of KL(old || policy), nats a token, on some rows."""
        policy, experience = policy_of(), self._own_experience()
        with torch.no_grad():
            for name, parameter in policy.named_parameters():
                parameter.copy_(parameters[f"policy.{name}"])
        ratios = (naive_logps(policy, experience.sequences) - experience.logps)[rows]
        return (ratios.exp() - 1 - ratios)[reply_mask(experience.sequences)[rows]].mean().item()

    def test_the_first_minibatch_is_never_too_far(self):
        (optimiser,), _ = self._standing(self._own_experience(), update_kl_limit=1e-9, minibatches=1, epochs=1)
        assert len(optimiser.gradients) == 1

    @pytest.mark.parametrize("broken", ["advantages", "logps"])
    def test_a_broken_minibatch_is_skipped_and_the_others_are_not(self, broken):
        """One row is not a number: its minibatch makes no step, and it is as if it had not been there."""
        experience = experience_of()
        experience._asdict()[broken][3, 0] = float("nan")
        settings = settings_of(guards=GuardSettings(non_finite="skip"), epochs=1, minibatches=5)
        rows = permutation_of(0)
        bad = next(index for index, part in enumerate(rows.tensor_split(5)) if 3 in part)
        assert bad > 0
        skipped, metrics = update(experience, settings)
        without = torch.cat([part for index, part in enumerate(rows.tensor_split(5)) if index != bad])
        wanted, others = update(experience_of(), settings_of(epochs=1, minibatches=4), lambda _: without)
        assert difference(skipped, wanted) == 0
        assert metrics["policy/skipped_updates"] == 1
        assert metrics["policy/updates"] == 4
        for name in ("policy/loss", "policy/approx_kl", "policy/gradient_norm"):
            torch.testing.assert_close(metrics[name], others[name])

    def test_a_broken_minibatch_of_the_critic_alone_is_skipped_there_alone(self):
        experience, critic = experience_of(), critic_of()
        experience.returns[3, 0] = float("inf")
        guards = GuardSettings(non_finite="skip")
        optimisers, metrics = self._standing(experience, critic=critic, epochs=1, minibatches=5, guards=guards)
        assert [len(optimiser.gradients) for optimiser in optimisers] == [5, 4]
        assert metrics["critic/skipped_updates"] == 1
        assert metrics["policy/skipped_updates"] == 0
        assert torch.isfinite(metrics["critic/loss"])

    @pytest.mark.parametrize("limit", [None, 0.5])
    def test_where_the_guard_says_stop_the_figures_tell_of_it(self, limit):
        experience = experience_of()
        experience.logps[3, 0] = float("nan")
        _, metrics = self._standing(experience, update_kl_limit=limit)
        assert torch.isnan(metrics["policy/loss"])
        assert torch.isnan(metrics["policy/gradient_norm"])
