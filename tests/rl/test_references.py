"""What the KL is measured to: frozen, moving, several at once."""

import copy

import pytest
import torch

from salsa.models.scoring import reply_logps
from salsa.models.sequences import pack
from salsa.rl.references import FrozenReference, MixtureReference, MovingReference
from tests.rl.tiny import PAD, causal, replies, texts

SEQUENCES = pack(texts(0, 5), replies(1, 5), PAD)


def _said(reference, temperature=1.0):
    return reference.token_logps(SEQUENCES, temperature)


def _moving(rate, every=1, model=None):
    return MovingReference(copy.deepcopy(model or causal()), "moving", rate=rate, every=every)


def _parameters(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_a_reference_scores_as_its_model_and_is_frozen():
    model = causal().train()
    reference = FrozenReference(model, "sft_1", max_tokens=30)
    ((weight, logps),) = _said(reference, 0.7)
    torch.testing.assert_close(logps, reply_logps(causal(), SEQUENCES, 0.7)[0].detach())
    assert weight == 1
    assert not logps.requires_grad
    assert not logps.is_inference()
    assert reference.identity == "sft_1"
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_frozen_reference_stays_whatever_the_policy_does():
    reference = FrozenReference(causal(), "sft_1")
    before = _parameters(reference.model)
    reference.follow(causal(seed=1), 1)
    assert all(torch.equal(before[name], now) for name, now in _parameters(reference.model).items())
    assert reference.state() == {}
    reference.load_state({})
    with pytest.raises(ValueError, match="holds a moving reference, but this training has a frozen one"):
        reference.load_state({"norm": torch.zeros(1)})


class TestMoving:
    """WARP's moving average and TR-DPO's updates."""

    @pytest.mark.parametrize("rate", [0.0, 0.05, 0.6, 1.0])
    def test_the_distance_to_a_standing_policy_shrinks_by_the_rate_each_time(self, rate):
        start, policy = causal(seed=0), causal(seed=1)
        reference = _moving(rate)
        for iterations in (1, 2, 3):
            reference.follow(policy, iterations)
        left = (1 - rate) ** 3
        for name, now in _parameters(reference.model).items():
            wanted = left * start.get_parameter(name) + (1 - left) * policy.get_parameter(name)
            torch.testing.assert_close(now, wanted.detach())

    def test_rate_zero_is_a_fixed_anchor(self):
        reference, frozen = _moving(0.0), FrozenReference(causal(), "start")
        reference.follow(causal(seed=1), 1)
        assert torch.equal(_said(reference)[0][1], _said(frozen)[0][1])

    def test_rate_one_is_the_policy_itself_right_after_each_update(self):
        reference = _moving(1.0)
        for seed in (1, 2):
            policy = causal(seed=seed)
            reference.follow(policy, seed)
            assert torch.equal(_said(reference)[0][1], reply_logps(policy, SEQUENCES)[0].detach())

    def test_it_moves_only_when_it_is_time(self):
        reference, policy = _moving(0.5, every=3), causal(seed=1)
        moved = []
        for iterations in range(1, 8):
            before = _parameters(reference.model)
            reference.follow(policy, iterations)
            after = _parameters(reference.model)
            moved.append(not all(torch.equal(before[name], after[name]) for name in before))
        assert moved == [False, False, True, False, False, True, False]

    def test_it_neither_learns_nor_holds_on_to_the_policy(self):
        reference, policy = _moving(1.0), causal(seed=1)
        reference.follow(policy, 1)
        kept = _parameters(reference.model)
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter.add_(1)
        assert all(torch.equal(kept[name], now) for name, now in _parameters(reference.model).items())
        assert not any(parameter.requires_grad for parameter in reference.model.parameters())

    def test_small_rates_are_not_lost_in_low_precision(self):
        start, policy = causal(seed=0).bfloat16(), causal(seed=1).bfloat16()
        reference, exact = _moving(0.01, model=start), _moving(0.01, model=copy.deepcopy(start).float())
        rounded = copy.deepcopy(start)
        for iterations in range(1, 101):
            reference.follow(policy, iterations)
            exact.follow(policy, iterations)
            with torch.no_grad():
                for one, other in zip(rounded.parameters(), policy.parameters(), strict=True):
                    one.lerp_(other, 0.01)
        name = "model.layers.0.mlp.up_proj.weight"
        assert reference.model.get_parameter(name).dtype == torch.bfloat16
        assert torch.equal(reference.model.get_parameter(name), exact.model.get_parameter(name).bfloat16())
        # In bfloat16 alone most of the small steps would have been rounded away.
        target = exact.model.get_parameter(name)
        assert (rounded.get_parameter(name) - target).norm() > 5 * (reference.model.get_parameter(name) - target).norm()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_what_a_checkpoint_holds_brings_it_back(self, dtype):
        policy = causal(seed=1).to(dtype)
        reference, other = _moving(0.3, model=causal().to(dtype)), _moving(0.3, model=causal(seed=2).to(dtype))
        reference.follow(policy, 1)
        state = {name: tensor.clone() for name, tensor in reference.state().items()}
        assert all(tensor.dtype == torch.float32 for tensor in state.values())
        other.load_state(state)
        assert torch.equal(_said(reference)[0][1], _said(other)[0][1])
        for one in (reference, other):
            one.follow(policy, 2)
        assert torch.equal(_said(reference)[0][1], _said(other)[0][1])
        reference.to(torch.device("cpu"))
        reference.follow(policy, 3)
        other.follow(policy, 3)
        assert torch.equal(_said(reference)[0][1], _said(other)[0][1])

    def test_states_and_policies_of_other_models_are_refused(self):
        with pytest.raises(ValueError, match="other parameters"):
            _moving(0.3).load_state({})
        with pytest.raises(KeyError):
            _moving(0.3).follow(torch.nn.Linear(2, 2), 1)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [({"rate": -0.1}, "share"), ({"rate": 1.1}, "share"), ({"rate": 0.5, "every": 0}, "every 1")],
    )
    def test_rates_and_intervals_out_of_range_are_refused(self, wrong, message):
        with pytest.raises(ValueError, match=message):
            _moving(**wrong)


