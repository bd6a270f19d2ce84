"""Studies of which something failed: what is left out, what is reported, and what is said of it."""

from collections.abc import Sequence

import pytest

from pipelines.configuration import Config
from pipelines.plan import Stage
from pipelines.study.cells import Study
from pipelines.study.gaps import Cell, Loss, gaps
from pipelines.study.settings import SELECTION_REPLICATES
from salsa.store.fingerprint import file_digest
from tests.pipelines.compose import config

SMALL = (
    "study.replicates=4",
    "study.selection_replicates=2",
    "study.coefficients=[.1,.4]",
    "study.families=[llama2]",
    "study.suites=[single]",
)
CHOSEN = dict.fromkeys([("llama2", arm) for arm in ("PPO", "SALSA", "ref SFT2", "start+ref soup")], 0.1)


def study(name: str = "table_1") -> Study:
    def compose(arm: Sequence[str]) -> Config:
        return config(*arm)

    return Study(config(f"study={name}", *SMALL), compose, file_digest)


def stage(planned: Study, name: str) -> Stage:
    return next(each for each in planned.plan if each.name == name)


def test_a_coefficient_that_failed_cannot_be_chosen_and_is_named() -> None:
    made = study()
    made.selection()
    broken = stage(made, f"align PPO llama2/{SELECTION_REPLICATES} at 0.1")
    selected = made.selection({broken.fingerprint: Loss(broken.name, "too far")})
    assert selected["llama2", "PPO"].config["grid"] == [0.4]
    assert selected["llama2", "SALSA"].config["grid"] == [0.1, 0.4]
    assert broken.fingerprint not in {each.fingerprint for each in made.plan.reaching(selected.values())}
    assert made.refused == {"coefficient 0.1 of PPO (llama2) could not be chosen": Loss(broken.name, "too far")}


def test_a_replicate_for_choosing_that_lacks_sft1_is_done_without() -> None:
    made = study()
    made.selection()
    broken = next(
        each for each in made.plan if each.name == "sft_1" and each.config["replicate"] == SELECTION_REPLICATES
    )
    selected = made.selection({broken.fingerprint: Loss(broken.name, "too far")})
    assert len(selected) == 4
    for each in selected.values():
        assert (each.config["replicates"], each.config["grid"]) == (1, [0.1, 0.4])
        assert set(each.inputs) == {"sft_0", "c0_r0", "c1_r0"}
    (said,) = made.refused
    assert said == f"replicate {SELECTION_REPLICATES} of llama2 is left out of the choice of coefficients"


def test_why_something_failed_is_told_and_no_part_of_what_a_study_is() -> None:
    prints = set()
    for reason in ("too far", "too far (not tried again)"):
        made = study()
        made.reporting(CHOSEN, {})
        broken = stage(made, "align SALSA llama2/2 at 0.1")
        tables = made.reporting(CHOSEN, {}, {broken.fingerprint: Loss(broken.name, reason)})
        assert tables is not None
        assert tables.execution["reasons"] == {broken.name: reason}
        prints.add(tables.fingerprint)
    assert len(prints) == 1


def test_a_study_tells_its_readers_the_settings_of_its_cells_and_nothing_of_rules() -> None:
    tables = study().reporting(CHOSEN, {})
    assert tables is not None
    told = tables.execution["made_with"]
    assert told["arms"]["SALSA"] == ["reference@policy=soup"]
    assert told["families"]["llama2"]["sft"]["demonstrations"] == 200
    assert not {"kl_coef", "rewards", "reference"} & set(told["families"]["llama2"]["policy"])


def test_a_replicate_that_lacks_an_arm_is_left_out_of_all() -> None:
    made = study()
    made.reporting(CHOSEN, {})
    broken = stage(made, "align SALSA llama2/2 at 0.1")
    made.selection()
    tables = made.reporting(CHOSEN, {}, {broken.fingerprint: Loss(broken.name, "too far")})
    assert tables is not None
    assert {model["replicate"] for model in tables.config["models"]} == {0, 1, 3}
    (gap,) = tables.config["missing"]
    assert gap == {"family": "llama2", "replicate": 2, "arm": None, "stage": broken.name}
    assert tables.config["warnings"] == [
        "replicates left out of all rows, because arms are compared within a replicate: 2"
    ]
    assert broken.fingerprint not in {each.fingerprint for each in made.plan.reaching([tables])}


def test_what_fails_below_a_model_takes_the_model_with_it() -> None:
    made = study()
    made.reporting(CHOSEN, {})
    broken = next(each for each in made.plan if each.kind == "reward" and each.config["replicate"] == 1)
    tables = made.reporting(CHOSEN, {}, {broken.fingerprint: Loss(broken.name, "too far")})
    assert tables is not None
    assert {model["replicate"] for model in tables.config["models"]} == {0, 2, 3}


