from dataclasses import replace

import pytest

from tests.models.tiny import ARCHITECTURES


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("llama2", {"family": "llama4"}, "'llama4'; choose one of llama2, mistral, gemma"),
        ("llama2", {"layers": 0}, "layers must be at least 1, got 0"),
        ("mistral", {"kv_heads": 3}, r"heads \(4\) must be a multiple of kv_heads \(3\)"),
        ("gemma", {"head_dim": 5}, "head_dim must be even, got 5"),
        ("llama2", {"head_dim": 8}, r"head_dim \(8\) times heads \(4\) must be hidden \(16\)"),
        ("gemma", {"sliding_window": 8}, "only mistral has one"),
        ("mistral", {"sliding_window": 0}, "at least 1 or null, got 0"),
        ("llama2", {"init_std": 0.0}, "init_std must be positive"),
        ("llama2", {"init_std": float("nan")}, "init_std must be positive"),
    ],
)
def test_contradictions_are_named(family, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(ARCHITECTURES[family], **changes)


def test_heads_of_mistral_and_gemma_may_have_a_size_of_their_own():
    assert replace(ARCHITECTURES["mistral"], head_dim=8).head_dim == 8
    assert ARCHITECTURES["gemma"].heads * ARCHITECTURES["gemma"].head_dim != ARCHITECTURES["gemma"].hidden
