from pathlib import Path
from typing import Any

from salsa.report.compendium import studies
from salsa.report.compendium.contents import STUDY, Result
from tests.report.study import examples


def study(number: int, published: float = 0.0, **parts: Any) -> Result:
    told = examples.study(**parts) | {"drawn": {}}
    return Result(STUDY, f"{number:064x}", told, Path("x"), {}, published)


def test_the_claim_comes_first_and_of_one_name_the_largest_then_the_newest() -> None:
    found = [
        study(1, study="zebra"),
        study(2, study="cost"),
        study(3, 5.0, study="table_1", replicates=3),
        study(4, 6.0, study="table_1", replicates=16),
        study(5, 7.0, study="table_1", replicates=16),
        study(6, study="alpha_ablation"),
    ]
    assert [int(each.fingerprint, 16) for each in studies.ordered(found)] == [5, 4, 3, 6, 2, 1]


def test_studies_of_one_name_are_labelled_by_what_differs() -> None:
    settings = {"families": ["llama2"], "judge": "gold"}
    found = [
        study(1, replicates=16, regime="V1", settings=settings),
        study(2, replicates=16, regime="mild", settings=settings),
        study(3, replicates=16, regime="V1", settings=settings | {"families": ["gemma", "mistral"]}),
        study(4, study="cost"),
    ]
    labels = studies.variants(found)
    assert [labels[each.fingerprint] for each in found] == [
        "regime V1, llama2",
        "regime mild, llama2",
        "regime V1, gemma + mistral",
        "",
    ]


def test_what_an_older_study_does_not_tell_is_no_difference() -> None:
    found = [study(1, regime="V1"), study(2, regime="mild", settings={"temperature": 1.0})]
    assert list(studies.variants(found).values()) == ["regime V1", "regime mild"]


def test_studies_of_equal_settings_are_told_apart_by_their_dates() -> None:
    found = [study(1, 1e9), study(2, 2e9)]
    labels = list(studies.variants(found).values())
    assert len(set(labels)) == 2
    assert labels[0].startswith("2001-09-0")


def test_a_verdict_for_the_second_is_decided_too() -> None:
    assert studies.state({"sentence": "", "decided": "second"}) == studies.DECIDED
    assert studies.state({"sentence": "", "decided": None}) == studies.OPEN
    assert studies.state(None) == studies.OPEN


def test_versions_are_studies_that_are_described_alike() -> None:
    settings = {"families": ["llama2"], "temperature": 1.0}
    made = {"families": {"llama2": {"sft": {"steps": 240}, "policy": {"steps": 32}}}, "arms": {}}
    found = [
        study(1, 5.0, settings=settings),
        study(2, 7.0, settings=settings | {"prompts": {"single": 300}}, made_with=made),
        study(3, 6.0, settings=settings, title="Another title"),
        study(4, 8.0, settings=settings | {"temperature": 0.0}),
        study(5, 9.0, settings=settings, study="cost"),
        study(6, 1.0, settings=settings, regime="mild"),
    ]
    groups = [[int(each.fingerprint, 16) for each in group] for group in studies.versions(found)]
    assert groups == [[2, 3, 1], [4], [5], [6]]
    small = {"families": {"llama2": {"sft": {"steps": 240}, "policy": {"steps": 2}}}, "arms": {}}
    other = study(7, settings=settings | {"prompts": {"single": 300}}, made_with=small)
    assert len(studies.versions([found[1], other])) == 2, "of another budget"
