import pytest
import torch

from salsa.models.heads import ValueHead
from salsa.models.layout import layouts
from salsa.models.scoring import (
    reply_logps,
    reply_values,
    sequence_scores,
    token_logps,
    token_logps_and_values,
    token_values,
)
from salsa.models.sequences import Sequences, pack, reply_mask
from salsa.rl.objectives import token_loss, value_loss
from tests.rl.tiny import FAMILIES, PAD, WINDOW, WORDS, causal, in_float64, replies, scalar, texts

ROWS = 9
EXACT = {"atol": 1e-10, "rtol": 0}


@pytest.fixture(scope="module")
def sequences():
    return pack(texts(0, ROWS), replies(1, ROWS), PAD)


def _alone(model, sequences, row):
    """Backbone output of one row by itself, the plainest call there is."""
    length = int(sequences.prompt_lengths[row] + sequences.reply_lengths[row])
    return sequences.ids[row : row + 1, :length], model(sequences.ids[row : row + 1, :length])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@torch.no_grad()
def test_log_probabilities_and_entropies_are_those_of_the_whole_model(family, temperature, sequences):
    model = in_float64(causal(family))
    logps, entropies = reply_logps(model, sequences, temperature, entropy=True, max_tokens=50)
    for row in range(ROWS):
        ids, output = _alone(model, sequences, row)
        begin, length = int(sequences.prompt_lengths[row]), int(sequences.reply_lengths[row])
        wanted = (output.logits[0, begin - 1 : -1] / temperature).log_softmax(-1)
        tokens = wanted.gather(1, ids[0, begin:, None])[:, 0]
        torch.testing.assert_close(logps[row, :length], tokens, **EXACT)
        torch.testing.assert_close(entropies[row, :length], -(wanted.exp() * wanted).sum(-1), **EXACT)
    mask = reply_mask(sequences)
    assert not logps[~mask].any()
    assert not entropies[~mask].any()


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_values_and_scores_are_those_of_the_whole_model(family, sequences):
    model = in_float64(scalar(family))
    values, scores = reply_values(model, sequences, max_tokens=50), sequence_scores(model, sequences, max_tokens=50)
    for row in range(ROWS):
        ids, output = _alone(model, sequences, row)
        begin, length = int(sequences.prompt_lengths[row]), int(sequences.reply_lengths[row])
        every = model.score(model.model(ids).last_hidden_state)[0, :, 0]
        torch.testing.assert_close(values[row, :length], every[begin - 1 : -1], **EXACT)
        torch.testing.assert_close(scores[row], every[-1], **EXACT)
        # The library's own pooling agrees.
        torch.testing.assert_close(scores[row], output.logits[0, 0], **EXACT)


@torch.no_grad()
def test_the_sliding_window_of_the_test_model_matters(sequences):
    assert (sequences.prompt_lengths + sequences.reply_lengths).max() > 2 * WINDOW
    narrow = causal("mistral")
    wide = causal("mistral", sliding_window=None)
    wide.load_state_dict(narrow.state_dict())
    assert (reply_logps(narrow, sequences)[0] - reply_logps(wide, sequences)[0]).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_right_padded_rows_need_no_mask(family, sequences):
    model = in_float64(causal(family))
    padded = model(sequences.ids, attention_mask=None, use_cache=False).logits
    for row in range(ROWS):
        ids, output = _alone(model, sequences, row)
        torch.testing.assert_close(padded[row, : ids.shape[1]], output.logits[0], **EXACT)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_neither_padding_nor_parts_nor_company_change_anything(family, sequences):
    model, critic = in_float64(causal(family)), in_float64(scalar(family))
    garbage = torch.randint(0, WORDS, (ROWS, 7), generator=torch.Generator().manual_seed(3))
    behind = torch.arange(sequences.ids.shape[1]) >= (sequences.prompt_lengths + sequences.reply_lengths)[:, None]
    dirty = torch.cat([torch.where(behind, 5, sequences.ids), garbage], 1)
    variants = [(Sequences(dirty, *sequences[1:]), 10_000, torch.arange(ROWS))]
    variants += [(sequences, tokens, torch.arange(ROWS)) for tokens in (1, 40, 100)]
    order = torch.tensor([4, 1, 7, 0, 3, 8, 2, 6, 5])
    variants += [(Sequences(*(field[order] for field in sequences)), 60, order)]
    plain = [reply_logps(model, sequences)[0], reply_values(critic, sequences), sequence_scores(critic, sequences)]
    for other, tokens, rows in variants:
        for wanted, found in zip(
            plain,
            [
                reply_logps(model, other, max_tokens=tokens)[0],
                reply_values(critic, other, max_tokens=tokens),
                sequence_scores(critic, other, max_tokens=tokens),
            ],
            strict=True,
        ):
            torch.testing.assert_close(found, wanted[rows], **EXACT)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_on_the_trunk_gives_both_in_one_pass_and_the_trunk_the_gradients_of_both(family, sequences):
    policy, (part,) = in_float64(causal(family)), layouts(sequences, 10_000)
    critic = in_float64(scalar(family))
    critic.model.load_state_dict(policy.model.state_dict())
    head = ValueHead(policy)
    with torch.no_grad():
        head.score.weight.copy_(critic.score.weight)
    logps, values = token_logps_and_values(policy, head.score, part, 0.7)
    torch.testing.assert_close(logps, token_logps(policy, part, 0.7), **EXACT)
    torch.testing.assert_close(values, token_values(critic, part), **EXACT)
    weight = policy.model.layers[0].mlp.up_proj.weight
    (both,) = torch.autograd.grad(logps.sum() + values.square().sum(), weight)
    (of_logps,) = torch.autograd.grad(token_logps(policy, part, 0.7).sum(), weight)
    (of_values,) = torch.autograd.grad(
        token_values(critic, part).square().sum(), critic.model.layers[0].mlp.up_proj.weight
    )
    torch.testing.assert_close(both, of_logps + of_values, **EXACT)