@pytest.mark.parametrize(("arm", "left"), [("ref SFT2", True), ("SALSA", False)])
def test_an_arm_that_fails_in_most_replicates_is_left_out_if_the_main_question_stands(arm: str, left: bool) -> None:
    made = study()
    made.reporting(CHOSEN, {})
    failed = {
        each.fingerprint: Loss(each.name, "too far")
        for each in made.plan
        if each.name in {f"align {arm} llama2/{replicate} at 0.1" for replicate in (0, 1, 2)}
    }
    tables = made.reporting(CHOSEN, {}, failed)
    assert (tables is not None) is left
    if tables is not None:
        assert arm not in tables.config["arms"]
        assert tables.config["asks"] == [["SALSA", "PPO"], ["start+ref soup", "PPO"]]
        assert [claim["asks"] for claim in tables.config["paper"]["claims"]] == [[]]
        assert {model["replicate"] for model in tables.config["models"]} == {0, 1, 2, 3}
        assert {gap["arm"] for gap in tables.config["missing"]} == {arm}
        assert tables.config["warnings"] == [f"{arm} is left out: it failed in most replicates of a family"]


def test_of_a_front_only_the_coefficient_that_failed_is_missing() -> None:
    made = study("frontier")
    made.reporting({}, {})
    broken = stage(made, "align SALSA llama2/2 at 0.1")
    tables = made.reporting({}, {}, {broken.fingerprint: Loss(broken.name, "too far")})
    assert tables is not None
    kept = [(model["arm"], model["coefficient"]) for model in tables.config["models"] if model["replicate"] == 2]
    assert ("SALSA", 0.4) in kept
    assert ("PPO", 0.1) in kept
    assert ("SALSA", 0.1) not in kept
    assert tables.config["missing"] == [{"family": "llama2", "replicate": 2, "arm": "SALSA", "stage": broken.name}], (
        "the replicate is there at other coefficients"
    )


def test_of_soups_before_rl_a_replicate_is_left_out() -> None:
    made = study("reward_line")
    made.reporting({}, {})
    broken = next(each for each in made.plan if each.kind == "sft" and each.config["replicate"] == 3)
    tables = made.reporting({}, {}, {broken.fingerprint: Loss(broken.name, "too far")})
    assert tables is not None
    assert {model["replicate"] for model in tables.config["models"]} == {0, 1, 2}


FAMILIES = ("llama2", "gemma")
NEEDED = {"SFT1", "PPO", "SALSA"}


def cells(*failed: tuple[str, str, int]) -> list[Cell]:
    return [
        Cell(family, arm, replicate, Loss("x", "y") if (family, arm, replicate) in failed else None)
        for family in FAMILIES
        for arm in ("SFT1", "PPO", "SALSA", "control")
        for replicate in range(4)
    ]


def test_an_arm_that_fails_in_one_family_is_left_out_of_all() -> None:
    found = gaps(cells(*(("gemma", "control", replicate) for replicate in (0, 1, 2)), ("llama2", "PPO", 3)), NEEDED)
    assert (found.families, found.arms, found.replicates) == (set(), {"control"}, {3})


def test_a_family_without_an_arm_of_the_main_question_is_left_out() -> None:
    found = gaps(cells(*(("gemma", "PPO", replicate) for replicate in (0, 1, 2))), NEEDED)
    assert (found.families, found.arms, found.replicates) == ({"gemma"}, set(), set())
    assert gaps(cells(), NEEDED, {("gemma", "SALSA")}).families == {"gemma"}


def test_an_arm_without_a_coefficient_costs_no_replicate() -> None:
    found = gaps(cells(("gemma", "control", 3)), NEEDED, {("llama2", "control")})
    assert (found.families, found.arms, found.replicates) == (set(), {"control"}, set())


def test_half_of_the_replicates_are_not_most() -> None:
    found = gaps(cells(*(("gemma", "control", replicate) for replicate in (0, 1))), NEEDED)
    assert (found.families, found.arms, found.replicates) == (set(), set(), {0, 1})


def test_nothing_is_left_out_where_nothing_failed() -> None:
    found = gaps(cells(), NEEDED)
    assert (found.families, found.arms, found.replicates, found.missing) == (set(), set(), set(), [])
    whole = study().reporting(CHOSEN, {})
    assert whole is not None
    assert (whole.config["missing"], whole.config["warnings"]) == ([], [])
