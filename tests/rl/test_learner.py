"""Updates from given experience: what they depend on, and their gradients."""

import copy
from functools import cache

import pytest
import torch

from salsa.models.heads import ValueHead
from salsa.models.sequences import Sequences, pack, reply_mask
from salsa.rl.experience import Experience
from salsa.rl.learner import Learner
from salsa.rl.objectives import k3
from salsa.rl.settings import AGGREGATES, KL_PLACEMENTS, LOSSES, GuardSettings, PPOSettings
from salsa.training.optimiser import OptimiserSettings, adamw
from tests.rl.tiny import PAD, WORDS, causal, in_float64, replies, scalar, texts

ROWS = 10
SETTINGS = {"batch_prompts": ROWS, "minibatches": 2, "epochs": 2, "kl_coef": 0.3, "learning_rate": 1e-3}


def _settings(loss="ppo_clip", **changes):
    placement = "none" if loss == "square" else "loss_k3"
    return PPOSettings(**SETTINGS | {"loss": loss, "kl_placement": placement} | changes)


def _policy(dtype=torch.float64, seed=0):
    model = causal(seed=seed, hidden_size=16, intermediate_size=24)
    return in_float64(model) if dtype == torch.float64 else model


def _critic(dtype=torch.float64):
    model = scalar(seed=3, hidden_size=16, intermediate_size=24)
    return in_float64(model) if dtype == torch.float64 else model


def _experience(dtype=torch.float64):
    """Return random replies with old log-probabilities that lie so far from the policy's that some are clipped."""
    sequences = pack(texts(0, ROWS), replies(1, ROWS), PAD)
    mask = reply_mask(sequences)
    generator = torch.Generator().manual_seed(2)

    def table(scale, centre):
        drawn = centre + scale * torch.randn(mask.shape, generator=generator, dtype=torch.float64)
        return torch.where(mask, drawn, 0.0).to(dtype)

    logps = torch.where(mask, _naive_logps(_policy(), sequences), 0.0)
    old, first, second = (table(0.25, logps) for _ in range(3))
    return Experience(sequences, old, [(0.4, first), (0.6, second)], table(1.0, 0.0), table(0.3, 0.0), table(1.0, 0.0))


@torch.no_grad()
def _naive_logps(policy, sequences):
    """Return log-probabilities from whole logits of one text at a time."""
    rows = torch.zeros(reply_mask(sequences).shape, dtype=torch.float64)
    for row, (ids, begin, length) in enumerate(zip(*sequences, strict=True)):
        logits = policy(ids[None, : begin + length]).logits[0, begin - 1 : -1].double()
        rows[row, :length] = logits.log_softmax(-1).gather(1, ids[begin : begin + length, None])[:, 0]
    return rows


def _permutation(each_pass):
    return torch.randperm(ROWS, generator=torch.Generator().manual_seed(each_pass))


def _optimisers(policy, critic, rate=1e-3):
    models = [policy, critic] if critic is not None and not isinstance(critic, ValueHead) else [policy]
    adam = OptimiserSettings(learning_rate=rate, betas=(0.9, 0.95), eps=1e-5)
    extra = list(critic.parameters()) if isinstance(critic, ValueHead) else []
    return [adamw([*model.parameters(), *extra], adam) for model in models]


def _update(experience, settings, permutation=_permutation, critic=None, policy=None, **options):
    """Make one update of fresh models; return their parameters and the metrics."""
    policy = policy or _policy(experience.logps.dtype)
    critic = ValueHead(policy) if critic == "trunk" else critic
    learner = Learner(settings, policy, critic, torch.Tensor.backward)
    metrics = learner.update(
        experience, settings.kl_coef, options.get("optimisers") or _optimisers(policy, critic), permutation
    )
    models = {"policy": policy} | ({"critic": critic} if critic is not None else {})
    return {f"{n}.{k}": v.detach() for n, m in models.items() for k, v in m.named_parameters()}, metrics


def _difference(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in one)


class Standing:
    """An optimiser that makes no step but keeps the gradients it would have used."""

    def __init__(self, parameters):
        self.parameters = list(parameters)
        self.gradients = []

    def step(self):
        self.gradients.append([None if p.grad is None else p.grad.clone() for p in self.parameters])

    def zero_grad(self):
        for parameter in self.parameters:
            parameter.grad = None


@cache
def _plain(loss, aggregate, dtype):
    return _update(_experience(dtype), _settings(loss, aggregate=aggregate))


CASES = [(loss, aggregate, torch.float64) for loss in LOSSES for aggregate in AGGREGATES]
CASES += [(loss, aggregate, torch.float32) for loss, aggregate in zip(LOSSES, [*AGGREGATES, "tokens"], strict=True)]