def test_half_precision_models_give_float32():
    sequences = pack([[1, 5]], [[6, 2]], PAD)
    logps, _ = reply_logps(causal().bfloat16(), sequences)
    assert logps.dtype == torch.float32


def test_a_temperature_of_zero_has_no_log_probabilities():
    with pytest.raises(ValueError, match="positive temperature, got 0"):
        reply_logps(causal(), pack([[1]], [[2]], PAD), 0.0)


def test_models_that_change_logits_behind_the_head_are_refused():
    model = causal()
    model.config.final_logit_softcapping = 30.0
    with pytest.raises(ValueError, match="final_logit_softcapping"):
        reply_logps(model, pack([[1]], [[2]], PAD))


def _noise(sequences):
    """Four made-up tables: what the old policy differs by, advantages, old values, returns."""
    generator = torch.Generator().manual_seed(5)
    return torch.randn(4, reply_mask(sequences).numel(), generator=generator, dtype=torch.float64)


@torch.no_grad()
def _old_logps(policy, sequences):
    return reply_logps(policy, sequences)[0].flatten() + 0.3 * _noise(sequences)[0]


def _loss(policy, critic, sequences, old_logps, max_tokens):
    """PPO's two losses of a batch, as the trainer forms them from parts."""
    total, (_, advantages, old_values, returns) = int(sequences.reply_lengths.sum()), _noise(sequences)
    loss = 0.0
    for part in layouts(sequences, max_tokens):
        cells = part.cells
        logps = token_logps(policy, part)
        loss += token_loss("ppo_clip", logps, old_logps[cells], [], advantages[cells]).losses.sum() / total
        loss += value_loss(token_values(critic, part), old_values[cells], returns[cells], 0.2).losses.sum() / total
    return loss


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_finite_differences(family, sequences):
    policy, critic = in_float64(causal(family)), in_float64(scalar(family))
    parameters = [*policy.parameters(), *critic.parameters()]
    old_logps = _old_logps(policy, sequences)
    _loss(policy, critic, sequences, old_logps, 60).backward()
    generator = torch.Generator().manual_seed(0)
    direction = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
    slope = sum((p.grad * d).sum() for p, d in zip(parameters, direction, strict=True))
    size, sides = 1e-6, []
    with torch.no_grad():
        for move in (size, -2 * size):
            for parameter, step in zip(parameters, direction, strict=True):
                parameter += move * step
            sides.append(_loss(policy, critic, sequences, old_logps, 60))
    torch.testing.assert_close((sides[0] - sides[1]) / (2 * size), slope, rtol=1e-6, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_depend_neither_on_parts_nor_on_what_lies_behind_a_reply(family, sequences):
    policy, critic = in_float64(causal(family)), in_float64(scalar(family))
    behind = torch.arange(sequences.ids.shape[1]) >= (sequences.prompt_lengths + sequences.reply_lengths)[:, None]
    dirty = Sequences(torch.where(behind, 7, sequences.ids), *sequences[1:])
    gradients = []
    for variant, max_tokens in ((sequences, 10_000), (sequences, 1), (dirty, 45)):
        policy.zero_grad()
        critic.zero_grad()
        _loss(policy, critic, variant, _old_logps(policy, variant), max_tokens).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in [*policy.parameters(), *critic.parameters()]]))
    assert gradients[0].norm() > 0
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], **EXACT)
