"""What is said of a study as a whole: its models and regime, its arms, and when a verdict is decided."""

from typing import Any

import pytest

from salsa.report.study import arms, minus, reading
from salsa.report.study.schema import leading, others, printable
from tests.report.study import examples

TINY = "tiny models with the architecture of Llama2, Mistral, Gemma (not the published weights)"


def made_with(**parts: Any) -> dict[str, Any]:
    made = examples.made_with()
    return {"arms": made["arms"], "families": {name: told | parts for name, told in made["families"].items()}}


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ("gold", "; judge: the world's gold reward"),
        ("reward_model", "; judge: the reward model that was optimised"),
        ({"name": "gold"}, ""),
    ],
)
def test_small_models_of_the_embedded_world_are_called_that(judge: Any, said: str) -> None:
    study = examples.study(made_with=made_with(), settings={"judge": judge})
    models = f"{TINY}, trained in the embedded world{said}"
    assert reading.about(study) == f"8 replicates  ·  {models}  ·  regime V1: 200 demonstrations, 240 steps"


@pytest.mark.parametrize(
    "other",
    [{"scale": {"name": "paper"}}, {"data": {"name": "ultra"}}, {"data": {"preferences_set": "x"}}],
)
def test_other_models_are_not(other: dict[str, Any]) -> None:
    about = reading.about(examples.study(made_with=made_with(**other)))
    assert about == "8 replicates  ·  scale tiny  ·  regime V1: 200 demonstrations, 240 steps"


def test_data_may_be_told_by_their_name() -> None:
    assert reading.models(examples.study(made_with=made_with(data={"name": "zoo"}))).startswith(TINY)


def test_a_study_that_does_not_tell_what_it_was_made_with_is_shown_without_it() -> None:
    study = examples.study()
    assert reading.about(study) == "8 replicates  ·  scale tiny  ·  regime V1"
    assert arms.arms(study) == {}


def of_arm(*overrides: str, policy: dict[str, Any] | None = None) -> list[tuple[str, bool]]:
    made = made_with(**({} if policy is None else {"policy": policy})) | {"arms": {"an arm": list(overrides)}}
    return [(part.text, part.code) for part in arms.arms(examples.study(made_with=made))["an arm"]]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sft", "SFT1"),
        ("other", "SFT2"),
        ("soup", "the soup"),
        ("mixture", "half the KL to each of SFT1 and SFT2"),
        ("ema", "a moving average of the policy"),
        ("sync", "the policy of some steps ago"),
        ("base", "the base model"),
    ],
)
def test_an_arm_is_told_by_its_reference_and_its_start(name: str, said: str) -> None:
    assert of_arm(f"reference@policy={name}") == [(f"KL reference: {said}", False), ("start: SFT1", False)]


def test_other_overrides_of_an_arm_are_told_as_they_are() -> None:
    assert of_arm("reference@policy=soup", "+policy.init=soup", "soup.alpha=.25", "reference@policy=other") == [
        ("KL reference: SFT2", False),
        ("start: the soup", False),
        ("soup.alpha=.25", True),
    ]
    assert of_arm("reference@policy=new", "policy.init=x") == [("reference@policy=new", True), ("policy.init=x", True)]


def test_an_arm_without_a_reference_has_that_of_the_configuration() -> None:
    assert of_arm("policy.steps=3")[0] == ("KL reference: the soup", False)
    assert of_arm("policy.steps=3", policy={}) == [("start: SFT1", False), ("policy.steps=3", True)]


def test_what_decided_means_is_said_where_there_is_a_verdict() -> None:
    assert list(reading.decided(examples.table_1())) == [
        '"Decided" means that the 95% interval lies on one side and that the p value, where there is one (corrected '
        "where several questions are asked), is at most 0.05."
    ]
    assert list(reading.decided(examples.study())) == []


def test_a_second_verdict_is_shown_large_and_not_again() -> None:
    study = examples.table_1() | {"headline": 1, "second": 3}
    verdicts = study["verdicts"]
    assert leading(study) == [verdicts[1], verdicts[3]]
    assert others(study) == [verdicts[0], verdicts[2], verdicts[4]]
    assert leading(study | {"second": None}) == leading(study | {"second": 1}) == [verdicts[1]]
    assert leading(study | {"verdicts": []}) == others(study | {"verdicts": []}) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("-0.10 [-.2, -1e-05]", "−0.10 [−.2, −1e−05]"),
        ("10-20, 2025-01-02, gpt-4, a-1, --n 1-2, `x=-1`", "10-20, 2025-01-02, gpt-4, a-1, --n 1-2, `x=-1`"),
    ],
)
def test_a_minus_sign_stands_before_numbers_alone(text: str, shown: str) -> None:
    assert minus.typeset(text) == shown
    study = examples.study(notes=[text], settings={"key": text}, title=text)
    told = printable(study)
    assert (told["notes"], told["settings"], told["title"]) == ([shown], {"key": text}, text)
