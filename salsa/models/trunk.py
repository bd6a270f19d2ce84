"""The trunk of a small language model, computed with fewer and larger operations than the library's.

A small model on a CPU spends its time less in products than around them. So here tokens are a flat list without any
padding, which only attention arranges into rows of like length (and then needs no mask); q, k and v, and the two
halves of a gated MLP, are one product each; norms, rotations and gates are one pass forth and one back; and behind the
attention of the last layer, only the places that somebody reads are computed. The results are those of the library's
Llama, Mistral and Gemma models up to rounding: a model is compared with the library when it is first seen, and left to
the library where it differs.
"""

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GemmaModel, LlamaModel, MistralModel, PreTrainedModel
from transformers.activations import SiLUActivation

from salsa.models.layout import Group, Layout
from salsa.models.product import linear, padded

_TRUNKS = (LlamaModel, MistralModel, GemmaModel)
_SMALL = 2**20
"""Most numbers of a weight matrix of a small model. Beyond it products take the time, and copies of weights cost."""
_KNOWN: "WeakKeyDictionary[nn.Module, bool]" = WeakKeyDictionary()
"""Whether a trunk agrees with the library's, by the trunk."""


def hidden_states(model: PreTrainedModel, layout: Layout, places: Tensor) -> Tensor:
    """Return the last hidden states [places, hidden] of a model's trunk at some tokens of a layout.

    Naively: `model.base_model(ids).last_hidden_state`, one sequence at a time.
    """
    if _is_known(model, layout):
        more = padded(places, model.base_model.embed_tokens.weight)
        return _lean(model.base_model, layout, more)[: len(places)]
    return _library(model, layout)[places]


def _library(model: PreTrainedModel, layout: Layout) -> Tensor:
    """Return the hidden states [tokens, hidden] by the library."""
    ids, positions, cells = layout.rows()
    output = model.base_model(input_ids=ids, position_ids=positions, attention_mask=None, use_cache=False)
    return output.last_hidden_state.flatten(0, 1)[cells]


def _is_known(model: PreTrainedModel, layout: Layout) -> bool:
    """Return whether the trunk is one of those computed here, in full precision, with a window that hides nothing."""
    trunk: Any = getattr(model, "base_model", None)
    if type(trunk) not in _TRUNKS or torch.is_autocast_enabled(layout.ids.device.type):
        return False
    config = trunk.config
    window = getattr(config, "sliding_window", None)
    if window is not None and max(group.width for group in layout.groups) > window:
        return False
    if trunk.training and (config.attention_dropout or getattr(trunk, "gradient_checkpointing", False)):
        return False
    if trunk.embed_tokens.weight.dtype not in (torch.float32, torch.float64) or not _is_plain(trunk):
        return False
    if trunk not in _KNOWN:
        _KNOWN[trunk] = _agrees(model)
    return _KNOWN[trunk]


def _is_plain(trunk: nn.Module) -> bool:
    """Return whether every linear layer is a small one as it was: adapters and quantisation put others there."""
    return all(
        type(each) is nn.Linear and each.bias is None and each.weight.numel() <= _SMALL for each in _linears(trunk)
    )


