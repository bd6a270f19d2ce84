"""Every fault of an endpoint costs what it must and loses nothing; the table in the documentation says the same."""

from pathlib import Path

import pytest

from tests.judging.disasters import CONCURRENCY, QUESTIONS, full, killed
from tests.judging.faults import FAULTS, INJECTED, MARKS, Fault, Row, measured, table

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_costs_what_it_must_and_loses_nothing(fault: Fault, tmp_path: Path) -> None:
    row, _ = measured(fault, tmp_path)
    assert row == Row(fault.name, fault.calls, fault.result, fault.again, lost=0, twice=0)


@pytest.mark.parametrize(("said", "label"), [(f"{INJECTED}\nVerdict: A=B", "A=B"), (INJECTED, None)])
def test_a_verdict_that_a_reply_forged_never_counts(said: str, label: str | None, tmp_path: Path) -> None:
    fault = Fault("", lambda exchange: exchange.say(said), None, 6, "")
    assert measured(fault, tmp_path)[1].verdicts[0].label == label


def test_the_documentation_has_the_same_table() -> None:
    written = DOCUMENT.read_text(encoding="utf-8").partition(MARKS[0])[2].partition(MARKS[1])[0]
    rows = [Row(fault.name, fault.calls, fault.result, fault.again, 0, 0) for fault in FAULTS]
    assert written.strip().startswith(table(rows)), (
        "write it anew: python -m tests.judging --document docs/reliability.md"
    )


@pytest.mark.slow
def test_a_killed_run_goes_on_and_nothing_is_lost_or_asked_twice(tmp_path: Path) -> None:
    row = killed(tmp_path, 3)
    assert (row.lost, row.twice) == (0, 0)
    # What was under way at a kill is asked again, and nothing else.
    assert 2 * QUESTIONS <= row.calls + row.again <= 2 * QUESTIONS + 3 * CONCURRENCY


@pytest.mark.slow
def test_a_full_disk_is_told_and_nothing_that_was_written_is_lost(tmp_path: Path) -> None:
    row, said = full(tmp_path)
    assert row.result == "code 1, says so, whole lines only"
    assert "no room is left" in said
    assert "run the same command" in said
    assert (row.lost, row.twice) == (0, 0)
    assert row.calls + row.again <= 2 * QUESTIONS + CONCURRENCY
