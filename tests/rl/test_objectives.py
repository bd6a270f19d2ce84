"""The losses and KL estimators against closed forms on policies small enough to enumerate."""

import math

import pytest
import torch

from salsa.rl.objectives import k2, k3, reply_weights, token_loss, value_loss
from salsa.rl.settings import LOSSES
from tests.rl.tabular import ACTIONS, REFERENCE_KINDS, draw, kl


@pytest.mark.parametrize("kl_placement", ["reward", "loss_k2", "loss_k3", "none"])
@pytest.mark.parametrize("kind", ["ppo_clip", "reinforce", "awr"])
def test_without_price_the_reference_has_no_part_in_the_gradient(kind, kl_placement):
    gradients = []
    for seed in (2, 3):
        logits = draw(0, ACTIONS).requires_grad_()
        references = [(1.0, draw(seed, ACTIONS).log_softmax(-1))]
        old, advantages = draw(4, ACTIONS).log_softmax(-1), draw(5, ACTIONS)
        changes = {"kl_placement": kl_placement, "kl_coef": 0.0}
        terms = token_loss(kind, logits.log_softmax(-1), old, references, advantages, **changes)
        gradients.append(torch.autograd.grad(terms.losses.sum(), logits)[0])
    assert torch.equal(*gradients)


def test_where_nothing_has_moved_the_loss_is_minus_the_advantages():
    logps, advantages = draw(0, 9), draw(1, 9)
    terms = token_loss("ppo_clip", logps, logps.clone(), [], advantages, clip=0.2)
    assert torch.equal(terms.losses, -advantages)
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
    terms = token_loss("ppo_clip", logps, torch.zeros(1), [], torch.tensor([advantage]), clip=0.2)
    assert terms.losses.item() == pytest.approx(loss)
    assert terms.clipped.item() == clipped
    assert terms.deviation.item() == pytest.approx(abs(ratio - 1))
    assert terms.approx_kl.item() == pytest.approx(ratio - 1 - math.log(ratio))
    terms.losses.backward()
    assert (logps.grad == 0).item() == bool(clipped)


@pytest.mark.parametrize(
    ("value", "loss", "clipped"),
    [(1.1, 0.5 * 0.9**2, 0), (1.5, 0.5 * 0.8**2, 1), (0.5, 0.5 * 1.5**2, 0), (3.5, 0.5 * 1.5**2, 0)],
)
def test_values_are_pulled_no_further_than_the_bound(value, loss, clipped):
    terms = value_loss(torch.tensor([value]), torch.tensor([1.0]), torch.tensor([2.0]), clip=0.2)
    assert terms.losses.item() == pytest.approx(loss)
    assert terms.clipped.item() == clipped


def test_parts_add_up_to_the_whole():
    logps, old, other, reference = draw(0, 12), draw(1, 12), draw(2, 12), draw(3, 12)
    for kind in LOSSES:
        of_part = [
            token_loss(kind, logps[part], old[part], [(1.0, reference[part])], other[part], kl_coef=0.3)
            for part in _thirds()
        ]
        whole = token_loss(kind, logps, old, [(1.0, reference)], other, kl_coef=0.3)
        torch.testing.assert_close(whole.losses, torch.cat([terms.losses for terms in of_part]))
        for term, pieces in zip(whole[1:], zip(*(terms[1:] for terms in of_part), strict=True), strict=True):
            torch.testing.assert_close(term, sum(pieces))
    whole = value_loss(logps, old, other, 0.2)
    parts = [value_loss(logps[part], old[part], other[part], 0.2) for part in _thirds()]
    torch.testing.assert_close(whole.losses, torch.cat([terms.losses for terms in parts]))
    assert whole.clipped == sum(terms.clipped for terms in parts)


def _thirds():
    return slice(0, 3), slice(3, 5), slice(5, 12)


