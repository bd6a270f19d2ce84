"""From rewards to advantages, against the formulas written out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salsa.rl.credit import gae, group_normalised, leave_one_out, token_credit, token_rewards, whiten

MASK = torch.tensor([[True, True, True], [True, False, False]])
seeds = st.integers(0, 2**32 - 1)


def _random(seed, rows=5, width=7):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, width + 1, (rows,), generator=generator)
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    tables = (torch.randn(mask.shape, generator=generator, dtype=torch.float64) for _ in range(3))
    return mask, *tables, torch.randn(rows, generator=generator, dtype=torch.float64)


def _totals(seed, groups, size):
    return torch.randn(groups * size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class TestRewards:
    """From scores and log-ratios to a reward for each token."""

    def test_they_sum_to_score_minus_the_priced_log_ratio(self):
        mask, logps, reference, _, scores = _random(0)
        rewards = token_rewards(scores, logps, [(1.0, reference)], mask, 0.3)
        ratio = torch.where(mask, logps - reference, 0.0).sum(1)
        torch.testing.assert_close(rewards.sum(1), scores - 0.3 * ratio)

    def test_with_several_references_the_log_ratio_is_their_weighted_sum(self):
        mask, logps, one, other, scores = _random(0)
        rewards = token_rewards(scores, logps, [(0.25, one), (0.75, other)], mask, 0.3)
        ratios = 0.25 * (logps - one) + 0.75 * (logps - other)
        wanted = torch.where(mask, -0.3 * ratios, 0.0)
        wanted[torch.arange(len(mask)), mask.sum(1) - 1] += scores
        torch.testing.assert_close(rewards, wanted)

    def test_the_score_goes_to_the_last_token(self):
        zeros = torch.zeros(2, 3)
        rewards = token_rewards(torch.tensor([5.0, -1.0]), zeros, [(1.0, zeros)], MASK, 0.4)
        assert rewards.tolist() == [[0, 0, 5], [-1, 0, 0]]

    def test_a_reply_without_tokens_cannot_be_rewarded(self):
        zeros = torch.zeros(1, 2)
        with pytest.raises(ValueError, match="without any token"):
            token_rewards(torch.ones(1), zeros, [(1.0, zeros)], torch.zeros(1, 2, dtype=torch.bool), 0.1)


class TestGAE:
    """Generalised advantage estimation."""

    @settings(max_examples=25, deadline=None)
    @given(seeds, st.floats(0, 1))
    def test_lambda_one_is_reward_to_go_minus_value(self, seed, gamma):
        mask, rewards, values, _, _ = _random(seed)
        advantages, returns = gae(rewards, values, mask, gamma, 1.0)
        to_go, running = torch.zeros_like(rewards), torch.zeros(len(rewards), dtype=torch.float64)
        for step in reversed(range(mask.shape[1])):
            running = torch.where(mask[:, step], rewards[:, step] + gamma * running, 0.0)
            to_go[:, step] = running
        torch.testing.assert_close(advantages, torch.where(mask, to_go - values, 0.0))
        torch.testing.assert_close(returns, to_go)

    @settings(max_examples=25, deadline=None)
    @given(seeds, st.floats(0, 1))
    def test_lambda_zero_is_the_one_step_error(self, seed, gamma):
        mask, rewards, values, _, _ = _random(seed)
        values = torch.where(mask, values, 0.0)
        advantages, _ = gae(rewards, values, mask, gamma, 0.0)
        following = torch.cat([values[:, 1:], torch.zeros(len(values), 1)], 1)
        torch.testing.assert_close(advantages, torch.where(mask, rewards + gamma * following - values, 0.0))

    @settings(max_examples=25, deadline=None)
    @given(seeds, st.floats(0, 1), st.floats(0, 1))
    def test_between_them_it_is_the_discounted_sum_of_one_step_errors(self, seed, gamma, lam):
        mask, rewards, values, _, _ = _random(seed)
        errors, _ = gae(rewards, values, mask, gamma, 0.0)
        wanted = torch.zeros_like(errors)
        for first in range(mask.shape[1]):
            for later in range(first, mask.shape[1]):
                wanted[:, first] += (gamma * lam) ** (later - first) * errors[:, later]
        advantages, returns = gae(rewards, values, mask, gamma, lam)
        torch.testing.assert_close(advantages, torch.where(mask, wanted, 0.0))
        torch.testing.assert_close(returns, torch.where(mask, wanted + values, 0.0))

    def test_three_tokens_by_hand(self):
        # gamma .5, lambda .5; deltas 1 + .5*4 - 2 = 1, 0 + .5*8 - 4 = 0, 10 - 8 = 2; A = 1 + .25*.5, 0 + .25*2, 2
        rewards, values = torch.tensor([[1.0, 0.0, 10.0]]), torch.tensor([[2.0, 4.0, 8.0]])
        advantages, returns = gae(rewards, values, torch.ones(1, 3, dtype=torch.bool), 0.5, 0.5)
        assert advantages.tolist() == [[1.125, 0.5, 2.0]]
        assert returns.tolist() == [[3.125, 4.5, 10.0]]

    @settings(max_examples=25, deadline=None)
    @given(seeds, st.floats(0.1, 10), st.floats(0, 1), st.floats(0, 1))
    def test_it_is_linear_in_rewards_and_values(self, seed, scale, gamma, lam):
        mask, rewards, values, *_ = _random(seed)
        plain = gae(rewards, values, mask, gamma, lam)
        scaled = gae(scale * rewards, scale * values, mask, gamma, lam)
        for one, other in zip(plain, scaled, strict=True):
            torch.testing.assert_close(scale * one, other)


class TestGroups:
    """Rewards of the replies to one prompt against each other."""

    @settings(max_examples=25, deadline=None)
    @given(seeds, st.integers(1, 4), st.integers(2, 6))
    def test_leave_one_out_compares_with_the_mean_of_the_others(self, seed, groups, size):
        totals = _totals(seed, groups, size)
        wanted = []
        for row in range(len(totals)):
            first = row // size * size
            others = [totals[other].item() for other in range(first, first + size) if other != row]
            wanted.append(totals[row].item() - sum(others) / (size - 1))
        found = leave_one_out(totals, size)
        torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64))
        means = totals.view(-1, size).mean(1).repeat_interleave(size)
        torch.testing.assert_close(found, size / (size - 1) * (totals - means))

    @settings(max_examples=25, deadline=None)
    @given(seeds, st.integers(1, 4), st.integers(2, 6))
    def test_group_normalised_is_in_standard_deviations_of_the_group(self, seed, groups, size):
        totals = _totals(seed, groups, size)
        found = group_normalised(totals, size)
        for first in range(0, len(totals), size):
            own = totals[first : first + size]
            wanted = (own - own.mean()) / (own.std(correction=1) + 1e-4)
            torch.testing.assert_close(found[first : first + size], wanted)

    @pytest.mark.parametrize("compared", [group_normalised, leave_one_out])
    @settings(max_examples=25, deadline=None)
    @given(seed=seeds, shift=st.floats(-100, 100), scale=st.floats(0.1, 10))
    def test_a_shift_of_all_rewards_changes_nothing_and_a_scale_little_or_all(self, compared, seed, shift, scale):
        totals = _totals(seed, 3, 4)
        plain = compared(totals, 4)
        torch.testing.assert_close(compared(totals + shift, 4), plain, rtol=1e-8, atol=1e-9)
        scaled = compared(scale * totals, 4)
        if compared is leave_one_out:
            torch.testing.assert_close(scaled, scale * plain)
        else:
            # But for the 1e-4 beside the standard deviation.
            spread = totals.view(-1, 4).std(1).min().item() * min(scale, 1)
            torch.testing.assert_close(scaled, plain, rtol=2e-4 / spread, atol=0)

    @pytest.mark.parametrize("compared", [group_normalised, leave_one_out])
    @settings(max_examples=25, deadline=None)
    @given(seed=seeds, data=st.data())
    def test_the_order_of_replies_and_of_groups_does_not_matter(self, compared, seed, data):
        totals = _totals(seed, 3, 4)
        groups = data.draw(st.permutations(range(3)))
        rows = torch.tensor([4 * group + row for group in groups for row in data.draw(st.permutations(range(4)))])
        torch.testing.assert_close(compared(totals[rows], 4), compared(totals, 4)[rows])

    @pytest.mark.parametrize("compared", [group_normalised, leave_one_out])
    @pytest.mark.parametrize("reward", [0.0, 0.1, -3.7])
    def test_equal_rewards_give_no_one_an_advantage(self, compared, reward):
        found = compared(torch.full((6,), reward), 3)
        assert found.abs().max() < 1e-3 if compared is group_normalised else found.abs().max() < 1e-6
        assert compared(torch.full((6,), reward, dtype=torch.float64), 3).abs().max() < 1e-10

    @pytest.mark.parametrize(("rows", "size"), [(6, 4), (3, 1), (2, 3)])
    def test_rows_that_form_no_groups_are_refused(self, rows, size):
        for compared in (group_normalised, leave_one_out):
            with pytest.raises(ValueError, match=f"{rows} replies do not form groups of {size}"):
                compared(torch.zeros(rows), size)


class TestCredit:
    """One entry for all kinds."""

    def test_gae_has_advantages_and_what_the_critic_learns(self):
        mask, rewards, values, *_ = _random(1)
        advantages, returns = token_credit("gae", rewards, values, mask, gamma=0.9, lam=0.8)
        wanted = gae(rewards, values, mask, 0.9, 0.8)
        assert torch.equal(advantages, wanted[0])
        assert torch.equal(returns, wanted[1])

    def test_returns_are_the_discounted_reward_to_go(self):
        rewards = torch.tensor([[1.0, 2.0, 4.0], [8.0, 0.0, 0.0]])
        advantages, returns = token_credit("returns", rewards, None, MASK, gamma=0.5, lam=0.3)
        assert advantages.tolist() == [[3, 4, 4], [8, 0, 0]]
        assert returns is None

    @pytest.mark.parametrize(("kind", "compared"), [("group", group_normalised), ("leave_one_out", leave_one_out)])
    def test_all_tokens_of_a_reply_share_what_the_group_gives_it(self, kind, compared):
        mask, rewards, *_ = _random(2, rows=6)
        advantages, returns = token_credit(kind, rewards, None, mask, replies_per_prompt=3)
        totals = torch.where(mask, rewards, 0.0).sum(1)
        wanted = torch.where(mask, compared(totals, 3)[:, None].expand(mask.shape), 0.0)
        torch.testing.assert_close(advantages, wanted)
        assert returns is None

    @pytest.mark.parametrize("kind", ["gae", "group", "leave_one_out", "returns"])
    def test_whitening_comes_last_and_leaves_the_returns_alone(self, kind):
        mask, rewards, values, *_ = _random(3, rows=6)
        arguments = {"replies_per_prompt": 3, "gamma": 0.9, "lam": 0.7}
        plain = token_credit(kind, rewards, values, mask, **arguments)
        whitened = token_credit(kind, rewards, values, mask, whitened=True, **arguments)
        assert torch.equal(whitened[0], whiten(plain[0], mask))
        assert kind != "gae" or torch.equal(whitened[1], plain[1])

    @pytest.mark.parametrize("kind", ["group", "leave_one_out", "returns"])
    def test_equal_rewards_whiten_to_nothing(self, kind):
        mask = torch.ones(6, 1, dtype=torch.bool)
        advantages, _ = token_credit(kind, torch.full((6, 1), 0.5), None, mask, replies_per_prompt=3, whitened=True)
        assert not advantages.any()

    def test_gae_without_a_critic_and_kinds_unheard_of_are_refused(self):
        zeros = torch.zeros(2, 3)
        with pytest.raises(ValueError, match="needs a critic's values"):
            token_credit("gae", zeros, None, MASK)
        with pytest.raises(ValueError, match="no credit vine; there are gae, group, leave_one_out and returns"):
            token_credit("vine", zeros, zeros, MASK)


class TestWhitening:
    """Mean 0 and variance 1 over the tokens that count."""

    def test_mean_and_variance_where_they_count(self):
        mask, values, *_ = _random(4)
        whitened = whiten(3 + 10 * values, mask)
        assert whitened[mask].mean().item() == pytest.approx(0, abs=1e-12)
        assert whitened[mask].var(correction=0).item() == pytest.approx(1, abs=1e-8)
        assert not whitened[~mask].any()

    @settings(max_examples=25, deadline=None)
    @given(seeds, st.floats(-100, 100), st.floats(0.1, 100))
    def test_shift_and_scale_do_not_count(self, seed, shift, scale):
        mask, values, *_ = _random(seed, rows=8)
        # Against a variance of about 1, 1e-8 is nothing; against that of a scale of .1 it is a millionth.
        torch.testing.assert_close(whiten(shift + scale * values, mask), whiten(values, mask), rtol=1e-4, atol=1e-8)

    def test_equal_values_become_zero(self):
        assert whiten(torch.full((2, 3), 4.0), MASK).abs().max() == 0


def test_what_lies_behind_a_reply_changes_nothing():
    mask, rewards, values, noise, scores = _random(3)
    garbage = torch.where(mask, 0.0, noise * 1e6 + float("nan"))
    for kind in ("gae", "returns", "group", "leave_one_out"):
        plain = token_credit(kind, rewards[:4], values[:4], mask[:4], gamma=0.9, lam=0.8, replies_per_prompt=2)
        others = (rewards[:4] + garbage[:4], values[:4] + garbage[:4])
        disturbed = token_credit(kind, *others, mask[:4], gamma=0.9, lam=0.8, replies_per_prompt=2)
        for one, other in zip(plain, disturbed, strict=True):
            assert one is other is None or torch.equal(one, other)
    assert torch.equal(whiten(rewards, mask), whiten(rewards + garbage, mask))
    assert torch.equal(
        token_rewards(scores, rewards, [(1.0, values)], mask, 0.2),
        token_rewards(scores, rewards + garbage, [(1.0, values - garbage)], mask, 0.2),
    )
