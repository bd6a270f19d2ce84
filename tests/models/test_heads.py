import pytest
import torch
from transformers import AutoModelForSequenceClassification

from salsa.models.families import load_scalar, save
from salsa.models.heads import TrunkCritic, ValueHead, critic_from_reward, reward_from_causal
from salsa.models.layout import layouts
from salsa.models.scoring import reply_logps, reply_values, token_logps_and_values
from salsa.models.sequences import pack
from tests.models.tiny import ARCHITECTURES, causal, tokenizer


@pytest.mark.parametrize("family", list(ARCHITECTURES))
def test_a_reward_model_has_the_backbone_of_its_language_model(family):
    language_model = causal(family)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    model = reward_from_causal(language_model, head_seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    ids = torch.tensor([[1, 4, 5, 6]])
    with torch.no_grad():
        hidden = language_model.model(ids).last_hidden_state
        expected = hidden[0, -1] @ model.score.weight[0]
        assert model(ids).logits.item() == pytest.approx(expected.item(), abs=1e-6)
        model.model.norm.weight.add_(1)
        assert torch.equal(language_model.model(ids).last_hidden_state, hidden)


def test_the_head_has_the_spread_of_stiennon_et_al():
    language_model = causal(hidden=1024, heads=4, head_dim=256, layers=1)
    first = reward_from_causal(language_model, head_seed=1).score.weight
    assert first.std().item() == pytest.approx(1025**-0.5, rel=0.1)
    assert torch.equal(first, reward_from_causal(language_model, head_seed=1).score.weight)
    assert not torch.equal(first, reward_from_causal(language_model, head_seed=2).score.weight)


@pytest.mark.parametrize("family", list(ARCHITECTURES))
def test_a_critic_starts_at_zero_and_leaves_its_reward_model_alone(family):
    reward = reward_from_causal(causal(family), head_seed=1)
    critic = critic_from_reward(reward)
    assert not critic.score.weight.any()
    assert reward.score.weight.any()
    assert torch.equal(critic.model.norm.weight, reward.model.norm.weight)
    with torch.no_grad():
        critic.model.norm.weight.add_(1)
    assert not torch.equal(critic.model.norm.weight, reward.model.norm.weight)


@pytest.mark.parametrize("family", list(ARCHITECTURES))
def test_a_saved_reward_model_loads_with_the_library_and_with_us(family, tmp_path):
    model = reward_from_causal(causal(family), head_seed=1)
    save(model, tokenizer(), tmp_path)
    ids = torch.tensor([[1, 4, 5, 0], [1, 4, 5, 6]])
    with torch.no_grad():
        expected = model(ids).logits
        assert torch.equal(load_scalar(tmp_path)(ids).logits, expected)
        theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path)
        assert torch.equal(theirs(ids).logits, expected)


class TestValueHead:
    """Values from the hidden states of a language model."""

    SEQUENCES = pack([[1, 4], [1, 5, 6]], [[7, 8, 2], [9, 2]], 0)

    @pytest.mark.parametrize("family", list(ARCHITECTURES))
    def test_first_values_are_zero(self, family):
        model = causal(family)
        head = ValueHead(model)
        assert [tuple(parameter.shape) for parameter in head.parameters()] == [(1, model.config.hidden_size)]
        assert not reply_values(TrunkCritic(model, head), self.SEQUENCES).any()

    def test_it_has_the_format_of_its_model(self):
        assert ValueHead(causal().double()).score.weight.dtype == torch.float64

    @pytest.mark.parametrize("family", list(ARCHITECTURES))
    def test_values_are_read_before_each_token_of_the_reply(self, family):
        model = causal(family)
        head = ValueHead(model)
        torch.nn.init.normal_(head.score.weight, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            values = reply_values(TrunkCritic(model, head), self.SEQUENCES)
            for row, (ids, begin, length) in enumerate(zip(*self.SEQUENCES, strict=True)):
                hidden = model.model(ids[None, : begin + length]).last_hidden_state[0, begin - 1 : -1]
                torch.testing.assert_close(values[row, :length], hidden @ head.score.weight[0])
        assert values[1, 2] == 0

    def test_the_critic_owns_neither_head_nor_policy(self):
        model = causal()
        critic = TrunkCritic(model, ValueHead(model))
        assert not isinstance(critic, torch.nn.Module)
        assert critic.device == model.device
        assert critic.base_model is model.base_model

    @pytest.mark.parametrize("family", list(ARCHITECTURES))
    def test_one_pass_gives_the_log_probabilities_and_values_of_two(self, family):
        model = causal(family)
        head = ValueHead(model)
        torch.nn.init.normal_(head.score.weight, generator=torch.Generator().manual_seed(0))
        (layout,) = layouts(self.SEQUENCES, 1000)
        logps, values = token_logps_and_values(model, head.score, layout, 0.7)
        torch.testing.assert_close(logps, reply_logps(model, self.SEQUENCES, 0.7)[0].flatten()[layout.cells])
        apart = reply_values(TrunkCritic(model, head), self.SEQUENCES).flatten()[layout.cells]
        torch.testing.assert_close(values, apart)

    def test_both_losses_reach_the_trunk(self):
        model = causal()
        head = ValueHead(model)
        torch.nn.init.normal_(head.score.weight, generator=torch.Generator().manual_seed(0))
        (layout,) = layouts(self.SEQUENCES, 1000)
        trunk = model.model.layers[0].mlp.up_proj.weight
        logps, values = token_logps_and_values(model, head.score, layout)
        apart = [torch.autograd.grad(each.sum(), trunk, retain_graph=True)[0] for each in (logps, values)]
        assert all(gradient.abs().max() > 1e-4 for gradient in apart)
        (together,) = torch.autograd.grad(logps.sum() + 0.3 * values.sum(), trunk)
        torch.testing.assert_close(together, apart[0] + 0.3 * apart[1])
