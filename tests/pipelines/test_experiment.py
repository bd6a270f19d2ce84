import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.configuration import ConfigurationError
from pipelines.experiment import Experiment, build
from pipelines.plan import Plan, Stage
from tests.pipelines.compose import CONF, experiment
from tests.pipelines.folders import at_paper_scale, sets, weights


def names(plan: Plan, kind: str) -> set[str]:
    return {stage.name for stage in plan if stage.kind == kind}


def by_name(built: Experiment) -> dict[str, Stage]:
    return {stage.name: stage for stage in built.plan}


def changed(*overrides: str) -> set[str]:
    """Names of the stages of the default experiment that an override makes anew."""
    before, after = by_name(experiment()), by_name(experiment(*overrides))
    return {name for name, stage in after.items() if name in before and stage.fingerprint != before[name].fingerprint}


def kinds(changed_names: set[str]) -> set[str]:
    return {name.split()[0] for name in changed_names}


def test_the_rows_are_the_ingredients_the_soup_both_arms_and_the_controls() -> None:
    rows = experiment().rows
    assert [row.name for row in rows] == ["SFT1", "SFT2", "soup", "PPO", "SALSA", "ref SFT2", "start+ref soup"]


def test_a_stage_comes_after_its_inputs() -> None:
    seen: set[str] = set()
    for stage in experiment().plan:
        assert set(stage.inputs.values()) <= seen
        seen.add(stage.fingerprint)


def test_another_kl_coefficient_trains_only_the_policies_again() -> None:
    made_anew = changed("policy.kl_coef=.1")
    assert {name for name in made_anew if name.startswith("align")} == {
        "align PPO",
        "align SALSA",
        "align ref SFT2",
        "align start+ref soup",
    }
    assert kinds(made_anew) == {"align", "respond", "judge", "anchors", "tax", "report"}
    assert not any(name.startswith("respond SFT") for name in made_anew)


def test_the_baseline_does_not_depend_on_alpha() -> None:
    made_anew = changed("soup.alpha=.25")
    assert "align PPO" not in made_anew
    assert {"soup", "align SALSA"} <= made_anew
    assert not {"preferences", "reward", "respond PPO: single", "judge PPO: single"} & made_anew


def test_alpha_zero_is_ppo_and_alpha_one_is_the_other_model() -> None:
    zero, one = experiment("soup.alpha=0"), experiment("soup.alpha=1")
    models = {row.name: row.model.fingerprint for row in zero.rows}
    assert models["SALSA"] == models["PPO"]
    assert models["soup"] == models["SFT1"]
    models = {row.name: row.model.fingerprint for row in one.rows}
    assert models["SALSA"] == models["ref SFT2"]
    assert models["soup"] == models["SFT2"]


def soup_of(*overrides: str) -> Stage:
    return next(row.model for row in experiment(*overrides).rows if row.name == "soup")


def test_recipes_of_one_model_are_one_artifact() -> None:
    line = soup_of()
    assert soup_of("soup=uniform", "soup.ingredients=2") == line
    assert soup_of("soup=weighted", "soup.weights=[.5,.5]") == line
    assert soup_of("soup=weighted", "soup.weights=[.5,.5,0]") == line
    assert soup_of("soup=liti", "soup.merge=uniform", "soup.eta=1") == line
    assert soup_of("soup=task_arithmetic", "soup.scales=[.5,.5]") == line
    assert soup_of("soup=task_arithmetic", "soup.scales=[0,1]").name == "sft_2"
    assert soup_of("soup=uniform", "soup.ingredients=1").name == "sft_1"
    assert soup_of("soup=liti", "soup.merge=uniform", "soup.eta=0").name == "base"
    assert soup_of("soup=liti", "soup.eta=0").name == "base"
    assert soup_of("soup=liti", "soup.eta=1") == soup_of("soup=slerp")
    assert soup_of("soup=slerp", "soup.share=1").name == "sft_2"
    assert soup_of("soup=weighted", "soup.weights=[0,0,1]").name == "sft_3"
    assert list(soup_of("soup=weighted", "soup.weights=[.5,0,.5]").inputs) == ["ingredient_1", "ingredient_3", "base"]


def test_a_soup_has_as_many_ingredients_as_its_recipe_asks_for() -> None:
    built = experiment("soup=uniform", "soup.ingredients=4")
    assert [row.name for row in built.rows[:5]] == ["SFT1", "SFT2", "SFT3", "SFT4", "soup"]
    weights = soup_of("soup=uniform", "soup.ingredients=4").config["weights"]
    assert weights == [0.25] * 4
    shared = {stage.name: stage.fingerprint for stage in experiment().plan}
    assert all(
        shared.get(stage.name, stage.fingerprint) == stage.fingerprint for stage in built.plan if stage.kind == "sft"
    )


def test_a_greedy_soup_by_reward_needs_the_reward_model_and_one_by_loss_does_not() -> None:
    assert "reward" in soup_of("soup=greedy", "soup.by=reward").inputs
    assert "reward" not in soup_of("soup=greedy").inputs


def points(*overrides: str) -> set[str]:
    return {stage.fingerprint for stage in experiment(*overrides).plan if stage.kind == "point"}


def test_a_finer_or_wider_landscape_only_adds_points() -> None:
    line = points("landscape=line")
    assert line < points("landscape=line", "landscape.intervals=20")
    assert line < points("landscape=line", "landscape.beyond=1")
    plane = points("landscape=plane")
    assert line < plane < points("landscape=plane", "landscape.plane_intervals=8")


