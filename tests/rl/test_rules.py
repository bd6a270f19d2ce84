import functools
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from salsa.data.conversation import Message, Prompt
from salsa.rl.rules import COLUMNS, Rule, RuleError
from tests import rules

PROMPTS = [
    Prompt("p1", ("why ?",), (Message("system", "be kind"), Message("user", "hi"), Message("assistant", "hello"))),
    Prompt("p2", ("how ?",)),
]
COMPLETIONS = ["so it is", "no"]


def valued(function: Callable[..., Any]) -> list[float]:
    return Rule("mine", function).values(PROMPTS, COMPLETIONS, [True, False])


def test_a_rule_gets_questions_replies_and_every_column_that_it_takes() -> None:
    seen: dict[str, Any] = {}

    def rule(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        seen.update(columns, prompts=prompts, completions=completions)
        return [0.0, 1.0]

    assert valued(rule) == [0.0, 1.0]
    assert set(seen) == set(COLUMNS)
    assert seen["prompts"] == ["why ?", "how ?"]
    assert seen["completions"] == COMPLETIONS
    assert seen["ended"] == [True, False]
    assert seen["ids"] == ["p1", "p2"]
    assert seen["messages"][0] == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "why ?"},
    ]
    assert seen["messages"][1] == [{"role": "user", "content": "how ?"}]


def test_a_rule_is_not_given_what_it_does_not_take() -> None:
    assert valued(lambda completions: [len(text) for text in completions]) == [8, 2]
    assert valued(lambda completions, ids: [ids.index("p2")] * 2) == [1, 1]
    assert valued(rules.brief) == [-3, -1]
    assert valued(rules.Quota(2)) == [0, 0]


def test_a_parameter_that_is_bound_stays_what_it_was_bound_to() -> None:
    assert valued(functools.partial(rules.starts_with, word="no")) == [0, 1]

    def rule(completions: list[str], ids: str) -> list[float]:
        return [float(ids == "mine")] * len(completions)

    assert valued(functools.partial(rule, ids="mine")) == [1, 1]


@pytest.mark.parametrize(
    "returned",
    [
        [1, 2.5],
        (1, 2.5),
        np.array([1, 2.5]),
        torch.tensor([1, 2.5]),
        [np.float32(1), torch.tensor(2.5)],
        iter([1, 2.5]),
    ],
)
def test_numbers_of_every_kind_are_numbers(returned: Any) -> None:
    assert valued(lambda completions: returned) == [1, 2.5]


def test_truth_is_one_and_broken_numbers_pass_on_to_the_guard() -> None:
    assert valued(lambda completions: [True, False]) == [1, 0]
    broken = valued(lambda completions: [float("nan"), float("inf")])
    assert math.isnan(broken[0])
    assert math.isinf(broken[1])


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ([1.0], "rule mine returned 1 values for 2 completions"),
        ([1.0, None], r"rule mine returned None \(NoneType\) for row 1, the completion 'no'"),
        (["1", 2.0], r"rule mine returned '1' \(str\) for row 0, the completion 'so it is'"),
        ([1.0, [2.0]], r"returned \[2\.0\] \(list\) for row 1"),
        (None, r"rule mine returned None \(NoneType\); it must return a list"),
        (3.0, r"rule mine returned 3\.0 \(float\); it must return a list"),
        ("ab", r"rule mine returned 'ab' \(str\); it must return a list"),
        ({0: 1.0, 1: 2.0}, r"rule mine returned .* \(dict\); it must return a list"),
    ],
)
def test_what_is_no_reward_is_refused_with_its_rule_and_row(returned: Any, says: str) -> None:
    with pytest.raises(RuleError, match=says):
        valued(lambda completions: returned)


def test_an_error_in_a_rule_names_the_rule_and_the_line() -> None:
    def rule(completions: list[str]) -> list[float]:
        raise KeyError("answer")

    with pytest.raises(RuleError, match=r"rule mine raised KeyError: 'answer' \(.*test_rules\.py, line \d+\)"):
        valued(rule)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda completions, answer: [], "rule mine needs answer; what is not one of prompts, completions"),
        (lambda prompts: [], "rule mine has no parameter completions"),
        (lambda completions, /: [], "rule mine needs completions"),
        (3, "rule mine: 3 is not a function"),
    ],
)
def test_a_function_that_cannot_be_called_so_is_refused_at_once(function: Any, says: str) -> None:
    with pytest.raises(RuleError, match=says):
        Rule("mine", function)


def test_rules_import_no_torch() -> None:
    code = "import sys, salsa.rl.rules; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
