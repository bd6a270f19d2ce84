import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from salsa.models import head as head_module
from salsa.models.head import likeliest_tokens, linear_head, target_logps
from salsa.models.scoring import reply_logps
from salsa.models.sequences import pack
from tests.models.tiny import ARCHITECTURES, causal

TOLERANCE = {torch.float32: {"atol": 1e-5, "rtol": 1e-5}, torch.float64: {"atol": 1e-10, "rtol": 0}}


def problem(tokens=7, words=13, width=5, dtype=torch.float64, bias=False, seed=0):
    """Hidden states, a head, targets, and what a loss weighs log-probabilities and entropies with."""
    generator = torch.Generator().manual_seed(seed)
    head = nn.Linear(width, words, bias=bias)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(generator=generator)
    hidden = torch.randn(tokens, width, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    targets = torch.randint(0, words, (tokens,), generator=generator)
    return hidden, head.to(dtype), targets, torch.randn(2, tokens, generator=generator, dtype=torch.float64)


def naive(hidden, head, targets, temperature):
    logps = (head(hidden).to(torch.promote_types(hidden.dtype, torch.float32)) / temperature).log_softmax(-1)
    return logps.gather(1, targets[:, None])[:, 0], -(logps.exp() * logps).sum(-1)


def outcome(function, hidden, head, weights):
    """The results of a function and the gradients of a weighted sum of them."""
    logps, entropies = function()
    loss = logps @ weights[0].to(logps.dtype) + entropies @ weights[1].to(logps.dtype)
    return [logps, entropies, *torch.autograd.grad(loss, [hidden, *head.parameters()])]


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(1, 9),
    words=st.integers(1, 17),
    width=st.integers(1, 6),
    max_logits=st.integers(1, 200),
    temperature=st.sampled_from([1.0, 0.7, 3.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_results_and_gradients_are_those_of_the_naive_expression(
    tokens, words, width, max_logits, temperature, dtype, bias, seed
):
    hidden, head, targets, weights = problem(tokens, words, width, dtype, bias, seed)
    wanted = outcome(lambda: naive(hidden, head, targets, temperature), hidden, head, weights)
    found = outcome(
        lambda: target_logps(hidden, head, targets, temperature, entropy=True, max_logits=max_logits),
        hidden,
        head,
        weights,
    )
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, **TOLERANCE[dtype])


@pytest.mark.parametrize("max_logits", [1, 30, 10**6])
def test_log_probabilities_alone_have_the_same_gradients(max_logits):
    hidden, head, targets, weights = problem(bias=True)
    logps, entropies = target_logps(hidden, head, targets, 0.8, max_logits=max_logits)
    assert entropies is None
    found = torch.autograd.grad(logps @ weights[0], [hidden, *head.parameters()])
    wanted = torch.autograd.grad(naive(hidden, head, targets, 0.8)[0] @ weights[0], [hidden, *head.parameters()])
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, **TOLERANCE[torch.float64])


@pytest.mark.parametrize("max_logits", [20, 10**6])
def test_logits_of_any_size_overflow_nothing(max_logits):
    hidden, head, targets, weights = problem(dtype=torch.float32)
    with torch.no_grad():
        head.weight *= 1e4
    for values in outcome(
        lambda: target_logps(hidden, head, targets, entropy=True, max_logits=max_logits), hidden, head, weights
    ):
        assert torch.isfinite(values).all()


@pytest.mark.parametrize("frozen", ["hidden", "head"])
def test_what_is_frozen_gets_no_gradient_and_the_other_the_same_one(frozen):
    hidden, head, targets, weights = problem()
    (hidden if frozen == "hidden" else head).requires_grad_(False)
    learning = head.weight if frozen == "hidden" else hidden
    logps, _ = target_logps(hidden, head, targets, max_logits=20)
    (logps @ weights[0]).backward()
    (wanted,) = torch.autograd.grad(naive(hidden, head, targets, 1.0)[0] @ weights[0], [learning])
    torch.testing.assert_close(learning.grad, wanted, **TOLERANCE[torch.float64])
    assert (hidden if frozen == "hidden" else head.weight).grad is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_chunks_need_no_gradients(mode):
    hidden, head, targets, _ = problem()
    with mode():
        logps, entropies = target_logps(hidden, head, targets, entropy=True, max_logits=20)
    assert not logps.requires_grad
    for ours, theirs in zip((logps, entropies), naive(hidden, head, targets, 1.0), strict=True):
        torch.testing.assert_close(ours.clone(), theirs.detach(), **TOLERANCE[torch.float64])


def test_half_precision_gives_float32_and_a_gradient_that_is_rounded_once():
    # With 200 tokens, a weight gradient that adds up in bfloat16 would be off by several roundings.
    hidden, head, targets, weights = problem(tokens=200, words=40, dtype=torch.bfloat16)
    plain = outcome(lambda: target_logps(hidden, head, targets, 0.9, entropy=True), hidden, head, weights)
    parts = outcome(
        lambda: target_logps(hidden, head, targets, 0.9, entropy=True, max_logits=1000), hidden, head, weights
    )
    assert [values.dtype for values in parts] == [torch.float32] * 2 + [torch.bfloat16] * 2
    for ours, theirs in zip(parts[:2], plain[:2], strict=True):
        torch.testing.assert_close(ours, theirs, **TOLERANCE[torch.float32])
    for ours, theirs in zip(parts[2:], plain[2:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2**-7, atol=2**-9 * theirs.abs().max().item())


def test_autocast_changes_the_number_format_of_chunks_as_that_of_the_head():
    hidden, head, targets, weights = problem(tokens=40, dtype=torch.float32)
    results = []
    for max_logits in (60, 10**6):
        with torch.autocast("cpu", torch.bfloat16):
            logps, _ = target_logps(hidden, head, targets, max_logits=max_logits)
        results.append([logps, *torch.autograd.grad(logps @ weights[0].float(), [hidden, head.weight])])
    torch.testing.assert_close(results[0][0], results[1][0], **TOLERANCE[torch.float32])
    for ours, theirs in zip(results[0][1:], results[1][1:], strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=2**-6, atol=2**-8 * theirs.abs().max().item())
    full = target_logps(hidden, head, targets)[0]
    assert (results[0][0] - full).abs().max() > 1e-4


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_the_gradient_of_a_whole_model_does_not_depend_on_chunks(family, monkeypatch):
    # llama2 and gemma tie the head to the embeddings: the shared weight has a gradient from both ends.
    model = causal(family)
    sequences = pack([[1, 5, 6], [1, 7]], [[8, 9, 2], [4, 2]], 0)
    gradients = []
    for max_logits in (10**6, 20):
        monkeypatch.setattr(head_module, "MAX_LOGITS", max_logits)
        model.zero_grad()
        logps, entropies = reply_logps(model, sequences, 0.9, entropy=True)
        (logps.sum() + entropies.square().sum()).backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    assert gradients[0]["model.embed_tokens.weight"].norm() > 0
    assert ("lm_head.weight" in gradients[0]) == (not model.config.tie_word_embeddings)
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradient, gradients[0][name], **TOLERANCE[torch.float32])


class Largest(TorchDispatchMode):
    """Keeps the number of elements of the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_tensor_is_larger_than_the_bound(dtype):
    tokens, words, bound = 64, 1000, 4096
    hidden, head, targets, weights = problem(tokens, words, 4, dtype, bias=True)
    assert head.weight.numel() <= bound
    with Largest() as chunked:
        outcome(lambda: target_logps(hidden, head, targets, 0.7, entropy=True, max_logits=bound), hidden, head, weights)
        likeliest_tokens(hidden, head, max_logits=bound)
    with Largest() as plain:
        outcome(lambda: target_logps(hidden, head, targets, 0.7, entropy=True), hidden, head, weights)
    assert bound // 2 < chunked.elements <= bound
    assert plain.elements == tokens * words


def test_what_is_kept_for_the_gradient_does_not_grow_with_the_vocabulary():
    def kept(words):
        hidden, head, targets, _ = problem(words=words)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: (sizes.append(tensor.numel() if tensor is not head.weight else 0), tensor)[1],
            lambda tensor: tensor,
        ):
            target_logps(hidden, head, targets, entropy=True, max_logits=20)
        return sum(sizes)

    assert kept(13) == kept(1300) > 0


@pytest.mark.parametrize("max_logits", [1, 20, 10**6])
def test_the_likeliest_tokens_are_the_first_of_the_largest_logits(max_logits):
    hidden, head, _, _ = problem(tokens=30)
    with torch.no_grad():
        # Whole numbers, so that equal logits are equal to the last bit.
        hidden.round_()
        head.weight.round_()
        head.weight[5] = head.weight[12] = head.weight[1]
    found = likeliest_tokens(hidden, head, max_logits=max_logits)
    assert torch.equal(found, head(hidden).argmax(-1))
    assert not {5, 12} & set(found.tolist())
    assert 1 in found


@pytest.mark.parametrize("max_logits", [1, 10**6])
@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperatures_without_log_probabilities_are_refused(max_logits, temperature):
    hidden, head, targets, _ = problem()
    with pytest.raises(ValueError, match=f"positive temperature, got {temperature}"):
        target_logps(hidden, head, targets, temperature, max_logits=max_logits)


def test_heads_that_are_more_than_a_matrix_are_refused():
    model = causal("mistral")
    assert linear_head(model) is model.lm_head
    model.set_output_embeddings(nn.Sequential(model.lm_head))
    with pytest.raises(ValueError, match="output head of MistralForCausalLM is a Sequential"):
        linear_head(model)
    model = causal()
    model.config.logit_scale = 0.5
    with pytest.raises(ValueError, match="LlamaForCausalLM changes its logits behind the head"):
        linear_head(model)
