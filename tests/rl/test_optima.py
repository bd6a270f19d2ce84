"""Where the losses lead: optima of bandits in closed form, reached by training; and the estimators of the KL."""

import pytest
import torch

from salsa.rl.credit import token_rewards
from salsa.rl.objectives import k1, k2, k3, token_loss
from tests.rl.tabular import ACTIONS, REFERENCE_KINDS, draw, kl


def _train(logits, references, rewards, kl_coef, kind="ppo_clip", kl_placement="reward", rounds=400, rate=0.2):
    """Train tabular logits [contexts, actions] with our own rewards and loss, expectations taken exactly.

    Losses of tokens are weighted by the old probabilities, so that their sum over actions is the expectation.
    """
    logits = logits.clone().requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.001, rounds)
    mask = torch.ones(logits.numel(), 1, dtype=torch.bool)
    as_column = [(weight, reference.reshape(-1, 1)) for weight, reference in references]
    charged = kl_coef if kl_placement == "reward" else 0.0
    for _ in range(rounds):
        old = logits.detach().log_softmax(-1)
        gains = token_rewards(rewards.flatten(), old.reshape(-1, 1), as_column, mask, charged)
        gains = gains.view_as(old)
        advantages = gains - (old.exp() * gains).sum(-1, keepdim=True)
        for _ in range(2 if kind == "ppo_clip" and kl_placement == "reward" else 1):
            terms = token_loss(
                kind,
                logits.log_softmax(-1),
                old,
                references,
                advantages,
                kl_placement=kl_placement,
                kl_coef=kl_coef,
                clip=0.2,
            )
            optimiser.zero_grad()
            (old.exp() * terms.losses).sum().backward()
            optimiser.step()
        schedule.step()
    return logits.detach().log_softmax(-1)


@pytest.mark.parametrize("references", list(REFERENCE_KINDS))
@pytest.mark.parametrize(
    ("kind", "kl_placement"), [("ppo_clip", "reward"), ("reinforce", "reward"), ("ppo_clip", "loss_k2")]
)
def test_a_bandit_reaches_the_gibbs_optimum(kind, kl_placement, references):
    """With several references: that of their normalised geometric mean, as KLs to them add up to the KL to it."""
    references, rewards, kl_coef = REFERENCE_KINDS[references](), draw(1, 1, ACTIONS), 0.7
    trained = _train(draw(2, 1, ACTIONS), references, rewards, kl_coef, kind, kl_placement)
    mean = sum(weight * reference for weight, reference in references)
    torch.testing.assert_close(trained.exp(), (mean + rewards / kl_coef).softmax(-1), atol=1e-3, rtol=0)
    divergence = sum(weight * kl(trained, reference).sum() for weight, reference in references)
    objective = (trained.exp() * rewards).sum() - kl_coef * divergence
    best = kl_coef * (mean + rewards / kl_coef).logsumexp(-1).sum()
    assert objective.item() == pytest.approx(best.item(), abs=1e-5)


def test_with_k3_in_the_loss_a_bandit_is_held_by_the_other_direction_of_the_kl():
    """The optimum of E[r] - c KL(reference || policy) is c reference / (mu - r), with mu such that it sums to 1."""
    (_, reference), *_ = REFERENCE_KINDS["one"]()
    rewards, kl_coef = 2 * draw(1, 1, ACTIONS), 0.7
    trained = _train(draw(2, 1, ACTIONS), [(1.0, reference)], rewards, kl_coef, "ppo_clip", "loss_k3")
    low, high = rewards.max().item(), rewards.max().item() + 10 * kl_coef
    for _ in range(100):
        middle = (low + high) / 2
        total = (kl_coef * reference.exp() / (middle - rewards)).sum().item()
        low, high = (middle, high) if total > 1 else (low, middle)
    torch.testing.assert_close(trained.exp(), kl_coef * reference.exp() / (high - rewards), atol=1e-3, rtol=0)
    assert not torch.allclose(trained.exp(), (reference + rewards / kl_coef).softmax(-1), atol=0.01)


@pytest.mark.parametrize("kl_placement", ["reward", "loss_k2", "loss_k3"])
def test_a_large_coefficient_leaves_the_policy_at_the_reference(kl_placement):
    reference, rewards = draw(0, 1, ACTIONS).log_softmax(-1), draw(1, 1, ACTIONS)
    start = draw(2, 1, ACTIONS).log_softmax(-1)
    trained = _train(start, [(1.0, reference)], rewards, kl_coef=100.0, kl_placement=kl_placement)
    assert kl(start, reference).item() > 0.1
    assert kl(trained, reference).item() < 1e-3


def test_without_price_the_reference_has_no_say():
    mask, old = torch.ones(ACTIONS, 1, dtype=torch.bool), draw(0, ACTIONS, 1)
    rewards = [token_rewards(draw(1, ACTIONS), old, [(1.0, draw(s, ACTIONS, 1))], mask, 0.0) for s in (2, 3)]
    assert torch.equal(*rewards)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_a_soup_of_log_linear_policies_is_their_geometric_mean_and_training_respects_it(alpha):
    features, kl_coef = draw(0, 5, 3), 0.8
    first, second = 0.6 * draw(1, 3, ACTIONS), 0.6 * draw(2, 3, ACTIONS)
    one, other = (features @ first).log_softmax(-1), (features @ second).log_softmax(-1)
    soup = (features @ ((1 - alpha) * first + alpha * second)).log_softmax(-1)
    mean = (1 - alpha) * one + alpha * other
    normaliser = mean.logsumexp(-1)
    torch.testing.assert_close(soup, mean - normaliser[:, None])
    assert (normaliser <= 1e-12).all()
    policy = draw(3, 5, ACTIONS).log_softmax(-1)
    torch.testing.assert_close(kl(policy, soup), (1 - alpha) * kl(policy, one) + alpha * kl(policy, other) + normaliser)
    rewards = draw(4, 5, ACTIONS)
    trained = _train(one, [(1.0, soup)], rewards, kl_coef)
    torch.testing.assert_close(trained.exp(), (mean + rewards / kl_coef).softmax(-1), atol=1e-3, rtol=0)


class TestEstimators:
    """Expectations under the policy of values and gradients, enumerated."""

    def setup_method(self):
        self.logits = draw(0, ACTIONS).requires_grad_()
        self.reference = draw(1, ACTIONS).log_softmax(-1)
        self.logps = self.logits.log_softmax(-1)
        self.weights = self.logps.detach().exp()
        self.reverse = self._gradient(kl(self.logps, self.reference))
        self.forward = self._gradient(kl(self.reference, self.logps))

    def _gradient(self, value):
        return torch.autograd.grad(value, self.logits, retain_graph=True)[0]

    def _as_loss(self, estimator):
        return self._gradient((self.weights * estimator(self.logps, self.reference)).sum())

    def _as_reward(self, estimator):
        return self._gradient((self.weights * estimator(self.logps, self.reference).detach() * self.logps).sum())

    def test_k1_and_k3_are_unbiased_and_k2_is_not(self):
        true = kl(self.logps, self.reference).item()
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
