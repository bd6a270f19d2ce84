"""Mean reward of replies to fixed prompts: each reply has its own noise and its own reward, whatever the batches."""

import math
import os
import signal

import pytest
import torch

from salsa.models.sequences import pack
from salsa.rl.responder import Responder, respond
from salsa.rl.rewards import usual_reward
from salsa.rl.validation import MeanReward, Rewards, mean_reward
from salsa.training.interruption import Interrupted
from tests.rl.tiny import EOS, PAD, causal, in_float64, scalar, texts

pytestmark = pytest.mark.filterwarnings("ignore:.*predict_dataloader.*", "ignore:GPU available but not used.*")


def responder(prompts, model=None, **changes):
    settings = {"eos": EOS, "pad": PAD, "max_new_tokens": 10, "temperature": 1.0, "seed": 3} | changes
    return Responder(in_float64(model or causal()), prompts, **settings)


def lengths(rows, replies):
    return [len(reply.ids) for reply in replies]


def measure(one, score=lengths, batch_prompts=128, **keywords):
    return mean_reward(Rewards(one, score, batch_prompts), accelerator="cpu", **keywords)


@pytest.mark.parametrize("batch_prompts", [1, 4, 128])
def test_the_rewards_are_those_of_the_responders_replies_in_the_order_of_the_prompts(batch_prompts):
    prompts = texts(0, 11)
    asked = {}

    def score(rows, replies):
        asked.update(zip(rows, replies, strict=True))
        return [100 * row + len(reply.ids) for row, reply in zip(rows, replies, strict=True)]

    found = measure(responder(prompts), score, batch_prompts)
    replies = respond(responder(prompts), accelerator="cpu")
    assert [asked[row] for row in range(11)] == replies
    assert found.rewards == tuple(100 * row + len(reply.ids) for row, reply in enumerate(replies))
    assert found.mean == pytest.approx(sum(found.rewards) / 11)


def test_a_reward_model_scores_through_it_as_by_itself():
    prompts, model = texts(0, 7), in_float64(scalar(seed=1))
    reward = usual_reward(model, mean=0.2, std=0.5, missing_end_score=-1.0)

    def score(rows, replies):
        sequences = pack([prompts[row] for row in rows], [reply.ids for reply in replies], PAD)
        return reward.rewards(sequences, torch.tensor([reply.ended for reply in replies])).tolist()

    found = measure(responder(prompts), score, batch_prompts=3)
    replies = respond(responder(prompts), accelerator="cpu")
    assert found.rewards == pytest.approx(score(range(7), replies))
    assert any(reward == -1 for reward in found.rewards) == any(not reply.ended for reply in replies)


def test_two_models_are_compared_with_common_random_numbers():
    """Nearly equal models, one seed: most replies are the same. With another seed they are not."""
    prompts, model = texts(0, 40), causal()
    moved = causal()
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.mul_(1.001)

    def identity(rows, replies):
        return [hash(tuple(reply.ids)) % 10_000 for reply in replies]

    first, second = (measure(responder(prompts, one), identity).rewards for one in (model, moved))
    other = measure(responder(prompts, model, seed=4), identity).rewards
    alike = sum(a == b for a, b in zip(first, second, strict=True))
    assert alike > 30
    assert sum(a == b for a, b in zip(first, other, strict=True)) < alike - 10


def test_progress_counts_the_prompts():
    told = []
    measure(responder(texts(0, 5)), batch_prompts=2, progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_the_mean_is_over_prompts():
    assert MeanReward((1.0, 2.0, 6.0)).mean == 3.0


@pytest.mark.parametrize("given", [[1.0], [1.0, 2.0, 3.0], [1.0, math.nan], [math.inf, 0.0]])
def test_a_score_that_is_not_one_finite_number_a_reply_is_refused(given):
    with pytest.raises(ValueError, match=r"2 replies need a finite reward each, got \["):
        measure(responder(texts(0, 2)), lambda rows, replies: given)


def test_no_prompts_have_no_mean():
    with pytest.raises(ValueError, match="needs at least one prompt"):
        Rewards(responder([]), lengths)


def test_an_iterator_that_ends_inside_the_scoring_is_an_error():
    scores = iter([1.0, 2.0])
    with pytest.raises(RuntimeError, match="batch 2 of 3 ran into the end of an iterator"):
        measure(responder(texts(0, 3)), lambda rows, replies: [next(scores)], batch_prompts=1)


def test_sigterm_ends_the_sampling():
    told = []

    def progress(done, total):
        told.append(done)
        if len(told) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="after 2 of 5 rows"):
        measure(responder(texts(0, 5)), batch_prompts=2, progress=progress)
    assert told == [2]


def test_nothing_is_printed(capfd):
    measure(responder(texts(0, 3)))
    assert capfd.readouterr() == ("", "")
