import pytest
import torch
import torch.nn.functional as F

from benchmarks.peers import floor
from benchmarks.peers.floor import Operations, matrix_rates, rate
from tests.rl.tiny import causal


def counted(work):
    operations = Operations()
    operations.start()
    work()
    operations.stop()
    return operations.total


def test_a_product_is_two_operations_a_cell_and_its_gradients_two_more_products():
    left, right = torch.rand(3, 5, requires_grad=True), torch.rand(5, 7, requires_grad=True)
    assert counted(lambda: left @ right) == 2 * 3 * 5 * 7
    assert counted(lambda: (left @ right).sum().backward()) == 3 * 2 * 3 * 5 * 7


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch is built without oneDNN")
def test_onednns_product_counts_like_torchs():
    left, weight = torch.rand(3, 5), torch.rand(7, 5)
    assert counted(lambda: torch.ops.mkldnn._linear_pointwise(left, weight, None, "none", [], "")) == 2 * 3 * 5 * 7


def test_attention_counts_forth_and_back():
    rows, heads, tokens, width = 2, 3, 11, 8
    parts = [torch.rand(rows, heads, tokens, width, requires_grad=True) for _ in range(3)]
    product = 2 * rows * heads * tokens * tokens * width
    assert counted(lambda: F.scaled_dot_product_attention(*parts, is_causal=True)) == 2 * product
    both = counted(lambda: F.scaled_dot_product_attention(*parts, is_causal=True).sum().backward())
    assert both == (2 + 5) * product, "the gradient computes the attention again"


def test_nothing_counts_before_and_behind():
    operations = Operations()
    torch.rand(3, 3) @ torch.rand(3, 3)
    operations.start()
    operations.stop()
    torch.rand(3, 3) @ torch.rand(3, 3)
    assert operations.total == 0


def test_rates_are_of_the_models_own_width(monkeypatch):
    monkeypatch.setattr(floor, "SECONDS", 0.01)
    rates = matrix_rates(causal().config)
    assert set(rates) == {"large", "model"}
    assert all(value > 0 for value in rates.values())
    assert rate(8, 8, 8, seconds=0.01) > 0