@pytest.mark.parametrize(("loss", "aggregate", "dtype"), CASES)
class TestWhatDoesNotCount:
    """Fixed experience, laid out in other ways, gives one update: to 1e-5 in float32, to 1e-10 in float64."""

    def _compare(self, loss, aggregate, dtype, changed, permutation=_permutation, **sizes):
        wanted, figures = _plain(loss, aggregate, dtype)
        found, others = _update(changed, _settings(loss, aggregate=aggregate, **sizes), permutation)
        exact = dtype == torch.float64
        assert _difference(wanted, found) <= (1e-10 if exact else 1e-5)
        # The update was one.
        assert _difference(wanted, dict(_named(_policy(dtype)))) > 1e-3
        for name, value in figures.items():
            assert others[name].item() == pytest.approx(value.item(), rel=1e-8 if exact else 1e-3, abs=1e-6), name

    def test_padding_and_what_it_holds(self, loss, aggregate, dtype):
        experience = _experience(dtype)
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
        self._compare(loss, aggregate, dtype, _experience(dtype), micro_batch_tokens=tokens)

    def test_the_order_of_rows(self, loss, aggregate, dtype):
        experience = _experience(dtype)
        order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(9))
        place = order.argsort()
        changed = Experience(
            Sequences(*(field[order] for field in experience.sequences)),
            experience.logps[order],
            [(weight, table[order]) for weight, table in experience.references],
            *(table[order] for table in experience[3:]),
        )
        self._compare(loss, aggregate, dtype, changed, lambda each_pass: place[_permutation(each_pass)])

    def test_the_order_within_a_minibatch(self, loss, aggregate, dtype):
        def backwards(each_pass):
            return torch.cat([rows.flip(0) for rows in _permutation(each_pass).tensor_split(2)])

        self._compare(loss, aggregate, dtype, _experience(dtype), backwards)


def _named(policy):
    return ((f"policy.{name}", parameter.detach()) for name, parameter in policy.named_parameters())


@pytest.mark.parametrize("critic", ["own", "trunk"])
def test_a_critic_does_not_depend_on_the_layout_either(critic):
    made = [
        _update(_experience(), _settings(micro_batch_tokens=tokens), critic=_critic() if critic == "own" else critic)
        for tokens in (2048, 40)
    ]
    assert any("critic" in name for name in made[0][0])
    assert _difference(made[0][0], made[1][0]) <= 1e-10


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
        learner.update(experience, settings.kl_coef, [standing], _permutation)
        return sum(total), standing.gradients[0]

    @staticmethod
    def _whole(loss="ppo_clip", **changes):
        fixed = {"minibatches": 1, "epochs": 1, "gradient_clip": 1e9, "micro_batch_tokens": 60}
        return _settings(loss, **fixed | changes)

    @pytest.mark.parametrize("aggregate", AGGREGATES)
    @pytest.mark.parametrize("loss", LOSSES)
    def test_it_is_the_formula_on_logits_of_one_text_at_a_time(self, loss, aggregate):
        experience, settings = _experience(), self._whole(loss, aggregate=aggregate, awr_temperature=0.8)
        logps, old, advantages = _naive_logps(_policy(), experience.sequences), experience.logps, experience.advantages
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
        found, _ = self._loss(_policy(), experience, settings)
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
        experience, policy = _experience(), _policy()
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
        experience, policy = _experience(), _policy()
        head = ValueHead(policy)
        torch.nn.init.normal_(head.score.weight, generator=torch.Generator().manual_seed(4))
        _, both = self._loss(policy, experience, self._whole(critic="trunk", value_coef=0.7), head)
        _, of_policy = self._loss(policy, experience, self._whole(credit="returns"))
        critic = _critic()
        critic.model.load_state_dict(policy.model.state_dict())
        critic.score.weight.data.copy_(head.score.weight)
        standing = Standing(critic.parameters())
        learner = Learner(self._whole(), policy, critic, torch.Tensor.backward)
        learner.update(experience, 0.3, [Standing(policy.parameters()), standing], _permutation)
        of_critic = dict(zip((name for name, _ in critic.named_parameters()), standing.gradients[0], strict=True))
        for (name, _), together, alone in zip(policy.named_parameters(), both[:-1], of_policy, strict=True):
            torch.testing.assert_close(together, alone + 0.7 * of_critic[name])
        torch.testing.assert_close(both[-1], 0.7 * of_critic["score.weight"])
        assert of_critic["model.embed_tokens.weight"].abs().max() > 1e-3

    def test_without_weight_the_values_leave_the_trunk_alone(self):
        policy = _policy()
        _, with_head = self._loss(policy, _experience(), self._whole(critic="trunk", value_coef=0.0), ValueHead(policy))
        _, without = self._loss(policy, _experience(), self._whole(credit="returns"))
        for one, other in zip(with_head, without, strict=False):
            torch.testing.assert_close(one, other)

    def test_the_placements_differ(self):
        """So that the tests above would notice one that is taken for another."""
        gradients = [
            self._loss(_policy(), _experience(), self._whole(kl_placement=placement))[1][0]
            for placement in ("none", "loss_k2", "loss_k3")
        ]
        assert all((gradients[one] - gradients[two]).abs().max() > 1e-3 for one, two in ((0, 1), (0, 2), (1, 2)))


