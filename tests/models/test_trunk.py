import pytest
import torch
from torch import nn

from salsa.models import product, trunk
from salsa.models.layout import Layout
from salsa.models.trunk import hidden_states
from tests.rl.tiny import FAMILIES, causal, in_float64, texts

LONG = {"mistral": {"sliding_window": None}}


def laid_out(seed=0, rows=30, longest=24):
    return Layout.of_tokens(texts(seed, rows, 1, longest))


def by_the_library(model, layout):
    """Hidden states of one sequence at a time, in the order of the layout's tokens."""
    ends = (layout.ends + 1).tolist()
    pieces = [layout.ids[start:end][None] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    return torch.cat([model.base_model(piece, use_cache=False).last_hidden_state[0] for piece in pieces])


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("onednn", [True, False])
def test_states_and_gradients_are_those_of_the_library(family, onednn, monkeypatch):
    if onednn and not product._prefers_onednn():
        pytest.skip("this processor multiplies with MKL")
    monkeypatch.setattr(product, "_prefers_onednn", lambda: onednn)
    model, layout = causal(family, **LONG.get(family, {})), laid_out()
    places = torch.arange(3, len(layout.ids), 2)
    monkeypatch.setattr(trunk, "_library", lambda *_: pytest.fail("the library computed it"))
    monkeypatch.setattr(trunk, "_agrees", lambda model: True)
    ours, theirs = hidden_states(model, layout, places), by_the_library(model, layout)[places]
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    wanted = gradients(model, (theirs * weights).sum())
    found = gradients(model, (ours * weights).sum())
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-4 * float(gradient.abs().max()), rtol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_in_float64_nothing_but_the_last_digits_differs(family):
    model, layout = in_float64(causal(family, **LONG.get(family, {}))), laid_out(1)
    places = torch.arange(len(layout.ids))
    assert trunk._is_known(model, layout)
    torch.testing.assert_close(
        hidden_states(model, layout, places), by_the_library(model, layout), atol=1e-11, rtol=1e-10
    )


def test_a_window_shorter_than_a_sequence_is_left_to_the_library():
    model = causal("mistral")
    short, long = Layout.of_tokens(texts(0, 3, 2, 6)), Layout.of_tokens(texts(0, 3, 7, 12))
    assert trunk._is_known(model, short)
    assert not trunk._is_known(model, long)
    places = torch.arange(len(long.ids))
    torch.testing.assert_close(hidden_states(model, long, places), by_the_library(model, long), atol=1e-5, rtol=1e-4)


def test_what_is_not_a_plain_trunk_is_left_to_the_library():
    layout = laid_out()
    assert trunk._is_known(causal(), layout)
    assert not trunk._is_known(causal().bfloat16(), layout)
    assert not trunk._is_known(causal(attention_bias=True), layout)
    adapted = causal()
    adapted.model.layers[0].mlp.up_proj = nn.Sequential(adapted.model.layers[0].mlp.up_proj)
    assert not trunk._is_known(adapted, layout)
    with torch.autocast("cpu", torch.bfloat16):
        assert not trunk._is_known(causal(), layout)


def test_a_library_that_computes_something_else_is_noticed():
    model, layout = causal(), laid_out()
    model.model.layers[1].register_forward_hook(lambda module, inputs, output: output + 0.1)
    assert not trunk._is_known(model, layout)


@pytest.mark.parametrize("onednn", [True, False])
def test_products_are_those_of_a_linear_layer(onednn, monkeypatch):
    if onednn and not product._prefers_onednn():
        pytest.skip("this processor multiplies with MKL")
    monkeypatch.setattr(product, "_prefers_onednn", lambda: onednn)
    generator = torch.Generator().manual_seed(0)
    for rows, inside, outside in ((256, 16, 40), (256, 40, 16), (100, 8, 8)):
        inputs = torch.randn(rows, inside, generator=generator, requires_grad=True)
        weight = torch.randn(outside, inside, generator=generator, requires_grad=True)
        upstream = torch.randn(rows, outside, generator=generator)
        found = torch.autograd.grad((product.linear(inputs, weight) * upstream).sum(), (inputs, weight))
        wanted = torch.autograd.grad((inputs @ weight.t() * upstream).sum(), (inputs, weight))
        torch.testing.assert_close(product.linear(inputs, weight), inputs @ weight.t(), atol=1e-4, rtol=1e-4)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-4)


def test_own_gradients_by_finite_differences():
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)

    angles = torch.rand(3, 1, 2, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(trunk._RMSNorm.apply, (random(3, 4), 1e-5))
    assert torch.autograd.gradcheck(trunk._SwiGLU.apply, (random(3, 8),))
    turns = torch.polar(torch.ones_like(angles), angles)
    assert torch.autograd.gradcheck(trunk._Heads.apply, (random(3, 4, 4), turns, 2, 1))
