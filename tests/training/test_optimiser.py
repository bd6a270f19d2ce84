import itertools

import pytest
import torch

from salsa.training.optimiser import OptimiserSettings, adamw, rate_factor, schedule


@pytest.mark.parametrize(
    ("kind", "half_way"), [("cosine", 0.1 + 0.9 * 0.5), ("linear", 0.1 + 0.9 * 0.5), ("constant", 1.0)]
)
def test_the_rate_climbs_then_falls_to_its_final_fraction(kind, half_way):
    settings = OptimiserSettings(1.0, kind, warmup_steps=4, final_fraction=0.1)
    factors = [rate_factor(settings, step, 104) for step in range(105)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[54] == pytest.approx(half_way)
    assert factors[104] == pytest.approx(1.0 if kind == "constant" else 0.1)
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(factors[4:]))


def test_a_cosine_is_a_cosine():
    settings = OptimiserSettings(1.0, "cosine")
    assert rate_factor(settings, 25, 100) == pytest.approx(0.5 + 0.5 * 2**-0.5)


def test_warm_up_longer_than_training_never_leaves_it():
    settings = OptimiserSettings(1.0, "linear", warmup_steps=10)
    assert [rate_factor(settings, step, 2) for step in range(2)] == pytest.approx([1 / 11, 2 / 11])


def test_the_scheduler_sets_these_rates():
    settings = OptimiserSettings(0.5, "linear", warmup_steps=1)
    optimiser = adamw([torch.nn.Parameter(torch.ones(2, 2))], settings)
    scheduler = schedule(optimiser, settings, steps=4)
    rates = []
    for _ in range(4):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    assert rates == pytest.approx([0.5 * rate_factor(settings, step, 4) for step in range(4)])


def test_only_matrices_decay_and_frozen_parameters_stay_out():
    matrix, vector = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
    frozen = torch.nn.Parameter(torch.ones(2, 2), requires_grad=False)
    optimiser = adamw([matrix, vector, frozen], OptimiserSettings(0.1, weight_decay=0.5))
    decays = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    assert decays == {id(matrix): 0.5, id(vector): 0.0}
