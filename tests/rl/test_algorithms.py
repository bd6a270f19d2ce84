"""The algorithms of the family as settings, and what must be one and the same among them."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from salsa.models.sequences import reply_mask
from salsa.rl.references import FrozenReference, MixtureReference, MovingReference
from salsa.rl.trace import Trace
from tests.rl.alignment import ALGORITHMS, Rule, build, equal, metrics, run, weights
from tests.rl.tiny import causal, in_float64, texts

CONF = Path(__file__).parents[2] / "conf" / "align"
SIZES = {"batch_prompts", "replies_per_prompt"}


def _soup(alpha):
    soup = causal(seed=0)
    with torch.no_grad():
        for parameter, other in zip(soup.parameters(), causal(seed=1).parameters(), strict=True):
            parameter.mul_(1 - alpha).add_(alpha * other)
    return soup


def _frozen(seed=1):
    return FrozenReference(causal(seed=seed), f"model {seed}")


def _trained(folder, name, reference=None, **changes):
    ppo = build(reference=reference, **{"steps": 2} | ALGORITHMS[name] | changes)
    return weights(run(ppo, folder, checkpoint_steps=None))


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_the_configuration_of_an_algorithm_is_the_one_tested_here(name):
    base, own = (OmegaConf.to_container(OmegaConf.load(CONF / f"{each}.yaml")) for each in ("ppo", name))
    own = {key: value for key, value in own.items() if key != "defaults"} if name != "ppo" else {}
    tested = {key: value for key, value in ALGORITHMS[name].items() if key not in SIZES}
    said = {key: value for key, value in own.items() if key not in SIZES}
    if name == "grpo":
        said.pop("kl_coef")
    assert said == tested
    assert all(key in base for key in own)


class TestOneReferenceInManyForms:
    """A reference, a mixture of it alone, and one of two copies of it are one reference, bit for bit."""

    @pytest.mark.parametrize("name", list(ALGORITHMS))
    def test_alone_and_twice(self, name, tmp_path):
        single = _trained(tmp_path / "single", name, _frozen())
        mixtures = {
            "alone": MixtureReference([(1.0, _frozen())]),
            "twice": MixtureReference([(0.5, _frozen()), (0.5, _frozen())]),
        }
        for form, mixture in mixtures.items():
            assert equal(_trained(tmp_path / form, name, mixture), single)
            assert metrics(tmp_path / form) == metrics(tmp_path / "single")

    @pytest.mark.parametrize("name", ["ppo", "apa", "grpo"])
    def test_a_soup_that_equals_the_start_is_the_start(self, name, tmp_path):
        references = {"start": causal(seed=0), "zero": _soup(0.0), "one": _soup(1.0), "second": causal(seed=1)}
        runs = {form: _trained(tmp_path / form, name, reference) for form, reference in references.items()}
        assert equal(runs["start"], runs["zero"])
        assert equal(runs["one"], runs["second"])
        assert not equal(runs["start"], runs["one"])


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "apa"])
def test_without_price_the_reference_has_no_say_in_training(name, tmp_path):
    one, other = (_trained(tmp_path / str(seed), name, _frozen(seed), kl_coef=0.0) for seed in (1, 2))
    assert equal(one, other)
    assert metrics(tmp_path / "1")[0]["kl/reply_k1"] != metrics(tmp_path / "2")[0]["kl/reply_k1"]


def test_apa_without_rewards_pulls_to_its_reference(tmp_path):
    """Equal rewards whiten to nothing, which leaves the square loss its reference."""
    scorer = Rule(lambda sequences, ended: torch.ones(len(sequences.ids)))
    changes = {"credit": "returns", "scorer": scorer, "steps": 12, "learning_rate": 1e-2}
    _trained(tmp_path, "apa", _soup(0.5), **changes)
    divergences = [line["kl/reply_k3"] for line in metrics(tmp_path)]
    assert divergences[-1] < 0.5 * divergences[0]


class TestGroups:
    """Several replies to one prompt."""

    @pytest.mark.parametrize("name", ["grpo", "rloo"])
    def test_they_lie_side_by_side_and_differ(self, name):
        sequences = build(**ALGORITHMS[name]).collect(0)[0].sequences
        prompts = [tuple(ids[:length].tolist()) for ids, length in zip(*sequences[:2], strict=True)]
        groups = [prompts[first : first + 3] for first in range(0, 12, 3)]
        assert all(len(set(group)) == 1 for group in groups)
        assert len(set(prompts)) == 4
        replies = {tuple(ids[length:].tolist()) for ids, length in zip(*sequences[:2], strict=True)}
        assert len(replies) > 6

    @pytest.mark.parametrize("name", ["grpo", "rloo"])
    def test_equal_rewards_without_price_teach_nothing(self, name, tmp_path):
        scorer = Rule(lambda sequences, ended: torch.full((len(sequences.ids),), 0.5))
        ppo = build(steps=2, scorer=scorer, **ALGORITHMS[name] | {"kl_coef": 0.0})
        start = weights(ppo)
        assert equal(weights(run(ppo, tmp_path)), start)
        assert [line["policy/gradient_norm"] for line in metrics(tmp_path)] == [0, 0]

    def test_rloo_compares_a_reply_priced_with_its_kl_with_the_others_of_its_prompt(self):
        ppo = build(reference=causal(seed=1), models=in_float64, **ALGORITHMS["rloo"])
        experience, _ = ppo.collect(0)
        totals = self._scores(ppo, experience).double()
        ratios = experience.logps - experience.references[0][1]
        totals = totals - 0.1 * torch.where(reply_mask(experience.sequences), ratios, 0.0).sum(1)
        groups = totals.view(4, 3)
        wanted = 3 / 2 * (groups - groups.mean(1, keepdim=True)).flatten()
        torch.testing.assert_close(experience.advantages[:, 0], wanted)

    def test_grpo_takes_the_scores_alone_and_charges_the_kl_in_the_loss(self):
        ppo = build(reference=causal(seed=1), models=in_float64, **ALGORITHMS["grpo"])
        experience, _ = ppo.collect(0)
        groups = self._scores(ppo, experience).double().view(4, 3)
        wanted = ((groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)).flatten()
        mask = reply_mask(experience.sequences)
        torch.testing.assert_close(experience.advantages, torch.where(mask, wanted[:, None], 0.0))
        assert experience.values is experience.returns is None

    @staticmethod
    def _scores(ppo, experience):
        ids, begins, lengths = experience.sequences
        ended = ids.gather(1, (begins + lengths - 1)[:, None])[:, 0] == ppo.eos
        return ppo.scorer.total(ppo.scorer.terms(experience.sequences, ended), ended)


def test_reinforce_is_the_clipped_loss_where_each_minibatch_is_the_first(tmp_path):
    runs = [
        _trained(tmp_path / loss, "reinforce", loss=loss, minibatches=1, models=in_float64)
        for loss in ("reinforce", "ppo_clip")
    ]
    for name, tensor in runs[0].items():
        torch.testing.assert_close(tensor, runs[1][name], atol=1e-9, rtol=0)


class TestMovingReferences:
    """WARP's inner loop and TR-DPO's updates, in training."""

    @staticmethod
    def _moving(rate, every=1):
        return MovingReference(causal(), "moving", rate=rate, every=every)

    def test_an_average_that_takes_nothing_is_the_fixed_anchor(self, tmp_path):
        one = _trained(tmp_path / "moving", "reinforce", self._moving(0.0), steps=3)
        other = _trained(tmp_path / "frozen", "reinforce", causal(), steps=3)
        assert equal(one, other)
        assert metrics(tmp_path / "moving") == metrics(tmp_path / "frozen")

    def test_one_that_takes_all_leaves_no_kl_right_after_each_update(self, tmp_path):
        trace = Trace(tmp_path / "trace", texts(9, 5))
        _trained(tmp_path, "reinforce", self._moving(1.0), steps=4, trace=trace)
        for line in metrics(tmp_path):
            assert abs(line["kl/reply_k1"]) < 1e-4
            assert abs(line["kl/reply_k3"]) < 1e-9
        assert all(abs(line["validation/kl"]) < 1e-4 for line in metrics(tmp_path) if "validation/kl" in line)

    def test_a_hard_update_every_other_iteration_lets_it_grow_in_between(self, tmp_path):
        _trained(tmp_path, "ppo", self._moving(1.0, every=2), steps=5)
        divergences = [line["kl/reply_k3"] for line in metrics(tmp_path)]
        assert max(divergences[0], divergences[2], divergences[4]) < 1e-9
        assert min(divergences[1], divergences[3]) > 1e-4

    def test_the_faster_it_follows_the_smaller_the_kl_to_it(self, tmp_path):
        last = []
        for rate in (0.0, 0.3, 0.9):
            _trained(tmp_path / str(rate), "reinforce", self._moving(rate), steps=4, learning_rate=1e-2)
            last.append(metrics(tmp_path / str(rate))[-1]["kl/reply_k3"])
        assert last[0] > last[1] > last[2] > 0


class TestTrunkCritic:
    """A value head on the policy's trunk."""

    def test_its_first_values_are_zero_and_it_learns(self, tmp_path):
        scorer = Rule(lambda sequences, ended: (sequences.ids[:, 1] % 2).float())
        prompts = [[1, word] for word in range(3, 19)]
        changes = {"critic": "trunk", "value_coef": 1.0, "value_clip": 10.0, "kl_coef": 0.0, "max_new_tokens": 4}
        ppo = build(steps=12, batch_prompts=32, learning_rate=1e-2, scorer=scorer, prompts=prompts, **changes)
        experience, _ = ppo.collect(0)
        assert not experience.values.any()
        run(ppo, tmp_path, checkpoint_steps=None)
        lines = metrics(tmp_path)
        assert abs(lines[0]["critic/explained_variance"]) < 1e-6
        assert lines[-1]["critic/explained_variance"] > 0.5
        assert "critic/learning_rate" not in lines[0]
        assert lines[0].keys() >= {"critic/loss", "critic/clip_fraction", "policy/loss"}

    def test_its_values_follow_the_policy(self):
        ppo = build(critic="trunk", models=in_float64)
        torch.nn.init.normal_(ppo.critic.score.weight, generator=torch.Generator().manual_seed(0))
        experience, _ = ppo.collect(0)
        ids, begins, lengths = experience.sequences
        for row in range(3):
            text = ids[row : row + 1, : begins[row] + lengths[row]]
            with torch.no_grad():
                hidden = ppo.policy.model(text).last_hidden_state[0, begins[row] - 1 : -1]
            wanted = (hidden @ ppo.critic.score.weight[0]).detach()
            torch.testing.assert_close(experience.values[row, : lengths[row]], wanted)


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_every_algorithm_learns_what_is_rewarded(name, tmp_path):
    """A reward for naming one word: its share of the replies' tokens rises."""

    def rule(sequences, ended):
        ids, begins, lengths = sequences
        places = torch.arange(ids.shape[1])
        inside = (places >= begins[:, None]) & (places < (begins + lengths)[:, None])
        return ((ids == 7) & inside).sum(1) / lengths

    sizes = {"batch_prompts": 32} if "replies_per_prompt" not in ALGORITHMS[name] else {"batch_prompts": 11}
    changes = {"steps": 8, "kl_coef": 0.3 if name == "apa" else 0.01, "learning_rate": 1e-2, "max_new_tokens": 6}
    scorer = Rule(rule)
    run(build(scorer=scorer, **ALGORITHMS[name] | sizes | changes), tmp_path, checkpoint_steps=None)
    shares = [line["reward/score"] for line in metrics(tmp_path)]
    assert shares[-1] > 3 * shares[0] + 0.05