def _linears(trunk: Any) -> Iterator[Any]:
    for layer in trunk.layers:
        attention, mlp = layer.self_attn, layer.mlp
        yield from (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
        yield from (mlp.gate_proj, mlp.up_proj, mlp.down_proj)


@torch.no_grad()
def _agrees(model: PreTrainedModel) -> bool:
    """Return whether a few tokens come out as they do by the library, which may change what it computes."""
    count = min(7, model.config.vocab_size, getattr(model.config, "sliding_window", None) or 7)
    ids = torch.arange(count, device=model.device)
    layout = Layout.of_tokens([ids[:count].tolist(), ids[: count // 2 + 1].flip(0).tolist()]).to(model.device)
    ours = _lean(model.base_model, layout, torch.arange(len(layout.ids), device=model.device))
    theirs = _library(model, layout)
    scale = theirs.abs().max().clamp(min=1e-6)
    return bool(((ours - theirs).abs().max() / scale) < 1e-4)


def _lean(trunk: Any, layout: Layout, places: Tensor) -> Tensor:
    weight = trunk.embed_tokens.weight
    hidden = trunk.embed_tokens(padded(layout.ids, weight))
    turns = _turns(trunk, padded(layout.positions, weight), hidden)
    final = len(trunk.layers) - 1
    for index, layer in enumerate(trunk.layers):
        attended = _attention(layer, hidden, turns, layout.groups)
        if index == final:
            attended, hidden = attended[places], hidden[places]
        hidden = hidden + linear(attended, layer.self_attn.o_proj.weight)
        hidden = hidden + _gated(layer, hidden)
    return _normed(hidden, trunk.norm) * _scale(trunk.norm)


def _turns(trunk: Any, positions: Tensor, like: Tensor) -> Tensor:
    """Return the rotations [tokens, 1, width / 2] of rotary positions, as complex numbers of length 1."""
    cosines, sines = trunk.rotary_emb(like[None], position_ids=positions[None])
    half = cosines.shape[-1] // 2
    return torch.complex(cosines[0, :, None, :half].contiguous(), sines[0, :, None, :half].contiguous())


def _attention(layer: Any, hidden: Tensor, turns: Tensor, groups: tuple[Group, ...]) -> Tensor:
    """Return what each token [tokens, heads x width] attends to in its own sequence."""
    attention, norm = layer.self_attn, layer.input_layernorm
    width = attention.head_dim
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    counts = [projection.out_features // width for projection in projections]
    # The library turns pairs of numbers that lie half a head apart. Here they lie side by side, as complex numbers do:
    # what queries and keys give together does not depend on the order of their numbers.
    paired = torch.cat([projection.weight for projection in projections[:2]])
    paired = paired.view(-1, 2, width // 2, paired.shape[1]).transpose(1, 2).reshape(paired.shape)
    joined = torch.cat([paired, attention.v_proj.weight]) * _scale(norm)
    heads = linear(_normed(hidden, norm), joined).view(len(hidden), sum(counts), width)
    parts: tuple[Tensor, ...] = _Heads.apply(heads, turns, *counts[:2])
    if counts[0] != counts[1]:
        shared = counts[0] // counts[1]
        parts = (parts[0], *(each.repeat_interleave(shared, dim=1) for each in parts[1:]))
    tokens = [group.stop - group.start for group in groups]
    rest = len(hidden) - sum(tokens)
    split = zip(groups, *(each.split([*tokens, rest])[: len(groups)] for each in parts), strict=True)
    found = [_attend(group, each, attention.scaling) for group, *each in split]
    if rest:
        found.append(found[0].new_zeros(rest, found[0].shape[1]))
    return found[0] if len(found) == 1 else torch.cat(found)


def _attend(group: Group, parts: list[Tensor], scale: float) -> Tensor:
    """Return the attention [tokens, heads x width] of a group, from its queries, keys and values."""
    rows, width = group.rows, group.width
    arranged = []
    for part in parts:
        if group.cells is not None:
            part = part.new_zeros(rows * width, *part.shape[1:]).index_copy(0, group.cells, part)
        arranged.append(part.view(rows, width, *part.shape[1:]).transpose(1, 2))
    queries, keys, values = arranged
    found = F.scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=scale)
    found = found.transpose(1, 2).flatten(2).flatten(0, 1)
    return found if group.cells is None else found[group.cells]


def _gated(layer: Any, hidden: Tensor) -> Tensor:
    mlp, norm = layer.mlp, layer.post_attention_layernorm
    both = linear(_normed(hidden, norm), torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]) * _scale(norm))
    if isinstance(mlp.act_fn, nn.SiLU | SiLUActivation):
        gated: Tensor = _SwiGLU.apply(both)
    else:
        gate, up = both.chunk(2, -1)
        gated = mlp.act_fn(gate) * up
    return linear(gated, mlp.down_proj.weight)


def _normed(hidden: Tensor, norm: Any) -> Tensor:
    """Return the root-mean-square norm without its weights, which the next product takes up: they are fewer there."""
    normed: Tensor = _RMSNorm.apply(hidden, norm.eps if hasattr(norm, "eps") else norm.variance_epsilon)
    return normed


def _scale(norm: Any) -> Tensor:
    """Return the weights of a norm; Gemma's are differences from 1."""
    scale: Tensor = 1.0 + norm.weight if type(norm).__name__.startswith("Gemma") else norm.weight
    return scale


class _RMSNorm(torch.autograd.Function):
    """x / sqrt(mean(x^2) + epsilon), over the last dimension."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, epsilon: float) -> Tensor:
        scale = torch.linalg.vecdot(inputs, inputs).div_(inputs.shape[-1]).add_(epsilon).rsqrt_()[..., None]
        normed = inputs * scale
        ctx.save_for_backward(normed, scale)
        return normed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        normed, scale = ctx.saved_tensors
        (gradient,) = gradients
        along = torch.linalg.vecdot(gradient, normed).div_(normed.shape[-1])[..., None]
        return torch.addcmul(gradient, normed, along, value=-1).mul_(scale), None


class _Heads(torch.autograd.Function):
    """Queries, keys and values from the heads [tokens, all heads, width]; queries and keys turned by the positions."""

    @staticmethod
    def forward(ctx: Any, heads: Tensor, turns: Tensor, queries: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(turns)
        ctx.shape, ctx.turned = heads.shape, queries + keys
        turned = torch.view_as_real(_pairs(heads[:, : queries + keys]) * turns).flatten(2)
        return turned[:, :queries], turned[:, queries:], heads[:, queries + keys :].clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (turns,) = ctx.saved_tensors
        of_queries, of_keys, of_values = gradients
        of_heads = of_values.new_empty(ctx.shape)
        back, queries = turns.conj().resolve_conj(), of_queries.shape[1]
        torch.mul(_pairs(of_queries), back, out=_pairs(of_heads[:, :queries]))
        torch.mul(_pairs(of_keys), back, out=_pairs(of_heads[:, queries : ctx.turned]))
        of_heads[:, ctx.turned :] = of_values
        return of_heads, None, None, None


def _pairs(heads: Tensor) -> Tensor:
    """Return successive pairs of numbers of [tokens, heads, width] as complex ones [tokens, heads, width / 2]."""
    return torch.view_as_complex(heads.unflatten(-1, (-1, 2)))


class _SwiGLU(torch.autograd.Function):
    """silu(gate) x up of [tokens, gate | up]."""

    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        ctx.save_for_backward(both)
        gate, up = both.chunk(2, -1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (both,) = ctx.saved_tensors
        (gradient,) = gradients
        gate, up = both.chunk(2, -1)
        result = torch.empty_like(both)
        of_gate, of_up = result.chunk(2, -1)
        torch.ops.aten.silu_backward.grad_input(gradient * up, gate, grad_input=of_gate)
        torch.ops.aten.silu.out(gate, out=of_up).mul_(gradient)
        return result