class TestSteps:
    """Which steps an update makes."""

    def _standing(self, experience=None, permutation=_permutation, critic=None, **changes):
        policy = _policy()
        optimisers = [Standing(policy.parameters())]
        if critic is not None:
            optimisers.append(Standing(critic.parameters()))
        learner = Learner(_settings(**changes), policy, critic, torch.Tensor.backward)
        return optimisers, learner.update(experience or _experience(), 0.3, optimisers, permutation)

    def test_each_minibatch_of_each_pass_is_one_step_of_policy_and_critic(self):
        optimisers, metrics = self._standing(critic=_critic(), minibatches=3, epochs=2)
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
        experience = _experience()
        experience = experience._replace(logps=_naive_logps(_policy(), experience.sequences))
        changes = {"minibatches": 5, "epochs": 3, "kl_placement": "none"}
        made = {}
        for limit in (None, 0.01, 1e9):
            policy, taken = _policy(), []
            optimiser = adamw(policy.parameters(), OptimiserSettings(learning_rate=2e-2, eps=1e-5))
            step = optimiser.step
            optimiser.step = lambda step=step, taken=taken, policy=policy: (
                step(),
                taken.append(copy.deepcopy(dict(_named(policy)))),
            )
            settings = _settings(update_kl_limit=limit, **changes)
            _, metrics = _update(experience, settings, policy=policy, optimisers=[optimiser])
            made[limit] = taken, metrics, dict(_named(policy))
        free, stopped = made[None], made[0.01]
        count = len(stopped[0])
        assert len(free[0]) == len(made[1e9][0]) == 15
        assert 0 < count < 15
        assert stopped[1]["policy/updates"] == count
        assert stopped[1]["policy/skipped_updates"] == 0
        assert stopped[1]["policy/approx_kl"] <= 0.01 < free[1]["policy/approx_kl"]
        assert _difference(stopped[2], free[0][count - 1]) == 0
        assert _difference(made[1e9][2], free[2]) == 0

    def test_the_first_minibatch_is_never_too_far(self):
        experience = _experience()
        experience = experience._replace(logps=_naive_logps(_policy(), experience.sequences))
        (optimiser,), _ = self._standing(experience, update_kl_limit=1e-9, minibatches=1, epochs=1)
        assert len(optimiser.gradients) == 1

    @pytest.mark.parametrize("broken", ["advantages", "logps"])
    def test_a_broken_minibatch_is_skipped_and_the_others_are_not(self, broken):
        """One row is not a number: its minibatch makes no step, and it is as if it had not been there."""
        experience = _experience()
        experience._asdict()[broken][3, 0] = float("nan")
        settings = _settings(guards=GuardSettings(non_finite="skip"), epochs=1, minibatches=5)
        rows = _permutation(0)
        bad = next(index for index, part in enumerate(rows.tensor_split(5)) if 3 in part)
        assert bad > 0
        skipped, metrics = _update(experience, settings)
        without = torch.cat([part for index, part in enumerate(rows.tensor_split(5)) if index != bad])
        wanted, others = _update(_experience(), _settings(epochs=1, minibatches=4), lambda _: without)
        assert _difference(skipped, wanted) == 0
        assert metrics["policy/skipped_updates"] == 1
        assert metrics["policy/updates"] == 4
        for name in ("policy/loss", "policy/approx_kl", "policy/gradient_norm"):
            torch.testing.assert_close(metrics[name], others[name])

    def test_a_broken_minibatch_of_the_critic_alone_is_skipped_there_alone(self):
        experience, critic = _experience(), _critic()
        experience.returns[3, 0] = float("inf")
        guards = GuardSettings(non_finite="skip")
        optimisers, metrics = self._standing(experience, critic=critic, epochs=1, minibatches=5, guards=guards)
        assert [len(optimiser.gradients) for optimiser in optimisers] == [5, 4]
        assert metrics["critic/skipped_updates"] == 1
        assert metrics["policy/skipped_updates"] == 0
        assert torch.isfinite(metrics["critic/loss"])

    @pytest.mark.parametrize("limit", [None, 0.5])
    def test_where_the_guard_says_stop_the_figures_tell_of_it(self, limit):
        experience = _experience()
        experience.logps[3, 0] = float("nan")
        _, metrics = self._standing(experience, update_kl_limit=limit)
        assert torch.isnan(metrics["policy/loss"])
        assert torch.isnan(metrics["policy/gradient_norm"])
