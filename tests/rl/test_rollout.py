import pytest
import torch

from salsa.models.scoring import reply_logps
from salsa.models.sequences import reply_mask
from salsa.rl.rollout import choose, generate
from tests.rl.tiny import BOS, EOS, FAMILIES, PAD, WORDS, causal, in_float64, texts

MAX_NEW = 16


def _noise(rows, seed=0):
    return torch.rand(rows, MAX_NEW, generator=torch.Generator().manual_seed(seed))


def _roll_out(model, prompts, temperature=1.0, noise=None, **changes):
    settings = {"eos": EOS, "pad": PAD, "max_new": MAX_NEW, "temperature": temperature} | changes
    return generate(model, prompts, noise=_noise(len(prompts)) if noise is None else noise, **settings)


def _tokens(rollout):
    ids, begins, lengths = (field.tolist() for field in rollout.sequences)
    return [row[begin : begin + length] for row, begin, length in zip(ids, begins, lengths, strict=True)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@torch.no_grad()
def test_log_probabilities_collected_on_the_way_are_those_of_scoring(family, temperature):
    model = causal(family)
    rollout = _roll_out(model, texts(0, 24), temperature)
    logps, entropies = reply_logps(model, rollout.sequences, temperature, entropy=True)
    torch.testing.assert_close(rollout.logps, logps, atol=1e-5, rtol=0)
    torch.testing.assert_close(rollout.entropies, entropies, atol=1e-5, rtol=0)
    # The rows were of all kinds: ended and cut, of many lengths.
    assert 0 < rollout.ended.float().mean() < 1
    assert len(rollout.sequences.reply_lengths.unique()) > 4


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_greedy_replies_equal_those_of_the_library(family):
    # Large weights, so that replies differ and some of them end.
    model = in_float64(causal(family, seed=3, spread=0.4))
    prompts = texts(1, 32)
    width = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    theirs = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=MAX_NEW)[:, width:].tolist()
    ours = _roll_out(model, prompts, temperature=0.0)
    for row, tokens in enumerate(_tokens(ours)):
        assert tokens == theirs[row][: len(tokens)]
        assert set(theirs[row][len(tokens) :]) <= {PAD}
    assert len({tuple(tokens) for tokens in _tokens(ours)}) > 8
    assert ours.ended.any()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reply_does_not_depend_on_its_batch(family):
    model, prompts, noise = in_float64(causal(family)), texts(2, 12), _noise(12, seed=1)
    together = _roll_out(model, prompts, noise=noise)
    for row, tokens in enumerate(_tokens(together)):
        alone = _roll_out(model, [prompts[row]], noise=noise[row : row + 1])
        assert _tokens(alone) == [tokens]
        torch.testing.assert_close(alone.logps[0], together.logps[row, : len(tokens)], atol=1e-10, rtol=0)
        assert alone.ended[0] == together.ended[row]
    few_at_once = _roll_out(model, prompts, noise=noise, max_tokens=1)
    assert _tokens(few_at_once) == _tokens(together)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    shuffled = _roll_out(model, [prompts[row] for row in order], noise=noise[order])
    assert _tokens(shuffled) == [_tokens(together)[row] for row in order]


def test_a_reply_stops_at_its_first_end_token():
    rollout = _roll_out(causal(), texts(0, 40))
    for tokens, ended in zip(_tokens(rollout), rollout.ended.tolist(), strict=True):
        assert EOS not in tokens[:-1]
        assert ended == (tokens[-1] == EOS)
        assert ended or len(tokens) == MAX_NEW
    mask = reply_mask(rollout.sequences)
    assert mask.shape == rollout.logps.shape == rollout.entropies.shape
    assert (rollout.logps[mask] < 0).all()
    assert not rollout.logps[~mask].any()
    longest = int((rollout.sequences.prompt_lengths + rollout.sequences.reply_lengths).max())
    assert rollout.sequences.ids.shape[1] == longest


def test_an_end_token_in_the_last_place_counts_as_ended():
    prompts = texts(0, 60)
    free = _roll_out(causal(), prompts)
    length = int(free.sequences.reply_lengths[free.ended].max())
    cut = _roll_out(causal(), prompts, noise=_noise(60)[:, :length], max_new=length)
    assert torch.equal(cut.ended, free.ended & (free.sequences.reply_lengths <= length))
    assert (cut.sequences.reply_lengths[cut.ended] == length).any()


