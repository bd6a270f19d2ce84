import pytest
import torch

from salsa.rl import rollout
from salsa.rl.rollout import choose


@pytest.mark.parametrize("bound", [1, 40, 130])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_choosing_a_few_rows_at_a_time_gives_the_same(bound, temperature, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    logits, uniform = torch.randn(9, 20, generator=generator), torch.rand(9, generator=generator)
    whole = choose(logits, temperature, uniform)
    seen = []
    plain = rollout._choose
    monkeypatch.setattr(rollout, "_choose", lambda rows, *others: (seen.append(len(rows)), plain(rows, *others))[1])
    monkeypatch.setattr(rollout, "MAX_LOGITS", bound)
    for ours, theirs in zip(choose(logits, temperature, uniform), whole, strict=True):
        assert torch.equal(ours, theirs)
    assert sum(seen) == 9
    assert max(seen) * 20 <= max(bound, 20)
