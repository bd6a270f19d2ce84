"""PPO's losses and KL estimators against closed forms on policies small enough to enumerate."""

import pytest
import torch

from salsa.rl.advantages import token_rewards
from salsa.rl.objectives import k1, k2, k3, policy_loss, value_loss

ACTIONS = 6


def _random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _kl(one, other):
    """KL divergence of distributions given by log-probabilities in the last dimension."""
    return (one.exp() * (one - other)).sum(-1)


def _train(logits, reference, rewards, kl_coef, rounds=400, rate=0.2):
    """Train tabular logits [contexts, actions] with our own rewards and loss, expectations taken exactly.

    The clipped loss is linear in the size of an advantage, so weighting the advantages by the old probabilities turns
    its sum over actions into the expectation.
    """
    logits = logits.clone().requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.001, rounds)
    mask = torch.ones(logits.numel(), 1, dtype=torch.bool)
    for _ in range(rounds):
        old = logits.detach().log_softmax(-1)
        gains = token_rewards(rewards.flatten(), old.reshape(-1, 1), reference.reshape(-1, 1), mask, kl_coef)
        gains = gains.view_as(old)
        advantages = gains - (old.exp() * gains).sum(-1, keepdim=True)
        for _ in range(2):
            loss = policy_loss(logits.log_softmax(-1), old, old.exp() * advantages, clip=0.2).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
    return logits.detach().log_softmax(-1)


def test_a_bandit_reaches_the_gibbs_optimum():
    reference, rewards, kl_coef = _random(0, 1, ACTIONS).log_softmax(-1), _random(1, 1, ACTIONS), 0.7
    trained = _train(_random(2, 1, ACTIONS), reference, rewards, kl_coef)
    torch.testing.assert_close(trained.exp(), (reference + rewards / kl_coef).softmax(-1), atol=1e-3, rtol=0)
    objective = (trained.exp() * rewards).sum() - kl_coef * _kl(trained, reference).sum()
    best = kl_coef * (reference + rewards / kl_coef).logsumexp(-1).sum()
    assert objective.item() == pytest.approx(best.item(), abs=1e-6)


def test_a_large_coefficient_leaves_the_policy_at_the_reference():
    reference, rewards = _random(0, 1, ACTIONS).log_softmax(-1), _random(1, 1, ACTIONS)
    start = _random(2, 1, ACTIONS).log_softmax(-1)
    trained = _train(start, reference, rewards, kl_coef=100.0)
    assert _kl(start, reference).item() > 0.1
    assert _kl(trained, reference).item() < 1e-3


def test_without_price_the_reference_has_no_say():
    mask, old = torch.ones(ACTIONS, 1, dtype=torch.bool), _random(0, ACTIONS, 1)
    rewards = [token_rewards(_random(1, ACTIONS), old, _random(seed, ACTIONS, 1), mask, 0.0) for seed in (2, 3)]
    assert torch.equal(*rewards)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_a_soup_of_log_linear_policies_is_their_geometric_mean_and_training_respects_it(alpha):
    features, kl_coef = _random(0, 5, 3), 0.8
    first, second = 0.6 * _random(1, 3, ACTIONS), 0.6 * _random(2, 3, ACTIONS)
    one, other = (features @ first).log_softmax(-1), (features @ second).log_softmax(-1)
    soup = (features @ ((1 - alpha) * first + alpha * second)).log_softmax(-1)
    mean = (1 - alpha) * one + alpha * other
    normaliser = mean.logsumexp(-1)
    torch.testing.assert_close(soup, mean - normaliser[:, None])
    assert (normaliser <= 1e-12).all()
    policy = _random(3, 5, ACTIONS).log_softmax(-1)
    torch.testing.assert_close(
        _kl(policy, soup), (1 - alpha) * _kl(policy, one) + alpha * _kl(policy, other) + normaliser
    )
    rewards = _random(4, 5, ACTIONS)
    trained = _train(one, soup, rewards, kl_coef)
    torch.testing.assert_close(trained.exp(), (mean + rewards / kl_coef).softmax(-1), atol=1e-3, rtol=0)