class TestMixture:
    """Several references at once."""

    def test_all_parts_speak_with_their_shares(self):
        parts = [FrozenReference(causal(seed=seed), f"model {seed}") for seed in (1, 2, 3)]
        inner = MixtureReference([(0.25, parts[1]), (0.75, parts[2])])
        mixture = MixtureReference([(0.2, parts[0]), (0.8, inner)])
        found = _said(mixture, 0.9)
        assert [weight for weight, _ in found] == pytest.approx([0.2, 0.2, 0.6])
        for (_, logps), part in zip(found, parts, strict=True):
            assert torch.equal(logps, _said(part, 0.9)[0][1])
        assert inner.identity == "0.25 x model 2 + 0.75 x model 3"

    def test_one_part_alone_is_that_part(self):
        part = FrozenReference(causal(), "one")
        ((weight, logps),) = _said(MixtureReference([(1.0, part)]))
        assert weight == 1
        assert torch.equal(logps, _said(part)[0][1])

    def test_moving_parts_move_and_come_back_from_a_checkpoint(self):
        def mixture():
            return MixtureReference([(0.5, FrozenReference(causal(seed=3), "frozen")), (0.5, _moving(0.5))])

        reference, other, policy = mixture(), mixture(), causal(seed=1)
        reference.follow(policy, 1)
        other.load_state({name: tensor.clone() for name, tensor in reference.state().items()})
        for (_, one), (_, two) in zip(_said(reference), _said(other), strict=True):
            assert torch.equal(one, two)
        assert not torch.equal(_said(reference)[1][1], _said(mixture())[1][1])

    @pytest.mark.parametrize("shares", [[], [0.5, 0.6], [1.5, -0.5], [1.0, 0.0]])
    def test_shares_that_are_not_positive_or_do_not_sum_to_one_are_refused(self, shares):
        part = FrozenReference(causal(), "one")
        with pytest.raises(ValueError, match="positive and sum to 1"):
            MixtureReference([(share, part) for share in shares])
