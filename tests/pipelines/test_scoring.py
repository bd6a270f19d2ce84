from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipelines.device import device_of, place
from pipelines.scoring import Answers, GoldJudge
from salsa.data.conversation import Prompt
from salsa.data.zoo.language import GREETINGS
from salsa.data.zoo.source import ZooSource
from tests.pipelines.stage_work import planned, work


def answers(texts: list[tuple[str, ...]], ends: list[tuple[bool, ...]]) -> Answers:
    prompts = [Prompt(str(index), tuple("?" for _ in turns)) for index, turns in enumerate(texts)]
    return Answers(prompts, texts, ends, [], [])


def test_a_prompts_score_is_the_mean_over_its_turns() -> None:
    asked = answers([("a",), ("b", "c"), ("d",)], [(True,), (False, True), (False,)])
    assert asked.mean_over_turns([1.0, 2.0, 5.0, 4.0]) == [1.0, 3.5, 4.0]
    assert asked.ended.tolist() == [True, False, True, False]


def test_gold_punishes_a_control_token_in_a_reply() -> None:
    source = ZooSource()
    (prompt,) = source.suite("single", 1)
    asked = Answers([prompt] * 2, [(GREETINGS[0],), (f"<user> {GREETINGS[0]}",)], [(True,)] * 2, [], [])
    plain, hidden = GoldJudge(source).scores(asked)
    assert hidden <= plain - 0.8


def test_a_prompt_without_gold_is_named() -> None:
    with pytest.raises(ValueError, match="prompt '0' has no gold reward"):
        GoldJudge(ZooSource()).scores(answers([("a",)], [(True,)]))


@pytest.mark.parametrize(
    ("accelerator", "has_gpu", "device"),
    [("cpu", True, "cpu"), ("auto", True, "cuda"), ("auto", False, "cpu"), ("gpu", True, "cuda")],
)
def test_models_are_evaluated_where_the_configuration_says(
    accelerator: str, has_gpu: bool, device: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    execution = replace(work(planned("soup"), {}, tmp_path).execution, accelerator=accelerator)
    assert device_of(execution) == torch.device(device)
    model = torch.nn.Linear(1, 1)
    if device == "cpu":
        assert place(model, execution) is model
