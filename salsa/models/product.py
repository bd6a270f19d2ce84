"""Linear layers by the faster of torch's two matrix libraries.

torch multiplies float32 matrices with MKL, which keeps to 256-bit instructions on processors that are not Intel's. The
oneDNN of the same torch does not: with the shapes of small models it is twice as fast there. Which one is used follows
from the processor alone, never from a timing, so that a machine gives the same numbers every time.
"""

from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 256
"""Rows in products of oneDNN come in multiples of this: it makes, and keeps, a program for each number it meets."""


def linear(inputs: Tensor, weight: Tensor) -> Tensor:
    """Return `inputs` [rows, in] times the transpose of `weight` [out, in], as `F.linear` does, up to rounding."""
    if len(inputs) % ROWS or not len(inputs) or not _is_onednns(inputs):
        return F.linear(inputs, weight)
    if not torch.is_grad_enabled():
        return _multiply(inputs, weight)
    product: Tensor = _Product.apply(inputs, weight)
    return product


def padded(indices: Tensor, like: Tensor) -> Tensor:
    """Return indices [rows] with zeros behind them up to a number of rows that oneDNN takes, where it computes.

    `like` is a tensor of the device and number format of the products.
    """
    missing = -len(indices) % ROWS
    return F.pad(indices, (0, missing)) if missing and len(indices) >= ROWS and _is_onednns(like) else indices


def _is_onednns(inputs: Tensor) -> bool:
    return inputs.device.type == "cpu" and inputs.dtype == torch.float32 and _prefers_onednn()


class _Product(torch.autograd.Function):
    """y = x w^T with the gradients g w and g^T x."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return _multiply(inputs, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors
        (gradient,) = gradients
        of_inputs = _multiply(gradient, weight.t()) if ctx.needs_input_grad[0] else None
        of_weight = None
        if ctx.needs_input_grad[1]:
            # The library is faster where the result has more columns than rows.
            tall = weight.shape[0] > weight.shape[1]
            of_weight = _multiply(inputs.t(), gradient.t()).t() if tall else _multiply(gradient.t(), inputs.t())
        return of_inputs, of_weight


def _multiply(left: Tensor, right: Tensor) -> Tensor:
    """Return left [m, k] times the transpose of right [n, k], by oneDNN; any strides will do."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
    return product


@cache
def _prefers_onednn() -> bool:
    """Return whether this is a processor with 512-bit instructions that MKL does not use, and the operator is there."""
    if not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    processors = Path("/proc/cpuinfo")
    if not processors.exists() or "GenuineIntel" in processors.read_text(encoding="utf-8", errors="replace"):
        return False
    try:
        return torch.equal(_multiply(torch.eye(2), torch.eye(2)), torch.eye(2))
    except (AttributeError, RuntimeError, TypeError):
        return False
