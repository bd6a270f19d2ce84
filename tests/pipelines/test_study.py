"""The two plans of a study: what is shared, what is kept apart, and what is refused."""

import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest

from pipelines.configuration import Config, ConfigurationError
from pipelines.plan import Stage
from pipelines.study.cells import Study
from pipelines.study.settings import SELECTION_REPLICATES
from salsa.store.fingerprint import file_digest
from tests.pipelines.compose import config

SMALL = ("study.replicates=2", "study.selection_replicates=2", "study.coefficients=[.1,.4]", "study.families=[llama2]")


@cache
def planned(name: str, *overrides: str) -> tuple[Study, dict[tuple[str, str], Stage], Stage]:
    """A study with both plans, as if every arm had chosen the coefficient .1."""
    settings = (f"study={name}", *SMALL, *overrides)
    own = [text for text in overrides if not text.startswith("study")]

    def compose(arm: Sequence[str]) -> Config:
        return config(*own, *arm)

    study = Study(config(*settings), compose, file_digest)
    selected = study.selection()
    cells = [(family, arm) for family in study.settings.families for arm in study.settings.arms]
    return study, selected, study.reporting(dict.fromkeys(cells, 0.1), selected)


def replicates(study: Study, kind: str) -> Counter[int]:
    return Counter(stage.config["replicate"] for stage in study.plan if stage.kind == kind)


def test_coefficients_are_chosen_on_replicates_and_prompts_that_are_not_reported() -> None:
    study, selected, tables = planned("table_1")
    chooses, reports = set(range(SELECTION_REPLICATES, SELECTION_REPLICATES + 2)), {0, 1}
    assert set(replicates(study, "sft")) == chooses | reports
    trained = Counter(
        (stage.config["replicate"], stage.config["kl_coef"]) for stage in study.plan if stage.kind == "align"
    )
    assert trained == Counter({**{(r, c): 4 for r in chooses for c in (0.1, 0.4)}, **{(r, 0.1): 4 for r in reports}})
    for stage in selected.values():
        judged = [study.plan[identity] for identity in stage.inputs.values()]
        assert {each.config["suite"] for each in judged} == {"validation"}
        assert stage.config["grid"] == [0.1, 0.4]
    judged = [study.plan[identity] for role, identity in tables.inputs.items() if ":judge:" in role]
    assert {each.config["suite"] for each in judged} == {"single", "two_turn", "hard", "unseen"}


def test_arms_of_a_replicate_share_everything_below_them() -> None:
    study, _, _ = planned("table_1")
    kinds = Counter(stage.kind for stage in study.plan)
    assert kinds["base"] == 1
    assert kinds["reward"] == kinds["preferences"] == 4
    assert kinds["sft"] == 2 * 4


def test_alpha_0_is_ppo_and_alpha_1_is_the_other_model() -> None:
    first, _, _ = planned("table_1")
    second, _, tables = planned("alpha_ablation")
    shared = {stage.fingerprint for stage in first.plan if stage.kind == "align"}
    ablation = {stage.fingerprint for stage in second.plan if stage.kind == "align"}
    assert shared <= ablation
    assert len(ablation - shared) == 2 * 6  # alpha = .25 and .75: two replicates at two coefficients, two at one
    assert tables.config["places"]["ref SFT2"] == 1.0


def test_kl_is_measured_to_the_same_anchors_for_all_arms() -> None:
    study, _, tables = planned("soup_n")
    anchors = [study.plan[identity] for role, identity in tables.inputs.items() if role.endswith(":anchors")]
    for stage in anchors:
        assert stage.inputs["anchor_soup"] in {
            each.fingerprint for each in study.plan if each.kind == "soup" and each.config["weights"] == [0.5, 0.5]
        }
    by_replicate = {stage.inputs["anchor_soup"] for stage in anchors}
    assert len(by_replicate) == 2


