"""The jobs of a multirun are what Hydra would make of them, only sooner."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf, open_dict

from pipelines.configuration import Config
from pipelines.jobs import Composer, Job, plan_jobs
from pipelines.schema import parse, register
from tests.pipelines.compose import CONF

OVERRIDES = {
    "model": ["llama2", "gemma"],
    "reference@policy": ["sft", "base"],
    "policy.kl_coef": ["0.1", "0.3"],
    "opponent.kl_coef": ["${policy.kl_coef}", "2"],
    "soup.alpha": ["0.25", "1"],
    "suite.names": ["[single]", "[two_turn,hard]"],
    "policy.init": ["soup"],
    "~controls.other": [""],
    "seed": ["3", "4", "5"],
    "scale.align.batch_prompts": ["32", "64", "128"],
    "policy.betas": ["[0.8,0.9]", "[0.9,0.95]"],
    "policy.kl_target": ["null", "0.5"],
}
GROUPS = ("model", "reference@policy")


@pytest.fixture(scope="module")
def master() -> Iterator[tuple[Any, DictConfig]]:
    register()
    OmegaConf.register_new_resolver("launch_id", lambda: "test", replace=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=["judge.rounds=200"], return_hydra_config=True)
        with open_dict(config):
            config.hydra.overrides.hydra = ["hydra.mode=MULTIRUN"]
            config.hydra.mode = RunMode.MULTIRUN
        yield GlobalHydra.instance().config_loader(), config


def by_hydra(loader: Any, config: DictConfig, overrides: list[str]) -> Config:
    cfg = loader.load_sweep_config(config, overrides)
    with open_dict(cfg):
        del cfg["hydra"]
    return parse(cfg)


@st.composite
def jobs(draw: st.DrawFn) -> list[str]:
    chosen = draw(st.lists(st.sampled_from(list(OVERRIDES)), unique=True))
    texts = []
    for key in chosen:
        value = draw(st.sampled_from(OVERRIDES[key]))
        texts.append(f"{key}={value}" if value else key)
    return texts


@st.composite
def alike(draw: st.DrawFn) -> list[list[str]]:
    """Jobs that choose the same groups and set the same keys, most of them to different values."""
    first = draw(jobs())
    keys = [text.split("=")[0] for text in first]

    def another() -> list[str]:
        return [
            text if key in GROUPS or not OVERRIDES[key][0] else f"{key}={draw(st.sampled_from(OVERRIDES[key]))}"
            for key, text in zip(keys, first, strict=True)
        ]

    return [first, *(another() for _ in range(draw(st.integers(0, 3))))]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=alike())
def test_jobs_are_composed_as_hydra_does(master: tuple[Any, DictConfig], asked: list[list[str]]) -> None:
    loader, config = master
    composer = Composer(loader, config)
    found = [composer.compose(overrides) for overrides in asked]
    assert found[-1] == by_hydra(loader, config, asked[-1])


def test_a_template_reads_again_what_follows_from_the_values(master: tuple[Any, DictConfig]) -> None:
    composer = Composer(*master)
    for kl_coef, prompts in ((0.1, 32), (0.2, 64), (0.3, 96), (0.4, 32)):
        config = composer.compose(
            [f"policy.kl_coef={kl_coef}", f"scale.align.batch_prompts={prompts}", "policy.lam=.5"]
        )
        assert [arm.kl_coef for arm in config.arms().values()] == [kl_coef] * 4
        assert [arm.batch_prompts for arm in config.arms().values()] == [prompts] * 4
        assert [arm.lam for arm in config.arms().values()] == [0.5] * 4
    before = config.policy
    config.policy.rewards.rules["own"] = {}
    assert composer.compose(["policy.kl_coef=1", "scale.align.batch_prompts=32", "policy.lam=.5"]).policy != before


def test_an_element_of_a_list_is_a_value_too(master: tuple[Any, DictConfig]) -> None:
    composer = Composer(*master)
    for name in ("validation", "single", "validation"):
        assert composer.compose([f"suite.names.0={name}", "seed=1"]).suite.names == [name, "two_turn", "hard", "unseen"]


def planned(master: tuple[Any, DictConfig], *overrides: list[str]) -> list[Job]:
    loader, config = master
    return plan_jobs([overrides], config, loader, lambda _: None)


def test_one_job_leaves_no_trace_in_the_next(master: tuple[Any, DictConfig]) -> None:
    first, second, third = planned(master, ["policy.kl_coef=0.9"], ["soup.alpha=0.5"], ["policy.kl_coef=0.9"])
    assert first.experiment is not None
    assert second.experiment is not None
    assert third.experiment is not None
    assert first.experiment.report == third.experiment.report
    assert first.experiment.report.fingerprint != second.experiment.report.fingerprint
    assert second.config is not None
    assert second.config.policy.kl_coef == 0.4


def test_the_swept_keys_are_those_that_differ_with_their_types(master: tuple[Any, DictConfig]) -> None:
    common = ["suite.prompts=8", "worker=0"]
    one, two = planned(
        master,
        [*common, "model=gemma", "soup.alpha=0.5", "suite.names=[single]"],
        ["suite.prompts=8", "worker=1", "model=llama2", "soup.alpha=1", "suite.names=[hard,single]"],
    )
    assert one.keys == {"model": "gemma", "soup.alpha": 0.5, "suite.names": "['single']"}
    assert two.keys == {"model": "llama2", "soup.alpha": 1, "suite.names": "['hard', 'single']"}


def test_workers_are_jobs_of_one_experiment(master: tuple[Any, DictConfig]) -> None:
    one, two = planned(master, ["worker=0"], ["worker=1"])
    assert one.experiment is not None
    assert two.experiment is not None
    assert one.experiment.report.fingerprint == two.experiment.report.fingerprint
    assert one.keys == two.keys == {}


def test_values_may_refer_to_the_jobs_own_choice_of_groups(master: tuple[Any, DictConfig]) -> None:
    name = "model.name=/weights/${hydra:runtime.choices.model}"
    jobs = planned(master, [name, "model=llama2"], [name, "model=gemma"], [name, "model=llama2", "seed=1"])
    assert [job.config.model.name for job in jobs if job.config] == [
        "/weights/llama2",
        "/weights/gemma",
        "/weights/llama2",
    ]


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("policy.kl_coef=-1", "policy.kl_coef must not be negative"),
        ("policy.init=sft_9", "Invalid value 'sft_9'"),
        ("no.such.key=1", "Could not override 'no.such.key'"),
        ("policy.steps=???", "no value for policy.steps"),
        ("soup.alpha=2", "soup.alpha=2.0: is the weight of SFT2"),
    ],
)
def test_a_job_that_cannot_run_says_why_and_the_others_are_planned(
    master: tuple[Any, DictConfig], override: str, reason: str
) -> None:
    good, bad = planned(master, ["seed=1"], [override])
    assert good.experiment is not None
    assert bad.experiment is None
    assert reason in bad.problem


def test_a_value_that_cannot_be_is_told_of_each_of_many_jobs_alike(master: tuple[Any, DictConfig]) -> None:
    asked = [[f"policy.kl_coef={value}", "soup.alpha=.5"] for value in ("0.1", "-1", "word", "0.2", "-1", "0.3")]
    planned_jobs = planned(master, *asked)
    wrong = "policy.kl_coef must not be negative"
    assert [wrong in job.problem for job in planned_jobs] == [False, True, False, False, True, False]
    assert "'word'" in planned_jobs[2].problem
    good = [job.config.policy.kl_coef for job in planned_jobs if job.config is not None]
    assert good == [0.1, 0.2, 0.3]


def test_a_missing_file_is_the_problem_of_its_job(master: tuple[Any, DictConfig], tmp_path: Path) -> None:
    arguments = ["data=files", "judge=reward_model", "suite=files"]
    (job,) = planned(master, [*arguments, f"data.preferences=[{tmp_path}/missing.jsonl]"])
    assert f"data.preferences[0]: no file {tmp_path}/missing.jsonl" in job.problem


def test_nothing_of_hydra_is_left_over() -> None:
    assert not HydraConfig.initialized() or HydraConfig.get().mode is not RunMode.MULTIRUN
