"""Updates from given experience: what they depend on, and their gradients."""

from functools import cache

import pytest
import torch

from salsa.models.heads import ValueHead
from salsa.models.sequences import Sequences, reply_mask
from salsa.rl.experience import Experience
from salsa.rl.learner import Learner
from salsa.rl.objectives import k3
from salsa.rl.settings import AGGREGATES, KL_PLACEMENTS, LOSSES
from tests.rl.tiny import WORDS
from tests.rl.updates import (
    ROWS,
    Standing,
    critic_of,
    difference,
    experience_of,
    naive_logps,
    named,
    permutation_of,
    policy_of,
    settings_of,
    update,
)


@cache
def _plain(loss, aggregate, dtype):
    return update(experience_of(dtype), settings_of(loss, aggregate=aggregate))


CASES = [(loss, aggregate, torch.float64) for loss in LOSSES for aggregate in AGGREGATES]
CASES += [(loss, aggregate, torch.float32) for loss, aggregate in zip(LOSSES, [*AGGREGATES, "tokens"], strict=True)]


@pytest.mark.parametrize(("loss", "aggregate", "dtype"), CASES)
class TestWhatDoesNotCount:
    """Fixed experience, laid out in other ways, gives one update: to 1e-5 in float32, to 1e-10 in float64."""

    def _compare(self, loss, aggregate, dtype, changed, permutation=permutation_of, **sizes):
        wanted, figures = _plain(loss, aggregate, dtype)
        found, others = update(changed, settings_of(loss, aggregate=aggregate, **sizes), permutation)
        exact = dtype == torch.float64
        assert difference(wanted, found) <= (1e-10 if exact else 1e-5)
        # The update was one.
        assert difference(wanted, dict(named(policy_of(dtype)))) > 1e-3
        for name, value in figures.items():
            assert others[name].item() == pytest.approx(value.item(), rel=1e-8 if exact else 1e-3, abs=1e-6), name

    def test_padding_and_what_it_holds(self, loss, aggregate, dtype):
        experience = experience_of(dtype)
        ids, begins, lengths = experience.sequences
        garbage = torch.randint(0, WORDS, (ROWS, ids.shape[1] + 7), generator=torch.Generator().manual_seed(0))
        real = torch.arange(ids.shape[1]) < (begins + lengths)[:, None]
        garbage[:, : ids.shape[1]] = torch.where(real, ids, garbage[:, : ids.shape[1]])
        mask = reply_mask(experience.sequences)

        def spoiled(table):
            return torch.where(mask, table, float("nan"))

        changed = Experience(
            Sequences(garbage, begins, lengths),
            spoiled(experience.logps),
            [(weight, spoiled(table)) for weight, table in experience.references],
            *(spoiled(table) for table in experience[3:]),
        )
        self._compare(loss, aggregate, dtype, changed)

    @pytest.mark.parametrize("tokens", [1, 33, 100])
    def test_the_size_of_forward_passes(self, loss, aggregate, dtype, tokens):
        self._compare(loss, aggregate, dtype, experience_of(dtype), micro_batch_tokens=tokens)

    def test_the_order_of_rows(self, loss, aggregate, dtype):
        experience = experience_of(dtype)
        order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(9))
        place = order.argsort()
        changed = Experience(
            Sequences(*(field[order] for field in experience.sequences)),
            experience.logps[order],
            [(weight, table[order]) for weight, table in experience.references],
            *(table[order] for table in experience[3:]),
        )
        self._compare(loss, aggregate, dtype, changed, lambda each_pass: place[permutation_of(each_pass)])

    def test_the_order_within_a_minibatch(self, loss, aggregate, dtype):
        def backwards(each_pass):
            return torch.cat([rows.flip(0) for rows in permutation_of(each_pass).tensor_split(2)])

        self._compare(loss, aggregate, dtype, experience_of(dtype), backwards)


@pytest.mark.parametrize("critic", ["own", "trunk"])
def test_a_critic_does_not_depend_on_the_layout_either(critic):
    made = []
    for tokens in (2048, 40):
        model = critic_of() if critic == "own" else critic
        made.append(update(experience_of(), settings_of(micro_batch_tokens=tokens), critic=model)[0])
    assert any("critic" in name for name in made[0])
    assert difference(*made) <= 1e-10


