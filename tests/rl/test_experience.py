"""From a rollout to what is learned from it, and its metrics."""

import pytest
import torch

from salsa.models.sequences import pack, reply_mask
from salsa.rl.credit import gae, token_rewards, whiten
from salsa.rl.experience import experience
from salsa.rl.rollout import Rollout
from salsa.rl.settings import PPOSettings
from tests.rl.tiny import PAD, replies, texts

ROWS = 6
SEQUENCES = pack(texts(0, ROWS), replies(1, ROWS), PAD)
MASK = reply_mask(SEQUENCES)
SCORES = torch.tensor([1.0, -0.5, 0.25, 2.0, 0.0, -1.0], dtype=torch.float64)


def _table(seed):
    drawn = torch.randn(MASK.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.where(MASK, drawn, 0.0)


def _rollout():
    ended = torch.tensor([True, False, True, True, False, True])
    return Rollout(SEQUENCES, _table(0), ended, _table(1).abs())


def _experience(references, kl_coef=0.3, values=None, **changes):
    settings = PPOSettings(**{"batch_prompts": ROWS, "kl_coef": 0.3} | changes)
    return experience(_rollout(), SCORES, references, values, settings, kl_coef)


def _reply_sums(estimates):
    return torch.where(MASK, estimates, 0.0).sum(1).mean().item()


class TestDivergences:
    """The KL to several references is the weighted sum of those to each."""

    REFERENCES = [(0.3, _table(2)), (0.7, _table(3))]

    def test_estimates_by_reply_and_by_token(self):
        _, metrics = _experience(self.REFERENCES, credit="returns")
        ratios = [(weight, _rollout().logps - table) for weight, table in self.REFERENCES]
        k1 = sum(weight * ratio for weight, ratio in ratios)
        k3 = sum(weight * (torch.exp(-ratio) - 1 + ratio) for weight, ratio in ratios)
        assert metrics["kl/reply_k1"].item() == pytest.approx(_reply_sums(k1))
        assert metrics["kl/reply_k3"].item() == pytest.approx(_reply_sums(k3))
        assert metrics["kl/token_k1"].item() == pytest.approx(k1[MASK].mean().item())
        assert metrics["kl/token_k3"].item() == pytest.approx(k3[MASK].mean().item())
        # k3 is not that of the mean of the references, which k1 would not tell from it.
        mean = sum(weight * ratio for weight, ratio in ratios)
        assert metrics["kl/reply_k3"].item() > _reply_sums(torch.exp(-mean) - 1 + mean) + 0.1

    def test_they_are_the_weighted_sums_of_those_to_each_alone(self):
        alone = [_experience([(1.0, table)], credit="returns")[1] for _, table in self.REFERENCES]
        _, both = _experience(self.REFERENCES, credit="returns")
        for name in ("kl/reply_k1", "kl/reply_k3", "kl/token_k1", "kl/token_k3"):
            assert both[name].item() == pytest.approx(0.3 * alone[0][name].item() + 0.7 * alone[1][name].item())


@pytest.mark.parametrize("references", [[(1.0, _table(2))], [(0.3, _table(2)), (0.7, _table(3))]], ids=["one", "two"])
@pytest.mark.parametrize("kl_placement", ["reward", "loss_k2", "loss_k3", "none"])
def test_only_a_kl_in_the_reward_changes_the_rewards(kl_placement, references):
    made, _ = _experience(references, 0.5, credit="returns", whiten=False, kl_placement=kl_placement)
    rewards = token_rewards(SCORES, _rollout().logps, references, MASK, 0.5 if kl_placement == "reward" else 0.0)
    to_go = torch.where(MASK, rewards.flip(1).cumsum(1).flip(1), 0.0)
    torch.testing.assert_close(made.advantages, to_go)
    if kl_placement != "reward":
        torch.testing.assert_close(made.advantages, torch.where(MASK, SCORES[:, None], 0.0))


def test_the_coefficient_of_the_iteration_is_charged_not_that_of_the_settings():
    made, figures = _experience([(1.0, _table(2))], 0.5, credit="returns", whiten=False)
    rewards = token_rewards(SCORES, _rollout().logps, [(1.0, _table(2))], MASK, 0.5)
    torch.testing.assert_close(made.advantages[:, 0], rewards.sum(1))
    objective = SCORES.mean().item() - 0.5 * figures["kl/reply_k1"].item()
    assert figures["reward/objective"].item() == pytest.approx(objective)


def test_with_a_critic_there_are_values_returns_and_how_much_they_explain():
    references, values = [(1.0, _table(2))], _table(4)
    made, metrics = _experience(references, values=values, gamma=0.9, lam=0.8)
    rewards = token_rewards(SCORES, _rollout().logps, references, MASK, 0.3)
    advantages, returns = gae(rewards, values, MASK, 0.9, 0.8)
    assert torch.equal(made.advantages, whiten(advantages, MASK))
    assert torch.equal(made.returns, returns)
    assert torch.equal(made.values, values)
    errors = (returns - values)[MASK]
    explained = 1 - errors.var(correction=0) / returns[MASK].var(correction=0)
    assert metrics["critic/explained_variance"].item() == pytest.approx(explained.item())


def test_without_one_there_are_none():
    groups = {"replies_per_prompt": 3, "batch_prompts": 2, "minibatches": 2}
    made, metrics = _experience([(1.0, _table(2))], credit="group", **groups)
    assert made.values is None
    assert made.returns is None
    assert not any(name.startswith("critic") for name in metrics)


def test_replies_are_described():
    _, metrics = _experience([(1.0, _table(2))], credit="returns")
    assert metrics["reward/score"].item() == pytest.approx(1.75 / 6)
    assert metrics["reply/unfinished"].item() == pytest.approx(2 / 6)
    assert metrics["reply/length"].item() == pytest.approx(SEQUENCES.reply_lengths.float().mean().item())
    assert metrics["reply/entropy"].item() == pytest.approx(_rollout().entropies[MASK].mean().item())
    assert all(value.dim() == 0 for value in metrics.values())