def test_a_line_has_the_same_points_from_both_ends() -> None:
    there, back = (f"landscape.models=[{models}]" for models in ("sft_1,sft_2", "sft_2,sft_1"))
    assert points("landscape=line", there) == points("landscape=line", back)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["landscape.models=[soup,sft_1]", "soup.alpha=0"], "SFT1 is soup; name models that differ"),
        (["landscape.models=[sft_1,soup,sft_2]"], "the soup lies on the line between the others"),
    ],
)
def test_models_that_span_nothing_are_refused_before_anything_runs(overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        experiment("landscape=line", *overrides)


def test_heldout_demonstrations_are_those_of_the_demonstrations_authors() -> None:
    mix = [0.0, 0.0, 0.0, 1.0]
    built = experiment("landscape=line", f"data.author_mix={mix}", "soup=greedy")
    for stage in built.plan:
        if stage.kind in ("point", "soup"):
            assert stage.config["data"]["author_mix"] == mix


def test_a_landscape_leaves_the_experiment_alone() -> None:
    assert changed("landscape=plane") == set()
    assert experiment("landscape=plane").report == experiment().report


def test_points_of_a_line_are_those_of_an_edge_of_the_plane() -> None:
    plane = experiment("landscape=plane", "landscape.intervals=4")
    names = [stage.name for stage in plane.plan if stage.kind == "point"]
    assert len(names) == len(set(names))
    assert plane.landscape is not None
    edges = [row for row in plane.landscape.config["plane"] if row["weights"][2] == 0]
    line = {tuple(row["weights"]): row["point"] for row in plane.landscape.config["line"]}
    assert all(line[tuple(row["weights"][:2])] == row["point"] for row in edges)


def test_a_landscape_runs_through_any_models_and_names_those_there_are() -> None:
    built = experiment("landscape=line", "landscape.models=[opponent,policy]", "landscape.policies=false")
    assert built.landscape is not None
    assert built.landscape.config["models"] == ["PPO", "SALSA"]
    with pytest.raises(
        ConfigurationError, match=r"there are sft_1, sft_2, \.\.\., base, soup, opponent, policy, other"
    ):
        experiment("landscape=line", "landscape.models=[sft_1,nobody]")


def test_the_same_stage_is_planned_once() -> None:
    assert len(names(experiment("soup.alpha=0").plan, "align")) == 2


def test_another_replicate_shares_the_base_and_nothing_above_it() -> None:
    made_anew = changed("replicate=1")
    assert "base" not in made_anew
    assert {"sft_1", "sft_2", "preferences", "reward", "align PPO"} <= made_anew


def test_how_it_is_executed_is_not_identity() -> None:
    overrides = ("compute.workers=0", "compute.threads=4", "compute.micro_batch_tokens=512", "logger=none")
    assert changed(*overrides, "outputs.dir=elsewhere", "compute.checkpoint_seconds=1") == set()


def test_training_does_not_depend_on_the_suites_or_the_judge() -> None:
    assert kinds(changed("suite.prompts=50")) == {"respond", "judge", "report"}
    assert kinds(changed("judge.tie_margin=.5")) == {"report"}


def test_a_family_changes_everything() -> None:
    assert "base" in changed("model=mistral")


def test_kl_is_measured_at_temperature_one_whatever_replies_are_judged_at() -> None:
    stages = by_name(experiment("generation.temperature=.7"))
    assert stages["respond SFT1: single"].config["generation"]["temperature"] == 0.7
    (replies,) = [stage for name, stage in stages.items() if name.startswith("respond SFT1: validation")]
    assert replies.config["generation"]["temperature"] == 1.0
    assert stages["anchors SFT1"].inputs["replies"] == replies.fingerprint


def test_the_second_reward_model_is_no_relative_of_the_soup(tmp_path: Path) -> None:
    config = at_paper_scale(weights(tmp_path / "weights"), sets(tmp_path / "sets"))
    stages = by_name(build(config, {}))
    assert stages["reward_judge"].inputs["start"] == stages["base"].fingerprint
    assert stages["reward"].inputs["start"] == stages["sft_1"].fingerprint


def test_a_guard_that_stops_or_warns_decides_nothing_and_one_that_skips_does() -> None:
    assert changed("policy.guards.kl.limit=7", "policy.guards.entropy.action=stop") == set()
    assert "align SALSA" in changed("policy.guards.kl.action=skip")
    assert "align SALSA" in changed("policy.guards.non_finite=skip")


def test_fingerprints_do_not_drift() -> None:
    """A changed value here orphans every store there is: raise a version, or add a first value, instead."""
    stages = by_name(experiment())
    assert {name: stages[name].fingerprint[:16] for name in ("base", "sft_1", "soup", "reward", "align PPO")} == GOLDEN


GOLDEN = {
    "base": "221ec2441307a045",
    "sft_1": "caf59194418c4094",
    "soup": "52413ea3fdcc7453",
    "reward": "92a3821ced4115a5",
    "align PPO": "f144e1c3c34cc5c1",
}


def test_a_plan_survives_the_way_to_another_process() -> None:
    plan = experiment().plan
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert [(stage.name, stage.fingerprint) for stage in again] == [(stage.name, stage.fingerprint) for stage in plan]
    assert all(stage.identified().fingerprint == stage.fingerprint for stage in again)


def test_planning_imports_no_torch() -> None:
    code = (
        "import sys\nfrom tests.pipelines.compose import experiment\nexperiment()\n"
        "assert not {'torch', 'transformers', 'lightning', 'wandb'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CONF.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
