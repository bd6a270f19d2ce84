import math

import pytest
import torch

from salsa.models import head
from salsa.models.scoring import token_logps
from salsa.training.batches import batch_indices
from salsa.training.language import (
    LanguageModeling,
    OptimiserSettings,
    collate,
    next_word_accuracy,
    pack_documents,
    packed_batch,
    perplexity,
)
from salsa.training.loop import fit
from tests.models.tiny import ARCHITECTURES, causal
from tests.training.resuming import left_behind, train

FAMILIES = list(ARCHITECTURES)


def sequences(count: int, seed: int = 0) -> list[tuple[list[int], list[bool]]]:
    """Token ids and marks: a prompt that is not learned, a reply that is, some of them with two turns."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        length = int(torch.randint(3, 14, (), generator=generator))
        ids = torch.randint(3, 15, (length,), generator=generator).tolist()
        learned = (torch.rand(length, generator=generator) < 0.5).tolist()
        made.append(([1, *ids, 2], [False, *learned, True]))
    return made


def library_loss(model, rows):
    """The loss of the library's own models on right-padded rows with labels."""
    width = max(len(ids) for ids, _ in rows)
    ids, labels, attended = [], [], []
    for tokens, learned in rows:
        empty = width - len(tokens)
        ids.append([*tokens, *[0] * empty])
        labels.append([*(t if mark else -100 for t, mark in zip(tokens, learned, strict=True)), *[-100] * empty])
        attended.append([1] * len(tokens) + [0] * empty)
    ids, labels, attended = torch.tensor(ids), torch.tensor(labels), torch.tensor(attended)
    return model(input_ids=ids, attention_mask=attended, labels=labels).loss


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_the_mean_over_learned_tokens_of_the_batch(family):
    model = causal(family)
    rows = sequences(7)
    module = LanguageModeling(model, OptimiserSettings(0.01), steps=1)
    ours, _ = module.loss(collate(rows))
    theirs = library_loss(model, rows)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    parameter = model.model.embed_tokens.weight
    (gradient,) = torch.autograd.grad(ours, parameter)
    (expected,) = torch.autograd.grad(theirs, parameter)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_rows_learn_every_token_but_the_first(family):
    model = causal(family)
    rows = torch.randint(0, 15, (4, 9), generator=torch.Generator().manual_seed(0))
    module = LanguageModeling(model, OptimiserSettings(0.01), steps=1)
    ours, _ = module.loss(packed_batch(rows))
    assert ours.item() == pytest.approx(model(input_ids=rows, labels=rows).loss.item(), rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_sequences_that_share_a_row_do_not_see_each_other(family):
    model = causal(family).eval()
    rows = [([1, 3, 4, 5, 6, 7, 8, 2], [True] * 8), ([1, 9, 2], [True] * 3), ([1, 10, 11, 2], [True] * 4)]
    batch = collate(rows)
    together = token_logps(model, batch)
    alone = torch.cat([token_logps(model, collate([rows[source]])) for source in batch.sources.tolist()])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    assert batch.targets.tolist() == [9, 2, 10, 11, 2, 3, 4, 5, 6, 7, 8, 2]


def test_the_first_token_is_never_learned_and_marks_select_targets():
    batch = collate([([1, 5, 6, 7], [True, False, True, True])])
    assert batch.targets.tolist() == [6, 7]
    assert batch.states.tolist() == [1, 2]


def test_a_batch_without_anything_to_learn_is_refused():
    with pytest.raises(ValueError, match="none of the tokens of a batch of 2 sequences is learned"):
        collate([([1, 5], [True, False]), ([1], [True])])
    with pytest.raises(ValueError, match="sequence 1 has 2 tokens but 1 marks"):
        collate([([1, 5], [True, True]), ([1, 5], [True])])


def test_documents_are_joined_and_cut_into_rows():
    rows = pack_documents([[1, 5, 2], [1, 6, 7, 2], [1, 8, 2]], width=4)
    assert rows.tolist() == [[1, 5, 2, 1], [6, 7, 2, 1]]
    with pytest.raises(ValueError, match="has 3 tokens, too few for one row of 4"):
        pack_documents([[1, 5, 2]], width=4)


def test_a_vocabulary_in_parts_gives_the_same_loss_gradients_and_probes(monkeypatch):
    model, rows = causal("mistral"), sequences(7)
    texts, words = [ids[:-1] for ids, _ in rows], [5] * 7
    results = []
    for max_logits in (10**6, 20):
        monkeypatch.setattr(head, "MAX_LOGITS", max_logits)
        loss, _ = LanguageModeling(model, OptimiserSettings(0.01), steps=1).loss(collate(rows))
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        results.append((loss, *gradients, perplexity(model, texts), next_word_accuracy(model, texts, words)))
    for whole, parts in zip(*results, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("max_tokens", [1, 30, 10_000])
def test_perplexity_is_the_exponential_of_the_mean_loss(max_tokens):
    model = causal().eval()
    texts = [ids for ids, _ in sequences(9)]
    expected = math.exp(library_loss(model, [(ids, [True] * len(ids)) for ids in texts]).item())
    assert perplexity(model, [*texts, [1]], max_tokens) == pytest.approx(expected, rel=1e-5)


def test_perplexity_of_a_uniform_model_is_the_size_of_its_vocabulary():
    model = causal()
    with torch.no_grad():
        model.model.embed_tokens.weight.zero_()
    assert perplexity(model, [[1, 4, 5, 6, 2]]) == pytest.approx(15)
    with pytest.raises(ValueError, match="at least two tokens"):
        perplexity(model, [[1]])


def test_a_model_learns_a_song_and_recalls_it():
    song = [1, 3, 4, 5, 6, 7, 8, 9, 10, 2]
    module = LanguageModeling(causal(), OptimiserSettings(0.03, "cosine", warmup_steps=3), steps=60)
    model = module.model
    texts, words = [song[:length] for length in range(1, 10)], song[1:]
    before = perplexity(model, [song])
    assert next_word_accuracy(model, texts, words) < 0.5
    for step in range(60):
        assert torch.isfinite(_step(module, step))
    assert perplexity(model, [song]) < 1.1 < before
    assert next_word_accuracy(model, texts, words, max_tokens=8) == 1.0
    assert next_word_accuracy(model, texts, [3] * 9) == pytest.approx(1 / 9)


def _step(module, step):
    """One step of training without a trainer, so that the test reads the loss of each."""
    if step == 0:
        module.made = module.configure_optimizers()
    optimiser, scheduler = module.made["optimizer"], module.made["lr_scheduler"]["scheduler"]
    loss, _ = module.loss(collate([([1, 3, 4, 5, 6, 7, 8, 9, 10, 2], [True] * 10)]))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    scheduler.step()
    return loss


@pytest.mark.parametrize(("texts", "words"), [([], []), ([[1]], [3, 4]), ([[]], [3])])
def test_probes_without_tokens_or_words_are_refused(texts, words):
    with pytest.raises(ValueError, match="each text needs tokens and a next word"):
        next_word_accuracy(causal(), texts, words)


@pytest.mark.parametrize("family", ["llama2", "mistral"])
def test_training_killed_and_resumed_ends_the_same_bit_for_bit(family, tmp_path):
    rows = sequences(10)
    settings = OptimiserSettings(0.02, "cosine", warmup_steps=2, weight_decay=0.1, gradient_clip=0.5)

    def make_module():
        return LanguageModeling(causal(family), settings, steps=6)

    def make_batch(step):
        return collate([rows[row] for row in batch_indices(0, step, 4, len(rows))])

    whole = left_behind(train(make_module, make_batch, 6, tmp_path / "whole"), tmp_path / "whole")
    killed = left_behind(train(make_module, make_batch, 6, tmp_path / "killed", [2, 5], 2), tmp_path / "killed")
    assert killed == whole
    assert whole["latest"]["learning_rate"] < 0.02
    assert whole["latest"]["gradient_norm"] > 0


def test_every_step_is_recorded_with_loss_rate_and_gradient(tmp_path):
    rows = sequences(4)
    module = LanguageModeling(causal(), OptimiserSettings(0.02, "constant", gradient_clip=1e-4), steps=2)
    expected, _ = module.loss(collate(rows))
    norm = torch.nn.utils.get_total_norm(torch.autograd.grad(expected, list(module.model.parameters())))
    seen = []

    class Spy(LanguageModeling):
        def record(self, step, values):
            seen.append((step, dict(values)))
            clipped = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters()])
            assert clipped.item() == pytest.approx(1e-4, rel=0.02)

    fit(Spy(causal(), module.settings, 2), lambda step: collate(rows), 2, tmp_path)
    assert [step for step, _ in seen] == [0, 1]
    assert seen[0][1]["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert seen[0][1]["gradient_norm"] == pytest.approx(norm.item(), rel=1e-4)
    assert seen[0][1]["learning_rate"] == 0.02


def test_a_loss_that_is_not_finite_stops_training(tmp_path):
    model = causal()
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    module = LanguageModeling(model, OptimiserSettings(0.02), steps=1)
    with pytest.raises(FloatingPointError, match="the loss of step 0 is nan; a lower learning rate"):
        fit(module, lambda step: collate(sequences(2)), 1, tmp_path)
