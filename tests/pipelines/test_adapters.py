"""Adapters in the plan: what they depend on, what is refused, and that full fine-tuning does not notice them."""

import re

import pytest

from pipelines.configuration import ConfigurationError
from pipelines.experiment import Experiment
from pipelines.plan import Stage
from tests.pipelines.compose import config, experiment


def by_name(built: Experiment) -> dict[str, Stage]:
    return {stage.name: stage for stage in built.plan}


def test_full_fine_tuning_reads_nothing_of_adapters() -> None:
    before, after = by_name(experiment()), by_name(experiment("lora.alpha=3", "lora.targets=[q_proj]"))
    assert {name: stage.fingerprint for name, stage in before.items()} == {
        name: stage.fingerprint for name, stage in after.items()
    }
    assert not any("lora" in stage.config for stage in before.values())
    assert "base" not in before["align PPO"].inputs


def test_adapters_are_other_models_over_the_same_base() -> None:
    full, adapted = by_name(experiment()), by_name(experiment("lora.rank=4"))
    assert full.keys() == adapted.keys()
    same = {name for name, stage in full.items() if stage.fingerprint == adapted[name].fingerprint}
    assert same == {"base"}


@pytest.mark.parametrize("override", ["lora.rank=8", "lora.alpha=4", "lora.targets=[q_proj,v_proj]"])
def test_each_setting_makes_other_models(override: str) -> None:
    one, other = by_name(experiment("lora.rank=4")), by_name(experiment("lora.rank=4", override))
    for name in ("sft_1", "reward", "align PPO", "report"):
        assert one[name].fingerprint != other[name].fingerprint


def test_the_order_of_targets_means_nothing() -> None:
    orders = ("lora.targets=[q_proj,v_proj]", "lora.targets=[v_proj,q_proj]")
    one, other = (by_name(experiment("lora.rank=4", order)) for order in orders)
    assert one["report"].fingerprint == other["report"].fingerprint


def test_whatever_reads_an_adapter_depends_on_its_base() -> None:
    stages = by_name(experiment("lora.rank=4"))
    for stage in stages.values():
        if stage.kind != "base":
            assert stage.inputs["base"] == stages["base"].fingerprint, stage.name


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("lora.rank=-1", "lora.rank=-1: must not be negative"),
        ("lora.rank=4 lora.alpha=0", "lora.alpha must be positive, got 0"),
        ("lora.targets=[lm_head]", "lora.targets must be some of q_proj"),
        ("lora.rank=4 lora.targets=[]", "lora.targets must be some of q_proj"),
        ("lora.rank=4 reference@policy=ema", "policy.ema_rate=0.05: reference=ema averages models"),
        ("lora.rank=4 reference@opponent=sync", "opponent.sync_rate=0.6: reference=sync averages models"),
        ("lora.rank=4 controls.other.reference=sync", "controls.other.sync_rate=0.6: reference=sync averages models"),
    ],
)
def test_what_adapters_cannot_do_is_refused_with_the_fix(override: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        config(*override.split())


def test_a_reference_may_follow_the_policy_in_whole_steps() -> None:
    assert config("lora.rank=4", "reference@policy=sync", "policy.sync_rate=1").policy.sync_rate == 1
    assert config("reference@policy=ema").policy.ema_rate == 0.05
