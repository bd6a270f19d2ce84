"""The output head of a language model: what it says about target tokens, without a whole vocabulary in memory.

`torch.nn.functional.linear_cross_entropy` does a part of this, but it came after the oldest torch that this package
supports, knows neither temperature nor entropy, and adds up a low-precision weight gradient chunk by chunk. Recomputing
chunks with `torch.utils.checkpoint` would make a weight gradient as large as the head for each of them.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

from salsa.models.product import linear

MAX_LOGITS = 2**23
"""Most logits of one tensor: 32 MiB in float32, and about three times that in passing.

Below it nothing is computed twice, so small models lose no speed: a forward pass of 2048 tokens gets there with a
vocabulary of 4096. Above it, computing again costs up to a third of the head's time, and parts of half this size win
some of it back, as the C library still takes them from memory that it has at hand. Smaller parts would save little
beside the head itself, and make narrower matrix products.
"""


def linear_head(model: PreTrainedModel) -> nn.Linear:
    """Return the output head of a language model whose logits are a linear function of its last hidden states.

    Raises:
        ValueError: if the head is another kind of module, or the model changes its logits behind the head.
    """
    if getattr(model.config, "final_logit_softcapping", None) or getattr(model.config, "logit_scale", None):
        raise ValueError(
            f"{type(model).__name__} changes its logits behind the head (final_logit_softcapping or logit_scale), "
            "which this package does not do; use a Llama, Mistral or Gemma (1) model"
        )
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear:
        raise ValueError(
            f"the output head of {type(model).__name__} is a {type(head).__name__}, not a plain linear layer; leave "
            "the head (lm_head) out of what adapters or quantisation change"
        )
    return head


def target_logps(
    hidden: Tensor,
    head: nn.Linear,
    targets: Tensor,
    temperature: float = 1.0,
    *,
    entropy: bool = False,
    max_logits: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Return log-probabilities [tokens] in nats of `targets` [tokens], and entropies there if asked for.

    Naively: `logps = (head(hidden) / temperature).log_softmax(-1)`, of which the targets' are taken. `hidden` is
    [tokens, hidden width]. Both results are float32 (float64 from a float64 head) and differentiable once with respect
    to `hidden` and the head. No tensor of more than `max_logits` (None: MAX_LOGITS) logits is made, or of one word if
    that is more; beyond that, parts of the vocabulary are computed one after the other, and again for the gradients.

    Raises:
        ValueError: if the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"log-probabilities need a positive temperature, got {temperature}")
    bound = MAX_LOGITS if max_logits is None else max_logits
    if len(targets) * head.out_features > bound:
        # Half of it: logits that are computed again and their gradients are in memory together.
        return _chunked(hidden, head, targets, _Task(temperature, entropy, bound // 2))
    logits = precise(_product(hidden, head.weight, head.bias))
    logits = logits if temperature == 1 else logits / temperature
    logps = -F.cross_entropy(logits, targets, reduction="none")
    return logps, torch.distributions.Categorical(logits=logits, validate_args=False).entropy() if entropy else None


def likeliest_tokens(hidden: Tensor, head: nn.Linear, *, max_logits: int | None = None) -> Tensor:
    """Return the likeliest next tokens [tokens] at hidden states [tokens, hidden width]; `max_logits` as above."""
    bound = MAX_LOGITS if max_logits is None else max_logits
    best = tokens = None
    with torch.no_grad():
        for words in _blocks(len(hidden), head.out_features, bound):
            value, place = _logits(hidden, head.weight, head.bias, words, 1.0).max(-1)
            if best is None or tokens is None:
                best, tokens = value, place
            else:
                tokens = torch.where(value > best, place + words.start, tokens)
                best = torch.maximum(value, best)
    assert tokens is not None, "a head has at least one word"
    return tokens


def _product(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return linear(hidden, weight) if bias is None else F.linear(hidden, weight, bias)


def precise(values: Tensor) -> Tensor:
    """Return the values in float32, or as they are in float64."""
    return values if values.dtype == torch.float64 else values.float()


def _chunked(hidden: Tensor, head: nn.Linear, targets: Tensor, task: "_Task") -> tuple[Tensor, Tensor | None]:
    """Compute `target_logps` in chunks; under autocast in its number format, as the head itself would be."""
    inputs: list[Tensor | None] = [hidden, head.weight, head.bias]
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        inputs = [None if tensor is None else tensor.to(dtype) for tensor in inputs]
    with torch.autocast(kind, enabled=False):
        return _ChunkedHead.apply(*inputs, targets, task)


class _Task(NamedTuple):
    """What `target_logps` is asked for, beside its tensors."""

    temperature: float
    entropy: bool
    max_logits: int


class _Seen(NamedTuple):
    """What a part of the vocabulary says about all tokens, [tokens] each.

    `inside` tells whose target is in the part; `chosen` is the target's logit, where it is; `total` the logarithm of
    the sum of exponentials of the part's logits; `entropies` the entropies (nats) of distributions over the part alone.
    """

    inside: Tensor
    chosen: Tensor
    total: Tensor
    entropies: Tensor | None


class _ChunkedHead(torch.autograd.Function):
    """`target_logps`, one part of the vocabulary at a time.

    Parts of the vocabulary, not of the tokens: each part of the weight's gradient is then one matrix product over all
    tokens, written once into its place, whatever the number format. What adds up over the parts is the gradient of the
    hidden states, which is small enough to be summed in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, task: _Task
    ) -> tuple[Tensor, Tensor | None]:
        """Return log-probabilities and entropies; keep two numbers a token beside the arguments."""
        state = None
        for words in _blocks(len(targets), len(weight), task.max_logits):
            seen = _seen(_logits(hidden, weight, bias, words, task.temperature), targets, words, task.entropy)
            state = seen if state is None else _joined(state, seen)
        assert state is not None, "a head has at least one word"
        ctx.save_for_backward(hidden, weight, bias, targets, state.total, state.entropies)
        ctx.task = task
        return state.chosen - state.total, state.entropies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_logp: Tensor, by_entropy: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the gradients of hidden states, weight and bias, those of them that are asked for."""
        hidden, weight, bias, targets, total, entropies = ctx.saved_tensors
        for_hidden, for_weight, for_bias = ctx.needs_input_grad[:3]
        by_hidden = hidden.new_zeros(hidden.shape, dtype=total.dtype) if for_hidden else None
        by_weight = torch.empty_like(weight) if for_weight else None
        by_bias = torch.empty_like(bias) if for_bias else None
        by_logp = by_logp / ctx.task.temperature
        by_entropy = None if by_entropy is None else by_entropy / ctx.task.temperature
        for words in _blocks(len(targets), len(weight), ctx.task.max_logits):
            logps = _logits(hidden, weight, bias, words, ctx.task.temperature).sub_(total[:, None])
            inside, column = _place(targets, words)
            by_logits = _by_logits(logps, by_logp, by_entropy, entropies)
            by_logits.scatter_add_(1, column, (by_logp * inside)[:, None])
            by_logits = by_logits.to(weight.dtype)
            if by_hidden is not None:
                by_hidden += by_logits @ weight[words]
            if by_weight is not None:
                torch.mm(by_logits.T, hidden, out=by_weight[words])
            if by_bias is not None:
                torch.sum(by_logits, 0, out=by_bias[words])
        return None if by_hidden is None else by_hidden.to(hidden.dtype), by_weight, by_bias, None, None


def _seen(logits: Tensor, targets: Tensor, words: slice, entropy: bool) -> _Seen:
    """Return what the logits [tokens, words] of a part of the vocabulary say; they are used up."""
    inside, column = _place(targets, words)
    chosen = logits.gather(1, column)[:, 0]
    # This takes half the time of `logsumexp`.
    total = F.cross_entropy(logits, column[:, 0], reduction="none") + chosen
    if not entropy:
        return _Seen(inside, chosen, total, None)
    logits -= total[:, None]
    return _Seen(inside, chosen, total, -torch.linalg.vecdot(logits.exp(), logits))


def _joined(first: _Seen, second: _Seen) -> _Seen:
    """Return what two parts of the vocabulary say together."""
    total = torch.logaddexp(first.total, second.total)
    entropies = None
    if first.entropies is not None and second.entropies is not None:
        # The entropy of which part a word is in, and the entropy within that part.
        entropies = torch.zeros_like(total)
        for part, within in ((first.total - total, first.entropies), (second.total - total, second.entropies)):
            entropies += part.exp() * (within - part)
    chosen = torch.where(second.inside, second.chosen, first.chosen)
    return _Seen(first.inside | second.inside, chosen, total, entropies)


def _by_logits(logps: Tensor, by_logp: Tensor, by_entropy: Tensor | None, entropies: Tensor | None) -> Tensor:
    """Return the gradient [tokens, words] of logits, but for the ones at the targets; `logps` is used up."""
    if by_entropy is None or entropies is None:
        return logps.exp_().mul_(-by_logp[:, None])
    probabilities = logps.exp()
    slopes = logps.add_(entropies[:, None]).mul_(by_entropy[:, None]).add_(by_logp[:, None])
    return probabilities.mul_(slopes.neg_())


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, words: slice, temperature: float) -> Tensor:
    """Return the logits of some words over the temperature, in float32 or float64, in memory of their own."""
    logits = precise(_product(hidden, weight[words], None if bias is None else bias[words]))
    return logits if temperature == 1 else logits.div_(temperature)


def _place(targets: Tensor, words: slice) -> tuple[Tensor, Tensor]:
    """Return which targets [tokens] are among some words, and the columns [tokens, 1] of those that are."""
    inside = (targets >= words.start) & (targets < words.stop)
    return inside, (targets - words.start).clamp_(0, words.stop - words.start - 1)[:, None]


def _blocks(tokens: int, words: int, max_logits: int) -> Iterator[slice]:
    """Yield parts of the vocabulary, of nearly one size, with at most `max_logits` logits of all tokens each."""
    parts = -(-words // max(1, max_logits // max(1, tokens)))
    bounds = [words * part // parts for part in range(parts + 1)]
    for first, stop in pairwise(bounds):
        yield slice(first, stop)
