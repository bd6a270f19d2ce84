"""Held-out loss by document: it is the loss of training and of `perplexity`, whatever the batches."""

import math
import os
import signal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salsa.models.adapters import SharedBase
from salsa.models.scoring import token_logps
from salsa.training.interruption import Interrupted
from salsa.training.language import LanguageModeling, OptimiserSettings, collate, perplexity
from salsa.training.validation import HeldoutLoss, Likelihoods, heldout_loss
from tests.models.adapted import adapted
from tests.models.tiny import ARCHITECTURES, causal
from tests.training.test_language import library_loss, sequences

FAMILIES = list(ARCHITECTURES)


def measure(model, documents, max_tokens=4096, **keywords):
    return heldout_loss(Likelihoods(model, documents, max_tokens), accelerator="cpu", **keywords)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("max_tokens", [1, 30, 10_000])
def test_it_is_the_mean_loss_of_the_learned_tokens(family, max_tokens):
    model, documents = causal(family), sequences(9)
    found = measure(model, documents, max_tokens)
    assert found.mean == pytest.approx(library_loss(model.eval(), documents).item(), rel=1e-5)
    training, _ = LanguageModeling(model, OptimiserSettings(0.01), steps=1).loss(collate(documents))
    assert found.mean == pytest.approx(training.item(), rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_its_exponential_is_the_perplexity_where_all_tokens_are_learned(family):
    model = causal(family).eval()
    texts = [ids for ids, _ in sequences(9)]
    found = measure(model, [(ids, [True] * len(ids)) for ids in texts], max_tokens=30)
    assert math.exp(found.mean) == pytest.approx(perplexity(model, texts, max_tokens=30), rel=1e-6)
    assert found.tokens == tuple(len(ids) - 1 for ids in texts)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), rows=st.integers(1, 8), max_tokens=st.integers(1, 60))
def test_each_document_has_its_own_sums_in_the_order_given(seed, rows, max_tokens):
    model, documents = causal("mistral").eval(), sequences(rows, seed)
    found = measure(model, documents, max_tokens)
    with torch.no_grad():
        alone = [-token_logps(model, collate([document])) for document in documents]
    assert found.nats == pytest.approx([losses.sum().item() for losses in alone], rel=1e-4)
    assert found.tokens == tuple(map(len, alone))


def test_documents_without_a_learned_token_have_no_loss_and_keep_their_place():
    model, (first, second) = causal(), sequences(2)
    found = measure(model, [([1, 5, 6], [True, False, False]), first, ([1], [True]), second], max_tokens=1)
    expected = measure(model, [first, second])
    assert found.nats == pytest.approx((0, expected.nats[0], 0, expected.nats[1]), rel=1e-5)
    assert found.tokens == (0, expected.tokens[0], 0, expected.tokens[1])
    assert found.mean == pytest.approx(expected.mean, rel=1e-5)


def test_the_mean_is_over_tokens_and_not_over_documents():
    assert HeldoutLoss(nats=(2.0, 6.0), tokens=(1, 3)).mean == 2.0


def test_a_uniform_model_has_the_logarithm_of_its_vocabulary():
    model = causal()
    with torch.no_grad():
        model.model.embed_tokens.weight.zero_()
    assert measure(model, [([1, 4, 5, 6, 2], [True] * 5)]).mean == pytest.approx(math.log(15))


def test_dropout_is_off():
    model = causal(seed=1)
    expected = measure(model, sequences(3))
    model.config.attention_dropout = 0.5
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    assert measure(model.train(), sequences(3)) == expected


def test_nothing_is_trained_and_the_model_can_go_on_training():
    model = causal()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure(model, sequences(3))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    loss, _ = LanguageModeling(model, OptimiserSettings(0.01), steps=1).loss(collate(sequences(3)))
    loss.backward()


def test_a_view_of_a_base_is_measured_like_any_model():
    shared = SharedBase(causal())
    view = adapted(shared, "sft", seed=3)
    documents = sequences(4)
    assert measure(view, documents).mean != pytest.approx(measure(shared.bare(), documents).mean, rel=1e-3)
    assert measure(shared.bare(), documents).nats == pytest.approx(measure(causal(), documents).nats, rel=1e-5)


def test_progress_counts_the_documents():
    told = []
    documents = [*sequences(4), ([1, 5], [True, False])]
    measure(causal(), documents, max_tokens=1, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_documents_that_have_no_loss_are_refused():
    with pytest.raises(ValueError, match="none of the tokens of 2 documents is learned"):
        Likelihoods(causal(), [([1, 5], [True, False]), ([1], [True])])
    with pytest.raises(ValueError, match="none of the tokens of 0 documents"):
        Likelihoods(causal(), [])
    with pytest.raises(ValueError, match="document 1 has 2 tokens but 1 marks"):
        Likelihoods(causal(), [([1, 5], [True, True]), ([1, 5], [True])])


def _send(number):
    """Return a progress callback that sends this process a real signal after the first batch."""
    told = []

    def progress(done, total):
        told.append(done)
        if len(told) == 1:
            os.kill(os.getpid(), number)

    return told, progress


def test_ctrl_c_is_not_the_exit_of_the_program_and_works_again_afterwards():
    handler = signal.getsignal(signal.SIGINT)
    told, progress = _send(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        measure(causal(), sequences(5), max_tokens=1, progress=progress)
    assert told == [1]
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("count", [1, 5])
def test_sigterm_ends_the_validation(count):
    told, progress = _send(signal.SIGTERM)
    with pytest.raises(Interrupted, match=f"after 1 of {count} rows"):
        measure(causal(), sequences(count), max_tokens=1, progress=progress)
    assert told == [1]


def test_the_end_of_an_iterator_inside_a_step_is_an_error():
    """Lightning takes it for the end of the data, and a part of the documents would count as all."""

    class Exhausted(Likelihoods):
        def validation_step(self, batch, batch_idx):
            if batch_idx == 2:
                next(iter([]))
            super().validation_step(batch, batch_idx)

    with pytest.raises(RuntimeError, match="batch 2 of 5 ran into the end of an iterator"):
        heldout_loss(Exhausted(causal(), sequences(5), max_tokens=1), accelerator="cpu")


def test_nothing_is_printed(capfd, recwarn):
    measure(causal(), sequences(3))
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn if "validat" in str(warning.message)] == []
