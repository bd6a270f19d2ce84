"""The least time an update can take: its floating-point operations over the speed of matrix products, measured here."""

import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

SECONDS = 0.4
"""CPU time for which a product is repeated to measure its rate."""
_LARGE = 1024
_ROWS = 2048


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


def _onednn_linear(inputs: Any, weight: Any, *_: Any, **__: Any) -> int:
    rows = 1
    for size in inputs[:-1]:
        rows *= size
    return 2 * rows * weight[0] * weight[1]


class Operations:
    """Counts floating-point operations of matrix products and attention between `start` and `stop`.

    The library's counter knows neither attention on a CPU nor oneDNN's product. What a causal mask hides counts, too.
    """

    def __init__(self) -> None:
        aten = torch.ops.aten
        self._counter = FlopCounterMode(
            display=False,
            custom_mapping={
                aten._scaled_dot_product_flash_attention_for_cpu: _attention,
                aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
                torch.ops.mkldnn._linear_pointwise: _onednn_linear,
            },
        )

    def start(self) -> None:
        """Begin to count."""
        self._counter.__enter__()

    def stop(self) -> None:
        """Count no longer."""
        self._counter.__exit__(None, None, None)

    @property
    def total(self) -> int:
        """Operations so far; a multiplication and an addition are two."""
        return int(self._counter.get_total_flops())


def matrix_rates(config: Any) -> dict[str, float]:
    """Return operations per CPU second of `torch.mm`: a large product, and one of the model's own shape.

    Of the two libraries that torch may take a product from, the faster one counts: a floor is what can be reached.
    """
    hidden, wide = config.hidden_size, config.intermediate_size
    return {"large": rate(_LARGE, _LARGE, _LARGE), "model": rate(_ROWS, hidden, wide)}


def rate(rows: int, inner: int, columns: int, seconds: float | None = None) -> float:
    """Return operations per CPU second of a product [rows, inner] x [inner, columns] by the faster library."""
    return max(rates(rows, inner, columns, seconds).values())


def rates(rows: int, inner: int, columns: int, seconds: float | None = None) -> dict[str, float]:
    """Return operations per CPU second of a float32 product by each of torch's libraries, this thread alone."""
    left, right = torch.rand(rows, inner), torch.rand(columns, inner)
    products = {"torch.mm": lambda: torch.mm(left, right.t())}
    if torch.backends.mkldnn.is_available():
        onednn = torch.ops.mkldnn._linear_pointwise
        products["oneDNN"] = lambda: onednn(left, right, None, "none", [], "")
    operations = 2 * rows * inner * columns
    return {name: operations * _calls_per_second(each, seconds or SECONDS) for name, each in products.items()}


def _calls_per_second(product: Any, seconds: float) -> float:
    product()
    started, count = time.process_time(), 0
    while time.process_time() - started < seconds:
        product()
        count += 1
    return count / (time.process_time() - started)
