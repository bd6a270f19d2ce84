"""The choice of a KL coefficient on the validation suite."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.evaluation.statistics import Estimate
from salsa.evaluation.study.selection import RULE, Tried, choose

RATES = st.dictionaries(st.floats(0.001, 10), st.integers(0, 4).map(lambda fifths: fifths / 4), min_size=1, max_size=8)


def rates(**values):
    return {float(name.replace("c", "0.")): Estimate(value, None, None, 8) for name, value in values.items()}


def test_the_highest_win_rate_is_chosen():
    found = choose([0.4, 0.1, 0.2], rates(c1=0.5, c2=0.6, c4=0.55))
    assert (found.coefficient, found.edge, found.rule) == (0.2, False, RULE)
    assert [tried.coefficient for tried in found.curve] == [0.1, 0.2, 0.4]
    assert found.curve[2] == Tried(0.4, Estimate(0.55, None, None, 8))


def test_of_equal_rates_the_larger_coefficient_is_chosen():
    assert choose([0.1, 0.2, 0.3, 0.4], rates(c1=0.6, c2=0.6, c3=0.6, c4=0.5)).coefficient == 0.3


@pytest.mark.parametrize(("first", "last"), [(0.7, 0.5), (0.5, 0.7)])
def test_an_end_of_the_grid_is_an_edge(first, last):
    assert choose([0.2, 0.1, 0.4], rates(c1=first, c2=0.6, c4=last)).edge


def test_the_only_coefficient_is_an_edge():
    assert choose([0.1], rates(c1=0.5)).edge


@given(RATES)
def test_nothing_on_the_grid_is_better(values):
    found = choose(list(values), {key: Estimate(value, None, None, 1) for key, value in values.items()})
    best = max(values.values())
    assert values[found.coefficient] == best
    assert all(key <= found.coefficient for key, value in values.items() if value == best)
    assert found.edge == (found.coefficient in (min(values), max(values)))


@pytest.mark.parametrize(
    ("grid", "given_rates", "message"),
    [
        ([], {}, "no KL coefficient"),
        ([0.1, 0.1], rates(c1=0.5), "twice"),
        ([0.1, 0.2], rates(c1=0.5), "coefficient 0.2 of the grid has no win rate"),
        ([0.1], rates(c1=0.5, c2=0.5), "coefficient 0.2, which is not on the grid"),
        ([0.1], rates(c1=float("nan")), "coefficient 0.1 is nan"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused(grid, given_rates, message):
    with pytest.raises(ValueError, match=message):
        choose(grid, given_rates)
