import pytest

from salsa.data.suites import name_problem
from salsa.report.schema import POOLED


@pytest.mark.parametrize("name", ["mt_bench", "A1"])
def test_a_file_names_a_suite(name: str) -> None:
    assert name_problem(name) is None


@pytest.mark.parametrize("name", ["heldout", "validation", POOLED, "", "a b", "../x", "a-b", "a\n"])
def test_names_that_are_taken_or_no_file_names_are_refused(name: str) -> None:
    assert name_problem(name)