def test_prompts_stay_as_they_are():
    prompts = texts(3, 10)
    rollout = _roll_out(causal(), prompts)
    assert [row[: len(prompt)].tolist() for row, prompt in zip(rollout.sequences.ids, prompts, strict=True)] == prompts


def test_a_rollout_can_take_part_in_gradients():
    rollout = _roll_out(causal(), texts(0, 3))
    weight = torch.ones((), requires_grad=True)
    (weight * rollout.logps).sum().backward()
    assert weight.grad.item() == pytest.approx(rollout.logps.sum().item())


def test_attention_that_does_not_take_a_ready_mask_gives_the_same_replies():
    prompts = texts(4, 10)
    plain, eager = causal(), causal()
    eager.set_attn_implementation("eager")
    assert _tokens(_roll_out(plain, prompts)) == _tokens(_roll_out(eager, prompts))


@pytest.mark.parametrize(
    ("prompts", "noise", "message"),
    [
        ([], torch.zeros(0, 4), "at least one prompt"),
        ([[1], []], torch.zeros(2, 4), "at least one token"),
        ([[1]], torch.zeros(2, 4), r"shape \(1, 4\), got \(2, 4\)"),
    ],
)
def test_what_cannot_be_replied_to_is_refused(prompts, noise, message):
    with pytest.raises(ValueError, match=message):
        generate(causal(), prompts, eos=EOS, pad=PAD, max_new=4, temperature=1.0, noise=noise)


class TestChoosing:
    """Sampling by the inverse of the distribution function."""

    def test_words_are_drawn_in_proportion_to_their_probability(self):
        logits = torch.randn(1, WORDS, generator=torch.Generator().manual_seed(0))
        grid = (torch.arange(100_000) + 0.5) / 100_000
        tokens, logps, entropies = choose(logits.expand(len(grid), -1), 0.8, grid)
        probabilities = (logits[0] / 0.8).softmax(-1)
        torch.testing.assert_close(tokens.bincount(minlength=WORDS) / len(grid), probabilities, atol=2e-5, rtol=0)
        torch.testing.assert_close(logps, probabilities.log()[tokens])
        assert entropies[0].item() == pytest.approx(-(probabilities * probabilities.log()).sum().item(), rel=1e-5)

    @pytest.mark.parametrize("uniform", [0.0, 0.3, 0.5, 1 - 2**-24])
    def test_a_word_of_probability_zero_is_never_drawn(self, uniform):
        never = float("-inf")
        logits = torch.tensor([[never, 0.0, never, 0.0, never, never]])
        token, logp, entropy = choose(logits, 1.0, torch.tensor([uniform]))
        assert token.item() == (1 if uniform < 0.5 else 3)
        assert logp.item() == pytest.approx(-0.6931, abs=1e-4)
        assert entropy.item() == pytest.approx(0.6931, abs=1e-4)

    @pytest.mark.parametrize("words", [4000, 50_000])
    def test_sums_that_stop_short_of_one_still_give_a_word(self, words):
        logits = torch.randn(64, words, generator=torch.Generator().manual_seed(0))
        tokens, logps, _ = choose(logits, 1.0, torch.full((64,), 1 - 2**-24))
        assert (tokens < words).all()
        assert torch.isfinite(logps).all()

    def test_rare_words_of_a_large_vocabulary_keep_their_share(self):
        # 100,000 equal words: float32 sums would be off by more than the last of them.
        words = 100_000
        grid = torch.tensor([0.25, 0.5, 0.75, 0.999])
        tokens, _, _ = choose(torch.zeros(4, words), 1.0, grid)
        assert ((tokens / words - grid).abs() < 2 / words).all()

    def test_temperature_zero_takes_the_likeliest_word(self):
        logits = torch.tensor([[0.0, 2.0, 1.0]])
        token, logp, _ = choose(logits, 0.0, torch.tensor([0.999]))
        assert token.item() == 1
        assert logp.item() == pytest.approx(logits.log_softmax(-1)[0, 1].item())


def test_prompts_of_one_length_need_no_mask():
    prompts = [[BOS, word, word] for word in range(3, 11)]
    model = in_float64(causal("mistral"))
    together = _roll_out(model, prompts)
    mixed = _roll_out(model, [*prompts, [BOS]], noise=torch.cat([_noise(8), _noise(1, seed=2)]))
    assert _tokens(together) == _tokens(mixed)[:8]
