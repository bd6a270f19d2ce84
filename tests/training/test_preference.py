import math

import pytest
import torch

from salsa.models.heads import reward_from_causal
from salsa.models.scoring import sequence_scores
from salsa.models.sequences import pack
from salsa.training.batches import batch_indices
from salsa.training.optimiser import OptimiserSettings
from salsa.training.preference import RewardModeling, collate_pairs, pair_scores
from tests.models.tiny import ARCHITECTURES, causal
from tests.training.resuming import left_behind, train


def make_pairs(count: int) -> list[dict[str, list[int]]]:
    """Pairs of which the chosen reply ends sooner and the rejected one says word 14."""
    generator = torch.Generator().manual_seed(0)

    def words(least, most):
        length = int(torch.randint(least, most, (), generator=generator))
        return torch.randint(3, 14, (length,), generator=generator).tolist()

    return [
        {"prompt": [1, *words(1, 5)], "chosen": [*words(1, 4), 2], "rejected": [*words(1, 6), 14, 2]}
        for _ in range(count)
    ]


def margins(model, batch):
    """Score of chosen - score of rejected of each pair."""
    chosen, rejected = sequence_scores(model, batch).view(2, -1).tolist()
    return [one - other for one, other in zip(chosen, rejected, strict=True)]


@pytest.mark.parametrize("family", list(ARCHITECTURES))
def test_the_loss_is_that_of_bradley_and_terry_on_last_tokens(family):
    # Mistral's window of 4 positions is shorter than these prompts and replies.
    model = reward_from_causal(causal(family, **({"sliding_window": 4} if family == "mistral" else {})), head_seed=1)
    pairs = make_pairs(6)
    losses, expected, right = [], [], 0
    for pair in pairs:
        # One row at a time and without padding, the library's own forward pass scores the last token.
        with torch.no_grad():
            chosen, rejected = (
                model(torch.tensor([pair["prompt"] + pair[side]])).logits.item() for side in ("chosen", "rejected")
            )
        losses.append(math.log1p(math.exp(rejected - chosen)))
        expected.append(chosen - rejected)
        right += chosen > rejected
    module = RewardModeling(model, OptimiserSettings(0.01), steps=1)
    loss, metrics = module.loss(collate_pairs(pairs, pad=0))
    assert loss.item() == pytest.approx(sum(losses) / 6, rel=1e-5)
    assert metrics["accuracy"].item() == pytest.approx(right / 6)
    assert margins(model, collate_pairs(pairs, pad=0)) == pytest.approx(expected, abs=1e-5)


def test_a_batch_holds_all_chosen_then_all_rejected_replies():
    pairs = [
        {"prompt": [1, 5], "chosen": [6, 2], "rejected": [7]},
        {"prompt": [1], "chosen": [8], "rejected": [9, 9, 2]},
    ]
    batch = collate_pairs(pairs, pad=0)
    assert batch.ids.tolist() == [[1, 5, 6, 2], [1, 8, 0, 0], [1, 5, 7, 0], [1, 9, 9, 2]]
    assert batch.prompt_lengths.tolist() == [2, 1, 2, 1]
    assert batch.reply_lengths.tolist() == [2, 1, 1, 3]
    with pytest.raises(ValueError, match="every prompt needs one reply, got 0 prompts"):
        collate_pairs([], pad=0)


@pytest.mark.parametrize("family", list(ARCHITECTURES))
def test_reading_a_prompt_once_for_both_replies_changes_no_score(family):
    # A window of 4 positions is shorter than these prompts and replies.
    model = reward_from_causal(causal(family, **({"sliding_window": 4} if family == "mistral" else {})), head_seed=1)
    odd = [{"prompt": [1, 5], "chosen": [], "rejected": [6]}, {"prompt": [1, 7, 3], "chosen": [8], "rejected": []}]
    batch = collate_pairs([*make_pairs(20), *odd], pad=0)
    torch.testing.assert_close(pair_scores(model, batch).flatten(), sequence_scores(model, batch), rtol=0, atol=1e-5)


def test_replies_to_different_prompts_are_no_pair():
    model = reward_from_causal(causal(), head_seed=1)
    for prompts in ([[1, 5], [1, 6]], [[1, 5], [1]]):
        with pytest.raises(ValueError, match="not to the same prompts"):
            pair_scores(model, pack(prompts, [[7, 2], [8, 2]], pad=0))


def test_models_that_mix_kinds_of_attention_are_refused():
    model = reward_from_causal(causal(), head_seed=1)
    model.config.layer_types = ["full_attention", "sliding_attention"]
    with pytest.raises(ValueError, match="mixes kinds of attention"):
        RewardModeling(model, OptimiserSettings(0.01), steps=1)


def test_equal_scores_cost_ln_2_and_are_not_right():
    model = reward_from_causal(causal(), head_seed=1)
    with torch.no_grad():
        model.score.weight.zero_()
    loss, metrics = RewardModeling(model, OptimiserSettings(0.01), 1).loss(collate_pairs(make_pairs(4), pad=0))
    assert loss.item() == pytest.approx(math.log(2))
    assert metrics["accuracy"].item() == 0


def test_a_reward_model_learns_what_is_preferred_and_resumes_bit_for_bit(tmp_path):
    pairs = make_pairs(40)
    held_out = collate_pairs(make_pairs(60)[40:], pad=0)
    steps = 30

    def make_module():
        model = reward_from_causal(causal(), head_seed=1)
        return RewardModeling(model, OptimiserSettings(0.01, "linear", final_fraction=0.1), steps)

    def make_batch(step):
        return collate_pairs([pairs[row] for row in batch_indices(0, step, 8, len(pairs))], pad=0)

    module = train(make_module, make_batch, steps, tmp_path / "whole", every=10)
    whole = left_behind(module, tmp_path / "whole")
    killed = left_behind(train(make_module, make_batch, steps, tmp_path / "killed", [7, 25], 10), tmp_path / "killed")
    assert killed == whole
    assert sum(margin > 0 for margin in margins(module.model, held_out)) > 0.9 * 20
    assert whole["latest"]["accuracy"] > 0.8
