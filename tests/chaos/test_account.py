"""The result of a chaos test says what happened, and passes only if enough happened and nothing was found."""

import json
from pathlib import Path

import pytest

from tests.chaos.account import MARKS, account, insert, markdown, write
from tests.chaos.comparison import Lost
from tests.chaos.harness import Round
from tests.chaos.ledger import RANDOM
from tests.chaos.points import MANIFEST, POINTS
from tests.chaos.shells import Ending


def round_of(kills: int, **findings: list[str]) -> Round:
    points = [*POINTS, RANDOM]
    made = [{"point": points[index % len(points)], "kind": "align", "scope": "one process"} for index in range(kills)]
    return Round(
        folder="somewhere",
        stages=42,
        kills=made,
        endings=[Ending(0, 1, -9, 1, ""), Ending(0, 2, 0, 0, "")],
        repeated={"align": 3},
        lost=Lost(4, 7, 5, 1.5, []),
        checkpoint_seconds=0.2,
        left_in_temporary_folder=0,
        seconds=10.0,
        findings={"differences": [], **findings},
    )


def test_rounds_are_summed_and_pass_with_enough_kills_and_no_finding() -> None:
    result = account([round_of(30), round_of(30)], 60, 4, "the command")
    assert result["passed"]
    assert (result["kills"], result["stages"], result["missed_points"]) == (60, 84, [])
    lost = {"resumed": 8, "steps": 14, "most_steps": 5, "most_seconds": 1.5, "checkpoint_seconds": 0.2}
    assert result["lost"] == lost
    assert result["begun_again"] == {"align": 6}
    assert sum(result["by_point"].values()) == 60


def test_too_few_kills_or_one_finding_fail_and_are_shown() -> None:
    assert not account([round_of(30)], 31, 4, "")["passed"]
    result = account([round_of(30, differences=["align 123: files differs: weights"])], 30, 4, "")
    assert not result["passed"]
    assert "- round 0: align 123: files differs: weights" in markdown(result)
    assert "**failed**" in markdown(result)


def test_a_point_without_a_kill_is_named() -> None:
    result = account([round_of(POINTS.index(MANIFEST))], 1, 4, "")
    assert result["missed_points"] == [*POINTS[POINTS.index(MANIFEST) :], RANDOM]


def test_the_result_is_written_as_json_as_markdown_and_between_the_marks_of_a_document(tmp_path: Path) -> None:
    result = account([round_of(30)], 30, 4, "the command")
    write(result, tmp_path / "chaos.json")
    assert json.loads((tmp_path / "chaos.json").read_text()) == result
    assert (tmp_path / "chaos.md").read_text() == markdown(result)
    document = tmp_path / "document.md"
    document.write_text(f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n")
    insert(result, document)
    insert(result, document)
    assert document.read_text() == f"before\n{MARKS[0]}\n{markdown(result)}{MARKS[1]}\nafter\n"
    document.write_text("no marks")
    with pytest.raises(ValueError, match="no lines <!-- chaos -->"):
        insert(result, document)
