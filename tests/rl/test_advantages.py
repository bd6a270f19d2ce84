import pytest
import torch

from salsa.rl.advantages import gae, token_rewards, whiten

MASK = torch.tensor([[True, True, True], [True, False, False]])


def _random(seed, rows=5, width=7):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, width + 1, (rows,), generator=generator)
    mask = torch.arange(width) < lengths[:, None]
    tables = (torch.randn(rows, width, generator=generator, dtype=torch.float64) for _ in range(3))
    return mask, *tables, torch.randn(rows, generator=generator, dtype=torch.float64)


def test_rewards_sum_to_score_minus_the_priced_log_ratio():
    mask, logps, reference, _, scores = _random(0)
    rewards = token_rewards(scores, logps, reference, mask, 0.3)
    ratio = torch.where(mask, logps - reference, 0.0).sum(1)
    torch.testing.assert_close(rewards.sum(1), scores - 0.3 * ratio)


def test_the_score_goes_to_the_last_token():
    zeros = torch.zeros(2, 3)
    rewards = token_rewards(torch.tensor([5.0, -1.0]), zeros, zeros, MASK, 0.4)
    assert rewards.tolist() == [[0, 0, 5], [-1, 0, 0]]


def test_a_reply_without_tokens_cannot_be_rewarded():
    zeros = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="without any token"):
        token_rewards(torch.ones(1), zeros, zeros, torch.zeros(1, 2, dtype=torch.bool), 0.1)


def test_advantages_with_lambda_one_are_rewards_to_go_minus_value():
    mask, rewards, values, _, _ = _random(1)
    advantages, returns = gae(rewards, values, mask, 1.0, 1.0)
    to_go = torch.where(mask, rewards, 0.0).flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(advantages, torch.where(mask, to_go - values, 0.0))
    torch.testing.assert_close(returns, torch.where(mask, to_go, 0.0))


def test_advantages_with_lambda_zero_are_one_step_errors():
    mask, rewards, values, _, _ = _random(2)
    values = torch.where(mask, values, 0.0)
    advantages, _ = gae(rewards, values, mask, 0.9, 0.0)
    following = torch.cat([values[:, 1:], torch.zeros(len(values), 1)], 1)
    torch.testing.assert_close(advantages, torch.where(mask, rewards + 0.9 * following - values, 0.0))


def test_advantages_of_three_tokens_by_hand():
    # gamma .5, lambda .5; deltas 1 + .5*4 - 2 = 1, 0 + .5*8 - 4 = 0, 10 - 8 = 2; A = 1 + .25*.5, 0 + .25*2, 2
    rewards, values = torch.tensor([[1.0, 0.0, 10.0]]), torch.tensor([[2.0, 4.0, 8.0]])
    advantages, returns = gae(rewards, values, torch.ones(1, 3, dtype=torch.bool), 0.5, 0.5)
    assert advantages.tolist() == [[1.125, 0.5, 2.0]]
    assert returns.tolist() == [[3.125, 4.5, 10.0]]


def test_what_lies_behind_a_reply_changes_nothing():
    mask, rewards, values, noise, scores = _random(3)
    garbage = torch.where(mask, 0.0, noise * 1e6 + float("nan"))
    plain = gae(rewards, values, mask, 0.9, 0.8)
    disturbed = gae(rewards + garbage, values + garbage, mask, 0.9, 0.8)
    for one, other in zip(plain, disturbed, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(whiten(rewards, mask), whiten(rewards + garbage, mask))
    assert torch.equal(
        token_rewards(scores, rewards, values, mask, 0.2),
        token_rewards(scores, rewards + garbage, values - garbage, mask, 0.2),
    )


def test_whitened_values_have_mean_zero_and_variance_one_where_they_count():
    mask, values, *_ = _random(4)
    whitened = whiten(3 + 10 * values, mask)
    assert whitened[mask].mean().item() == pytest.approx(0, abs=1e-12)
    assert whitened[mask].var(correction=0).item() == pytest.approx(1, abs=1e-8)
    assert not whitened[~mask].any()


def test_equal_values_whiten_to_zero():
    assert whiten(torch.full((2, 3), 4.0), MASK).abs().max() == 0
