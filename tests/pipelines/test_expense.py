"""What judging will cost at most is a bound, or is not called one."""

from pathlib import Path

import pytest

from pipelines.expense import Expense, expenses
from salsa.store.artifact import Store
from tests.data.files import write_lines
from tests.pipelines.compose import experiment

OPENAI = ("judge=openai", "judge.model=judge-1", "suite=single", "logger=none", "~controls.other")
PRICES = ("judge.price_in=2", "judge.price_out=8")


def cost(folder: Path, *overrides: str) -> Expense:
    (found,) = expenses(experiment(*overrides).plan, Store(folder / "store"))
    return found


def test_the_longest_verdict_is_the_one_that_is_asked_for_under_any_name(tmp_path: Path) -> None:
    usual = cost(tmp_path, *OPENAI, *PRICES)
    long = cost(tmp_path, *OPENAI, *PRICES, "judge.body={max_tokens: null, max_completion_tokens: 32000}")
    assert long.tokens.most_out == 32000 * long.tokens.calls
    assert long.tokens.out == usual.tokens.out == 300 * usual.tokens.calls
    assert long.price(long.tokens.most_out) == pytest.approx(
        (2 * long.tokens.read + 8 * 32000 * usual.tokens.calls) / 1e6
    )


def test_without_a_limit_no_bound_is_told(tmp_path: Path) -> None:
    found = cost(tmp_path, *OPENAI, *PRICES, "judge.body={max_tokens: null}")
    assert found.tokens.most_out is None
    assert found.price(found.tokens.most_out) is None
    assert "(no limit); about " in str(found)
    assert str(found).endswith(", without a limit (judge.body takes out max_tokens)")


def test_questions_of_unknown_turns_are_not_counted(tmp_path: Path) -> None:
    pairs = [{"prompt": f"Why {n}?", "chosen": "Because.", "rejected": "No."} for n in range(30)]
    prompts = write_lines(tmp_path / "mine.jsonl", [{"id": "1", "turns": ["One?", "Two?"]}])
    files: tuple[str, ...] = (
        "data=files",
        f"data.preferences=[{write_lines(tmp_path / 'pairs.jsonl', pairs)}]",
        "suite=files",
    )
    files += (*OPENAI[:2], *OPENAI[3:], *PRICES, f"data.prompts.mine={prompts}")
    assert cost(tmp_path, *files).counted
    found = cost(tmp_path, *files, "suite.names=[heldout,mine]")
    assert not found.counted
    assert "at most" not in str(found)
    assert "up to about" in str(found)


def test_what_the_judge_was_asked_before_is_told(tmp_path: Path) -> None:
    assert "asked before" not in str(cost(tmp_path, *OPENAI))
    log = tmp_path / "store" / "verdicts" / "judge-1.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text("")
    assert str(cost(tmp_path, *OPENAI)).endswith("; less what the judge was asked before")