class TestLoss:
    """The loss of a minibatch as a whole."""

    def _loss(self, policy, experience, settings, critic=None):
        """Return what is passed backward in one minibatch of all rows, and the gradients."""
        total = []

        def backward(loss):
            total.append(loss.item())
            loss.backward()

        parameters = [*policy.parameters(), *(critic.parameters() if critic is not None else ())]
        standing = Standing(parameters)
        learner = Learner(settings, policy, critic, backward)
        learner.update(experience, settings.kl_coef, [standing], permutation_of)
        return sum(total), standing.gradients[0]

    @staticmethod
    def _whole(loss="ppo_clip", **changes):
        fixed = {"minibatches": 1, "epochs": 1, "gradient_clip": 1e9, "micro_batch_tokens": 60}
        return settings_of(loss, **fixed | changes)

    @pytest.mark.parametrize("aggregate", AGGREGATES)
    @pytest.mark.parametrize("loss", LOSSES)
    def test_it_is_the_formula_on_logits_of_one_text_at_a_time(self, loss, aggregate):
        experience, settings = experience_of(), self._whole(loss, aggregate=aggregate, awr_temperature=0.8)
        logps, old, advantages = naive_logps(policy_of(), experience.sequences), experience.logps, experience.advantages
        ratios, mask = (logps - old).exp(), reply_mask(experience.sequences)
        reference = sum(weight * table for weight, table in experience.references)
        table = {
            "ppo_clip": -torch.minimum(ratios * advantages, ratios.clamp(0.8, 1.2) * advantages),
            "reinforce": -advantages * logps,
            "square": (logps - reference - advantages / 0.3) ** 2,
            "awr": -(advantages / 0.8).exp() * logps,
        }[loss]
        if loss != "square":
            table = table + 0.3 * sum(weight * k3(logps, other) for weight, other in experience.references)
        lengths = experience.sequences.reply_lengths
        sums = torch.where(mask, table, 0.0).sum(1)
        wanted = {
            "tokens": sums.sum() / lengths.sum(),
            "replies": (sums / lengths).mean(),
            "reply_sums": sums.mean(),
        }[aggregate]
        found, _ = self._loss(policy_of(), experience, settings)
        assert found == pytest.approx(wanted.item(), rel=1e-10)

    @pytest.mark.parametrize(
        ("loss", "kl_placement"),
        [("square", "none"), *((loss, kl) for loss in LOSSES if loss != "square" for kl in KL_PLACEMENTS)],
    )
    def test_its_gradient_is_that_of_finite_differences(self, loss, kl_placement):
        self._check_differences(self._whole(loss, kl_placement=kl_placement, aggregate="replies"), trunk=False)

    def test_its_gradient_is_that_of_finite_differences_with_a_value_head(self):
        self._check_differences(self._whole(critic="trunk", value_coef=0.7), trunk=True)

    def _check_differences(self, settings, trunk):
        experience, policy = experience_of(), policy_of()
        critic = ValueHead(policy) if trunk else None
        if critic is not None:
            torch.nn.init.normal_(critic.score.weight, generator=torch.Generator().manual_seed(4))
        _, gradients = self._loss(policy, experience, settings, critic)
        parameters = [*policy.parameters(), *(critic.parameters() if critic is not None else ())]
        names = [name for name, _ in policy.named_parameters()]
        chosen = [names.index(name) for name in ("model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight")]
        chosen += [names.index("model.layers.0.self_attn.q_proj.weight"), len(parameters) - 1]
        for index in chosen:
            flat, gradient = parameters[index].data.view(-1), gradients[index].view(-1)
            place = int(gradient.abs().argmax())
            around = []
            for step in (1e-5, -2e-5):
                flat[place] += step
                around.append(self._loss(policy, experience, settings, critic)[0])
            flat[place] += 1e-5
            assert gradient[place].item() == pytest.approx((around[0] - around[1]) / 2e-5, rel=1e-5), names[index:][:1]

    def test_a_value_head_adds_its_loss_times_its_coefficient(self):
        """The gradient of both is the sum of those of policy and critic, computed apart."""
        experience, policy = experience_of(), policy_of()
        head = ValueHead(policy)
        torch.nn.init.normal_(head.score.weight, generator=torch.Generator().manual_seed(4))
        _, both = self._loss(policy, experience, self._whole(critic="trunk", value_coef=0.7), head)
        _, of_policy = self._loss(policy, experience, self._whole(credit="returns"))
        critic = critic_of()
        critic.model.load_state_dict(policy.model.state_dict())
        critic.score.weight.data.copy_(head.score.weight)
        standing = Standing(critic.parameters())
        learner = Learner(self._whole(), policy, critic, torch.Tensor.backward)
        learner.update(experience, 0.3, [Standing(policy.parameters()), standing], permutation_of)
        of_critic = dict(zip((name for name, _ in critic.named_parameters()), standing.gradients[0], strict=True))
        for (name, _), together, alone in zip(policy.named_parameters(), both[:-1], of_policy, strict=True):
            torch.testing.assert_close(together, alone + 0.7 * of_critic[name])
        torch.testing.assert_close(both[-1], 0.7 * of_critic["score.weight"])
        assert of_critic["model.embed_tokens.weight"].abs().max() > 1e-3

    def test_without_weight_the_values_leave_the_trunk_alone(self):
        policy, settings = policy_of(), self._whole(critic="trunk", value_coef=0.0)
        _, with_head = self._loss(policy, experience_of(), settings, ValueHead(policy))
        _, without = self._loss(policy, experience_of(), self._whole(credit="returns"))
        for one, other in zip(with_head, without, strict=False):
            torch.testing.assert_close(one, other)

    def test_the_placements_differ(self):
        """So that the tests above would notice one that is taken for another."""
        gradients = [
            self._loss(policy_of(), experience_of(), self._whole(kl_placement=placement))[1][0]
            for placement in ("none", "loss_k2", "loss_k3")
        ]
        assert all((gradients[one] - gradients[two]).abs().max() > 1e-3 for one, two in ((0, 1), (0, 2), (1, 2)))
