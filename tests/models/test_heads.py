import pytest
import torch
from transformers import AutoModelForSequenceClassification

from salsa.models.families import load_scalar, save
from salsa.models.heads import critic_from_reward, reward_from_causal
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