class TestPlacements:
    """The KL through `token_loss` itself: what is added to the loss, with which gradient."""

    @pytest.mark.parametrize("references", list(REFERENCE_KINDS))
    @pytest.mark.parametrize(("kl_placement", "estimator"), [("loss_k2", k2), ("loss_k3", k3)])
    @pytest.mark.parametrize("kind", ["ppo_clip", "reinforce", "awr"])
    def test_the_loss_gains_the_priced_weighted_sum_of_the_estimates(self, kind, kl_placement, estimator, references):
        logps, old, advantages = (draw(seed, 1, ACTIONS).log_softmax(-1) for seed in (2, 3, 4))
        references = REFERENCE_KINDS[references]()
        plain = token_loss(kind, logps, old, references, advantages, kl_placement="reward", kl_coef=0.3)
        priced = token_loss(kind, logps, old, references, advantages, kl_placement=kl_placement, kl_coef=0.3)
        wanted = sum(weight * estimator(logps, reference) for weight, reference in references)
        torch.testing.assert_close(priced.losses, plain.losses + 0.3 * wanted)
        none = token_loss(kind, logps, old, references, advantages, kl_placement="none", kl_coef=0.3)
        assert torch.equal(plain.losses, none.losses)

    @pytest.mark.parametrize("references", list(REFERENCE_KINDS))
    @pytest.mark.parametrize("kl_placement", ["loss_k2", "loss_k3"])
    @pytest.mark.parametrize("kind", ["ppo_clip", "reinforce"])
    def test_its_expected_gradient_is_that_of_one_direction_of_the_kl(self, kind, kl_placement, references):
        logits, references = draw(2, 1, ACTIONS).requires_grad_(), REFERENCE_KINDS[references]()
        logps = logits.log_softmax(-1)
        old = logps.detach()
        terms = token_loss(kind, logps, old, references, torch.zeros_like(old), kl_placement=kl_placement, kl_coef=0.3)
        found = torch.autograd.grad((old.exp() * terms.losses).sum(), logits, retain_graph=True)[0]
        forward = kl_placement == "loss_k3"
        divergence = sum(w * (kl(other, logps) if forward else kl(logps, other)).sum() for w, other in references)
        torch.testing.assert_close(found, 0.3 * torch.autograd.grad(divergence, logits)[0])

    @pytest.mark.parametrize("kind", LOSSES)
    @pytest.mark.parametrize("kl_placement", ["none", "loss_k2", "loss_k3"])
    def test_two_copies_of_one_reference_are_that_reference_to_the_bit(self, kind, kl_placement):
        logps, old, reference, advantages = (draw(seed, 9).float() for seed in range(4))
        changes = {"kl_placement": kl_placement, "kl_coef": 0.3}
        one = token_loss(kind, logps, old, [(1.0, reference)], advantages, **changes)
        two = token_loss(kind, logps, old, [(0.5, reference), (0.5, reference)], advantages, **changes)
        assert torch.equal(one.losses, two.losses)


