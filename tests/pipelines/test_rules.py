"""Rules in the configuration: how they are given, what they are known by, what is refused before anything runs."""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict

from pipelines import preflight
from pipelines.configuration import ConfigurationError
from pipelines.experiment import build
from pipelines.jobs import plan_jobs
from pipelines.plan import Stage
from pipelines.rules import RuleSettings, identity, load, problem
from pipelines.schema import register
from tests.pipelines.compose import CONF, composed, config, experiment

BRIEF = "policy.rewards.rules.brief={_target_: tests.rules.brief, weight: .5}"


def stages(*overrides: str) -> dict[str, Stage]:
    return {stage.name: stage for stage in experiment(*overrides).plan}


def rule(target: str, **arguments: Any) -> RuleSettings:
    return RuleSettings("policy.rewards.rules.mine", target, 1.0, False, arguments)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of rules in the working directory, which is not where Python looks for modules."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "rules_of_mine.py"
    path.write_text("def short(completions):\n    return [1.0 for _ in completions]\n")
    before = list(sys.path)
    yield path
    sys.path[:] = before
    sys.modules.pop("rules_of_mine", None)


# --- on the command line --------------------------------------------------------------------------------------------


def test_a_rule_is_given_without_a_plus_and_all_arms_follow() -> None:
    given = config(BRIEF)
    expected = {"brief": {"_target_": "tests.rules.brief", "weight": 0.5}}
    assert all(arm.rewards.rules == expected for arm in given.arms().values())


def test_an_arm_has_its_own_rules_beside_the_policys() -> None:
    own = ("opponent.rewards.rules.brief=null", "controls.other.rewards.rules.brief.weight=2")
    more = "controls.soup_start.rewards.rules.quota={_target_: tests.rules.Quota, words: 5}"
    arms = config(BRIEF, *own, more).arms()
    assert arms["opponent"].rewards.rules == {}
    assert arms["policy"].rewards.rules["brief"]["weight"] == 0.5
    assert arms["controls.other"].rewards.rules["brief"] == {"_target_": "tests.rules.brief", "weight": 2}
    assert set(arms["controls.soup_start"].rewards.rules) == {"brief", "quota"}