class TestEstimators:
    """Expectations under the policy of values and gradients, enumerated."""

    def setup_method(self):
        self.logits = _random(0, ACTIONS).requires_grad_()
        self.reference = _random(1, ACTIONS).log_softmax(-1)
        self.logps = self.logits.log_softmax(-1)
        self.weights = self.logps.detach().exp()
        self.reverse = self._gradient(_kl(self.logps, self.reference))
        self.forward = self._gradient(_kl(self.reference, self.logps))

    def _gradient(self, value):
        return torch.autograd.grad(value, self.logits, retain_graph=True)[0]

    def _as_loss(self, estimator):
        return self._gradient((self.weights * estimator(self.logps, self.reference)).sum())

    def _as_reward(self, estimator):
        return self._gradient((self.weights * estimator(self.logps, self.reference).detach() * self.logps).sum())

    def test_k1_and_k3_are_unbiased_and_k2_is_not(self):
        true = _kl(self.logps, self.reference).item()
        means = {
            estimator: (self.weights * estimator(self.logps, self.reference)).sum().item() for estimator in (k1, k2, k3)
        }
        assert means[k1] == pytest.approx(true)
        assert means[k3] == pytest.approx(true)
        assert means[k2] != pytest.approx(true, rel=0.01)

    def test_k3_is_never_negative_and_varies_less_near_the_reference(self):
        near = (self.reference + 0.1 * self.logps.detach()).log_softmax(-1)
        first, third = k1(near, self.reference), k3(near, self.reference)
        assert (third >= 0).all()
        assert third.std() < first.std()

    def test_k1_in_the_reward_has_the_gradient_of_the_reverse_kl(self):
        torch.testing.assert_close(self._as_reward(k1), self.reverse)

    def test_k1_in_the_loss_has_no_gradient(self):
        torch.testing.assert_close(self._as_loss(k1), torch.zeros_like(self.reverse))

    def test_k2_in_the_loss_has_the_gradient_of_the_reverse_kl(self):
        torch.testing.assert_close(self._as_loss(k2), self.reverse)

    def test_k3_in_the_loss_has_the_gradient_of_the_forward_kl(self):
        torch.testing.assert_close(self._as_loss(k3), self.forward)
        assert not torch.allclose(self._as_loss(k3), self.reverse, rtol=0.01)

    def test_k3_in_the_loss_times_the_ratio_has_the_gradient_of_the_reverse_kl(self):
        ratio = (self.logps - self.logps.detach()).exp()
        corrected = self._gradient((self.weights * ratio * k3(self.logps, self.reference)).sum())
        torch.testing.assert_close(corrected, self.reverse)

    def test_k3_in_the_reward_is_biased(self):
        assert not torch.allclose(self._as_reward(k3), self.reverse, rtol=0.01)


def test_where_nothing_has_moved_the_loss_is_minus_the_advantages():
    logps, advantages = _random(0, 9), _random(1, 9)
    terms = policy_loss(logps, logps.clone(), advantages, clip=0.2)
    assert terms.loss.item() == pytest.approx(-advantages.sum().item())
    assert [terms.clipped.item(), terms.deviation.item(), terms.approx_kl.item()] == [0, 0, 0]


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.5, 2.0, -2.4, 1),  # a gain beyond the bound does not count
        (0.5, 2.0, -1.0, 0),  # a loss always does
        (1.5, -2.0, 3.0, 0),
        (0.5, -2.0, 1.6, 1),
    ],
)
def test_only_gains_beyond_the_bound_are_clipped(ratio, advantage, loss, clipped):
    logps = torch.tensor([ratio]).log().requires_grad_()
    terms = policy_loss(logps, torch.zeros(1), torch.tensor([advantage]), clip=0.2)
    assert terms.loss.item() == pytest.approx(loss)
    assert terms.clipped.item() == clipped
    terms.loss.backward()
    assert (logps.grad == 0).item() == bool(clipped)


@pytest.mark.parametrize(
    ("value", "loss", "clipped"),
    [(1.1, 0.5 * 0.9**2, 0), (1.5, 0.5 * 0.8**2, 1), (0.5, 0.5 * 1.5**2, 0), (3.5, 0.5 * 1.5**2, 0)],
)
def test_values_are_pulled_no_further_than_the_bound(value, loss, clipped):
    terms = value_loss(torch.tensor([value]), torch.tensor([1.0]), torch.tensor([2.0]), clip=0.2)
    assert terms.loss.item() == pytest.approx(loss)
    assert terms.clipped.item() == clipped


def test_parts_add_up_to_the_whole():
    logps, old, other = _random(0, 12), _random(1, 12), _random(2, 12)
    for whole, parts in (
        (policy_loss(logps, old, other, 0.2), [policy_loss(logps[s], old[s], other[s], 0.2) for s in _thirds()]),
        (value_loss(logps, old, other, 0.2), [value_loss(logps[s], old[s], other[s], 0.2) for s in _thirds()]),
    ):
        for term, pieces in zip(whole, zip(*parts, strict=True), strict=True):
            torch.testing.assert_close(term, sum(pieces))


def _thirds():
    return slice(0, 3), slice(3, 5), slice(5, 12)