def test_replies_may_be_judged_at_another_temperature_without_training_anew() -> None:
    usual, _, _ = planned("table_1")
    greedy, _, tables = planned("table_1", "suite.temperature=0")

    def of(study: Study, kinds: set[str]) -> set[str]:
        return {stage.fingerprint for stage in study.plan if stage.kind in kinds}

    assert of(greedy, {"align", "select", "anchors"}) == of(usual, {"align", "select", "anchors"})
    taken = {
        (stage.config["suite"], stage.config["generation"]["temperature"])
        for stage in greedy.plan
        if stage.kind == "respond"
    }
    assert {suite for suite, temperature in taken if temperature == 0} == {"single", "two_turn", "hard", "unseen"}
    assert {suite for suite, temperature in taken if temperature == 1} == {"validation"}
    assert tables.config["temperature"] == 0


def test_one_coefficient_needs_no_choice() -> None:
    study, selected, tables = planned("table_1", "study.coefficients=[.1]")
    assert selected == {}
    assert not [role for role in tables.inputs if role.startswith("select")]
    assert set(replicates(study, "align")) == {0, 1}


def test_a_study_may_report_suites_of_its_own() -> None:
    study, _, tables = planned("out_of_distribution")
    assert tables.config["suites"] == ["unseen"]
    assert {stage.config["suite"] for stage in study.plan if stage.kind == "judge"} == {"unseen", "validation"}


def test_what_an_arm_needs_besides_sft1_is_told() -> None:
    study, _, tables = planned("alpha_ablation")
    by_print = {stage.fingerprint[:16]: stage for stage in study.plan}
    named = {
        model["arm"]: sorted(by_print[each].name for each in model["besides"])
        for model in tables.config["models"]
        if "besides" in model
    }
    assert named["PPO"] == []
    assert named["SALSA"] == named["start+ref soup"] == ["sft_2", "soup"]
    assert named["ref SFT2"] == ["sft_2"]


def test_a_study_is_plain_values() -> None:
    _, _, tables = planned("table_1")
    assert json.loads(json.dumps(tables.config)) == tables.config
    models: list[dict[str, Any]] = tables.config["models"]
    assert len({model["key"] for model in models}) == len(models) == 2 * (2 + 4)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("study.baseline=nobody", "study.baseline=nobody: is neither an arm nor SFT1; there are PPO, SALSA"),
        ("study.asks=[]", "study.asks=[]: name at least one pair of arms"),
        ("study.asks=[[SALSA,SALSA]]", "study.asks=['SALSA', 'SALSA']: a question is two different arms"),
        ("study.asks=[[SALSA,nobody]]", "study.asks=['SALSA', 'nobody']: a question is two different arms"),
        ("study=frontier study.baseline=SFT1", "study.baseline=SFT1: has no front, because nothing trains it"),
        ("study=frontier study.asks=[[SALSA,SFT1]]", "study.asks=['SALSA', 'SFT1']: a question is two different arms"),
        (
            "study=frontier study.paper.claims=[{claim:x,asks:[[SALSA,PPO]]}]",
            "claims about pairs of arms are compared in a comparison",
        ),
        ("study.families=[]", "study.families=[]: name at least one"),
        ("study.coefficients=[.1,.1]", "study.coefficients=[0.1, 0.1]: names one twice"),
        ("study.coefficients=[-1]", "study.coefficients=-1.0: must not be negative"),
        ("suite.temperature=-1", "suite.temperature=-1.0: must not be negative"),
        ("study.replicates=0", "study.replicates=0: must be at least 1"),
        ("study.replicates=1001", "study.replicates=1001: must be at most 1000"),
    ],
)
def test_values_that_cannot_work_are_named(override: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        config(*({"study": "study=table_1"} | {text.split("=")[0]: text for text in override.split()}).values())
    assert says in str(error.value)


def test_regimes_change_the_fine_tuning_alone() -> None:
    plain, d, mild = (config(*regime) for regime in ((), ("regime=d",), ("regime=mild",)))
    assert (plain.regime.name, d.regime.name, mild.regime.name) == ("V1", "D", "mild")
    assert (d.sft.demonstrations, d.sft.steps, mild.sft.demonstrations) == (400, 120, 2000)
    assert mild.sft.optimiser.learning_rate == 4e-3
    assert d.policy.steps == plain.policy.steps