def test_a_wrong_key_beside_the_rules_is_still_refused() -> None:
    for override in ("policy.rewards.lenght=1", "controls.other.rewards.lenght=1"):
        with pytest.raises(HydraException, match="lenght"):
            composed(override)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("policy.rewards.rules.x={weight: 1}", "policy.rewards.rules.x={'weight': 1}: give a mapping with _target_"),
        ("policy.rewards.rules.x=tests.rules.brief", "policy.rewards.rules.x=tests.rules.brief: give a mapping"),
        ("policy.rewards.rules.x={_target_: brief}", "policy.rewards.rules.x._target_=brief: give the full name"),
        (
            "policy.rewards.rules.x={_target_: a.b, weight: much}",
            "policy.rewards.rules.x.weight=much: must be a number",
        ),
        ("policy.rewards.rules.x={_target_: a.b, weight: inf}", "policy.rewards.rules.x.weight=inf: must be a finite"),
        ("policy.rewards.rules.x={_target_: a.b, normalise: 1}", "rules.x.normalise=1: must be true or false"),
        ("policy.rewards.rules.x={_target_: a.b, _args_: [1]}", "policy.rewards.rules.x._args_=[1]: a rule takes"),
        ("policy.rewards.rules.model={_target_: a.b}", "policy.rewards.rules.model=model: name a rule by"),
        ("opponent.rewards.rules.x={weight: 1}", "opponent.rewards.rules.x={'weight': 1}: give a mapping"),
        ("policy.rewards.model=0", "policy.rewards.model=0.0: no term of the reward has a weight"),
    ],
)
def test_what_cannot_be_a_rule_is_named_with_its_key(override: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        config(override)


# --- identity -------------------------------------------------------------------------------------------------------


def test_a_rule_is_part_of_its_arms_alone() -> None:
    before, after = stages(), stages(BRIEF, "opponent.rewards.rules.brief=null")
    changed = {name for name, stage in after.items() if stage.fingerprint != before[name].fingerprint}
    assert "align SALSA" in changed
    assert not {"align PPO", "reward", "sft_1", "judge PPO: single"} & changed
    assert after["align PPO"].config["rewards"] == {"model": 1.0}


def test_a_rule_of_weight_zero_is_none() -> None:
    idle = BRIEF.replace(".5", "0")
    assert stages(idle)["align SALSA"].fingerprint == stages()["align SALSA"].fingerprint
    with pytest.raises(ConfigurationError, match="no term of the reward has a weight"):
        config(idle, "policy.rewards.model=0")


def test_weight_arguments_and_unit_are_identity() -> None:
    given = "policy.rewards.rules.x={{_target_: tests.rules.Quota, words: {}, weight: {}, normalise: {}}}"
    variants = [(5, 1, "false"), (6, 1, "false"), (5, 2, "false"), (5, 1, "true")]
    found = {stages(given.format(*each))["align SALSA"].fingerprint for each in variants}
    assert len(found) == len(variants)


def test_an_edited_rule_is_another_one(module: Path) -> None:
    given = "policy.rewards.rules.short={_target_: rules_of_mine.short}"
    before = stages(given)["align SALSA"].fingerprint
    assert stages(given)["align SALSA"].fingerprint == before
    module.write_text(module.read_text().replace("1.0", "2.0"))
    assert stages(given)["align SALSA"].fingerprint != before
    assert "rules_of_mine" not in sys.modules, "planning imports no rule"


def test_a_rules_arguments_can_have_targets_whose_sources_count_too(module: Path) -> None:
    known, _ = identity(rule("tests.rules.starts_with", word={"_target_": "rules_of_mine.short"}))
    assert set(known["sources"]) == {"tests.rules", "rules_of_mine"}


def test_an_installed_rule_is_known_by_its_release_too() -> None:
    (source,) = identity(rule("omegaconf.omegaconf.flag_override"))[0]["sources"].values()
    assert set(source) == {"sha256", "omegaconf"}


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (
            "nowhere.brief",
            "policy.rewards.rules.mine._target_=nowhere.brief: there is no module nowhere; it was looked",
        ),
        ("math.fsum", "policy.rewards.rules.mine._target_=math.fsum: the module math has no source"),
    ],
)
def test_a_module_that_is_not_there_or_has_no_source_is_refused(target: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        identity(rule(target))
    with pytest.raises(ConfigurationError, match="PYTHONPATH" if "nowhere" in target else "of your own"):
        build(config(f"policy.rewards.rules.mine={{_target_: {target}}}"), {})


def test_planning_with_a_rule_imports_neither_it_nor_torch() -> None:
    code = (
        "import sys\nfrom tests.pipelines.compose import experiment\n"
        "experiment('policy.rewards.rules.x={_target_: torch.nn.functional.relu}')\n"
        "assert not {'torch', 'transformers', 'lightning'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CONF.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- import ---------------------------------------------------------------------------------------------------------


def test_what_was_planned_is_what_is_called(module: Path) -> None:
    known, folders = identity(rule("rules_of_mine.short"))
    assert folders == [str(module.parent)]
    assert load("key", known, folders)(completions=["a", "b"]) == [1.0, 1.0]
    assert load("key", *identity(rule("tests.rules.Quota", words=1)))(completions=["a"], ended=[True]) == [True]
    bound = load("key", *identity(rule("tests.rules.starts_with", word="b")))
    assert bound(completions=["a", "b"]) == [0.0, 1.0]


def test_a_rule_that_was_edited_after_planning_is_refused_and_read_anew_when_planned_again(module: Path) -> None:
    known, folders = identity(rule("rules_of_mine.short"))
    load("key", known, folders)
    module.write_text(module.read_text().replace("1.0", "2.0"))
    with pytest.raises(ConfigurationError, match=r"key\._target_=rules_of_mine\.short: .* is not the one"):
        load("key", known, folders)
    assert load("key", *identity(rule("rules_of_mine.short")))(completions=["a"]) == [2.0]


def test_another_module_of_the_name_is_refused(module: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    known, folders = identity(rule("rules_of_mine.short"))
    other = tmp_path_factory.mktemp("other")
    (other / module.name).write_text("def short(completions):\n    return []\n")
    sys.path.insert(0, str(other))
    importlib.invalidate_caches()
    with pytest.raises(ConfigurationError, match=f"now found {re.escape(str(other))}"):
        load("key", known, folders)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "import not_installed_anywhere",
            "the module rules_of_mine cannot be imported: ModuleNotFoundError: No module",
        ),
        ("def short(:", "the module rules_of_mine cannot be imported: SyntaxError"),
        ("def shot(completions): ...", "_target_=rules_of_mine.short: "),
        ("short = 3", "_target_=rules_of_mine.short: "),
        ("class short: ...", "objects of this class cannot be called; give it a __call__"),
        ("def short(completions, answer): ...", "rule policy.rewards.rules.mine needs answer"),
        ("def short(questions): ...", "needs questions"),
    ],
)
def test_a_rule_that_cannot_be_used_is_refused_before_anything_runs(module: Path, text: str, says: str) -> None:
    module.write_text(text)
    given = config("policy.rewards.rules.mine={_target_: rules_of_mine.short}")
    (found,) = [each for each in preflight.problems(given) if "rule" in each]
    assert says in found
    assert "policy.rewards.rules.mine" in found