class TestSquare:
    """APA: a regression of log-probabilities onto those of reference x exp(A / lambda)."""

    def setup_method(self):
        self.lam = 0.7
        self.reference = draw(0, ACTIONS).log_softmax(-1)
        self.old = draw(1, ACTIONS).log_softmax(-1)
        self.advantages = draw(2, ACTIONS)

    def _loss(self, logps, advantages, lam=None, old=None, references=None):
        old = self.old if old is None else old
        references = references or [(1.0, self.reference)]
        terms = token_loss("square", logps, old, references, advantages, kl_coef=lam or self.lam)
        return (old.exp() * terms.losses).sum()

    def _minimiser(self, advantages, lam=None, old=None, references=None):
        logits = torch.zeros(ACTIONS, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS([logits], max_iter=300, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

        def closure():
            optimiser.zero_grad()
            loss = self._loss(logits.log_softmax(-1), advantages, lam, old, references)
            loss.backward()
            return loss

        optimiser.step(closure)
        return logits.detach().log_softmax(-1)

    @pytest.mark.parametrize("seed", [1, 5, 6])
    def test_advantages_that_are_the_log_ratio_of_a_policy_lead_to_it_whatever_rolled_out(self, seed):
        target, old = draw(3, ACTIONS).log_softmax(-1), draw(seed, ACTIONS).log_softmax(-1)
        advantages = self.lam * (target - self.reference)
        assert self._loss(target, advantages, old=old).item() == pytest.approx(0, abs=1e-20)
        assert self._loss(self.old, advantages, old=old).item() > 0.1
        torch.testing.assert_close(self._minimiser(advantages, old=old).exp(), target.exp(), atol=1e-4, rtol=0)

    def test_without_advantages_it_is_twice_k2_and_leads_to_the_reference(self):
        none = torch.zeros(ACTIONS, dtype=torch.float64)
        logps = draw(3, ACTIONS).log_softmax(-1)
        terms = token_loss("square", logps, self.old, [(1.0, self.reference)], none, kl_coef=self.lam)
        torch.testing.assert_close(terms.losses, 2 * k2(logps, self.reference))
        torch.testing.assert_close(self._minimiser(none).exp(), self.reference.exp(), atol=1e-5, rtol=0)

    def test_where_all_policies_are_one_its_gradient_is_the_policy_gradient_times_two_over_lambda(self):
        logits = draw(0, ACTIONS).requires_grad_()
        logps = logits.log_softmax(-1)
        loss = self._loss(logps, self.advantages, old=self.reference)
        found = torch.autograd.grad(loss, logits, retain_graph=True)[0]
        gain = torch.autograd.grad((logps.exp() * self.advantages).sum(), logits)[0]
        torch.testing.assert_close(found, -2 / self.lam * gain)

    def test_a_large_lambda_ignores_the_rewards(self):
        found = self._minimiser(self.advantages, lam=1e6)
        torch.testing.assert_close(found.exp(), self.reference.exp(), atol=1e-5, rtol=0)
        assert not torch.allclose(self._minimiser(self.advantages).exp(), self.reference.exp(), atol=0.05)

    def test_the_target_holds_the_geometric_mean_of_several_references(self):
        parts = [(0.3, self.reference), (0.7, draw(7, ACTIONS).log_softmax(-1))]
        mean = sum(weight * reference for weight, reference in parts)
        logps = draw(3, ACTIONS).log_softmax(-1)
        terms = token_loss("square", logps, self.old, parts, self.advantages, kl_coef=self.lam)
        torch.testing.assert_close(terms.losses, (logps - mean - self.advantages / self.lam).square())


def test_reinforce_has_the_gradient_of_the_clipped_loss_where_nothing_has_moved():
    gradients = []
    for kind in ("reinforce", "ppo_clip"):
        logps = draw(0, 9).requires_grad_()
        terms = token_loss(kind, logps, logps.detach(), [], draw(1, 9))
        gradients.append(torch.autograd.grad(terms.losses.sum(), logps)[0])
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(gradients[0], -draw(1, 9))


def test_awr_leads_to_the_old_policy_tilted_by_the_advantages():
    """The minimiser of -E_old[exp(A / T) log p] is old x exp(A / T), normalised: the gradient is 0 there only."""
    old, advantages, temperature = draw(0, ACTIONS).log_softmax(-1), draw(1, ACTIONS), 0.6
    for start, zero in ((old + advantages / temperature, True), (old, False)):
        logits = start.clone().requires_grad_()
        terms = token_loss("awr", logits.log_softmax(-1), old, [], advantages, awr_temperature=temperature)
        gradient = torch.autograd.grad((old.exp() * terms.losses).sum(), logits)[0]
        assert (gradient.abs().max() < 1e-12) == zero
    torch.testing.assert_close(terms.losses, -(advantages / temperature).exp() * logits.log_softmax(-1))


def test_a_loss_unheard_of_is_refused():
    with pytest.raises(ValueError, match="no loss dpo; there are ppo_clip, square, awr and reinforce"):
        token_loss("dpo", *(draw(seed, 3) for seed in (0, 1)), [], draw(2, 3))


class TestFiniteDifferences:
    """Gradients on tabular policies against differences of the loss."""

    @pytest.mark.parametrize("kl_placement", ["none", "loss_k2", "loss_k3"])
    @pytest.mark.parametrize("kind", LOSSES)
    def test_of_every_loss_and_placement(self, kind, kl_placement):
        references = [(0.4, draw(2, 5, ACTIONS)), (0.6, draw(3, 5, ACTIONS))]
        references = [(weight, table.log_softmax(-1)[:, 0]) for weight, table in references]
        old, advantages = draw(0, 5, ACTIONS).log_softmax(-1)[:, 0], draw(4, 5)
        chosen = torch.tensor([0, 3, 1, 5, 2])

        def loss(logits):
            logps = logits.log_softmax(-1).gather(1, chosen[:, None])[:, 0]
            changes = {"kl_placement": kl_placement, "kl_coef": 0.3, "awr_temperature": 0.7}
            return token_loss(kind, logps, old, references, advantages, **changes).losses

        assert torch.autograd.gradcheck(loss, draw(1, 5, ACTIONS).requires_grad_())

    def test_of_the_clipped_loss_on_both_sides_of_its_bounds(self):
        ratios = torch.tensor([0.5, 0.75, 0.85, 1.1, 1.25, 2.0] * 2, dtype=torch.float64)
        advantages = torch.tensor([1.0] * 6 + [-1.0] * 6, dtype=torch.float64)

        def loss(logps):
            return token_loss("ppo_clip", logps, torch.zeros_like(ratios), [], advantages, clip=0.2).losses

        assert torch.autograd.gradcheck(loss, ratios.log().requires_grad_())
        assert loss(ratios.log()).eq(-advantages * ratios).sum() == 8

    def test_of_the_value_loss_on_both_sides_of_its_bounds(self):
        old, returns = draw(0, 40), draw(1, 40)
        values = old + 0.5 * draw(2, 40)
        assert 5 < value_loss(values, old, returns, 0.2).clipped < 35
        assert torch.autograd.gradcheck(lambda v: value_loss(v, old, returns, 0.2).losses, values.requires_grad_())


class TestAggregates:
    """The weight of a token in the loss of a minibatch."""

    LENGTHS = torch.tensor([1, 4, 5])

    @pytest.mark.parametrize(
        ("aggregate", "weights"),
        [("tokens", [0.1, 0.1, 0.1]), ("replies", [1 / 3, 1 / 12, 1 / 15]), ("reply_sums", [1 / 3, 1 / 3, 1 / 3])],
    )
    def test_by_hand(self, aggregate, weights):
        assert reply_weights(aggregate, self.LENGTHS).tolist() == pytest.approx(weights)

    def test_means_over_tokens_and_over_replies_sum_to_one(self):
        for aggregate in ("tokens", "replies"):
            found = reply_weights(aggregate, self.LENGTHS.double())
            assert (found * self.LENGTHS).sum().item() == pytest.approx(1, abs=1e-14)

    def test_replies_of_one_length_are_weighted_alike_by_all_but_for_the_length(self):
        lengths = torch.full((4,), 5)
        tokens, replies, sums = (reply_weights(name, lengths) for name in ("tokens", "replies", "reply_sums"))
        torch.testing.assert_close(tokens, replies)
        torch.testing.assert_close(5 * tokens, sums)

    def test_aggregates_unheard_of_are_refused(self):
        with pytest.raises(ValueError, match="no aggregate words; there are tokens, replies and reply_sums"):
            reply_weights("words", self.LENGTHS)
