import pytest
import torch

from salsa.models.scoring import sequence_scores
from salsa.models.sequences import pack
from salsa.rl.rewards import RewardScorer
from tests.rl.tiny import PAD, replies, scalar, texts

SEQUENCES = pack(texts(0, 4), replies(1, 4), PAD)


@torch.no_grad()
def test_scores_are_normalised_and_replies_without_end_get_the_fixed_one():
    scorer = RewardScorer(scalar(), mean=0.5, std=2.0, missing_end_score=-1.0)
    raw = sequence_scores(scalar(), SEQUENCES)
    torch.testing.assert_close(scorer.scores(SEQUENCES), (raw - 0.5) / 2)
    rewards = scorer.rewards(SEQUENCES, torch.tensor([True, False, True, False]))
    torch.testing.assert_close(rewards[[0, 2]], (raw[[0, 2]] - 0.5) / 2)
    assert rewards[[1, 3]].tolist() == [-1, -1]


def test_the_model_is_frozen():
    model = scalar().train()
    RewardScorer(model, 0.0, 1.0, -1.0)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_reward_model_without_spread_is_refused():
    with pytest.raises(ValueError, match=r"standard deviation of 0\.0"):
        RewardScorer(scalar(), 0.0, 0.0, -1.0)