def test_what_can_be_used_is_no_problem(module: Path) -> None:
    assert problem(rule("rules_of_mine.short")) == ""
    assert problem(rule("tests.rules.Quota", words=3)) == ""
    assert problem(rule("tests.rules.starts_with", word="a")) == ""
    assert "needs word" in problem(rule("tests.rules.starts_with"))


def test_a_rule_beside_run_py_is_found_by_a_worker_whatever_its_folder(module: Path, tmp_path: Path) -> None:
    """A worker runs in the project's folder, not in the user's: it is told where the rule was found."""
    known, folders = identity(rule("rules_of_mine.short"))
    code = f"from pipelines.rules import load\nprint(load('key', {known!r}, {folders!r})(completions=['a']))"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CONF.parent, capture_output=True, text=True, check=False, env=environment
    )
    assert done.stdout == "[1.0]\n", done.stderr


# --- plan -----------------------------------------------------------------------------------------------------------


def test_a_rule_is_normalised_by_a_stage_that_arms_share() -> None:
    planned = stages(BRIEF.replace(".5", ".5, normalise: true"))
    (unit,) = [stage for stage in planned.values() if stage.kind == "rule"]
    arms = [stage for stage in planned.values() if stage.kind == "align"]
    assert {stage.inputs["rule_brief"] for stage in arms} == {unit.fingerprint}
    assert unit.inputs == {"normaliser": planned["sft_1"].fingerprint}
    assert not [stage for stage in stages(BRIEF).values() if stage.kind == "rule"]


def test_a_policy_that_is_not_rewarded_by_the_reward_model_does_not_wait_for_it() -> None:
    alone = (BRIEF, "policy.rewards.model=0")
    assert "reward" in stages(*alone)["align SALSA"].inputs, "its critic starts from the reward model"
    assert "reward" not in stages(*alone, "policy.critic=sft")["align SALSA"].inputs
    assert "reward" in stages(*alone, "policy.critic=sft")["judge SALSA: single"].inputs


# --- sweeps -----------------------------------------------------------------------------------------------------------


def test_a_sweep_over_a_rules_weight_plans_what_single_runs_plan(tmp_path: Path) -> None:
    register()
    OmegaConf.register_new_resolver("launch_id", lambda: "test", replace=True)
    outputs = f"outputs.dir={tmp_path}"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        master = compose("config", overrides=[outputs], return_hydra_config=True)
        with open_dict(master):
            master.hydra.mode = RunMode.MULTIRUN
        loader = GlobalHydra.instance().config_loader()
        batch = [[BRIEF, f"policy.rewards.rules.brief.weight={weight}"] for weight in (0.5, 2, 0)]
        jobs = plan_jobs([batch], master, loader, lambda config: None)
    assert [job.problem for job in jobs] == [""] * 3
    assert [job.keys["policy.rewards.rules.brief.weight"] for job in jobs] == [0.5, 2, 0]
    planned = [job.experiment.rows for job in jobs if job.experiment is not None]
    single = [experiment(*overrides).rows for overrides in batch]
    assert [[row.model.fingerprint for row in rows] for rows in planned] == [
        [row.model.fingerprint for row in rows] for rows in single
    ]
    assert len({rows[-1].model.fingerprint for rows in planned}) == 3
