"""Means where some values are not there: each column is that of its own values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salsa.evaluation.statistics import (
    Estimate,
    as_win_rate,
    cluster_bootstrap_mean,
    cluster_bootstrap_means,
    mean_of_suites,
)

NAN = float("nan")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_mean_is_that_of_the_values_that_are_there() -> None:
    table = [[1.0, 4.0], [NAN, 6.0], [3.0, NAN], [5.0, NAN]]
    first, second = cluster_bootstrap_means(table, ["a", "b", "c", "d"], rng(), gaps=True)
    assert (first.value, first.n) == (3.0, 3)
    assert (second.value, second.n) == (5.0, 2)


def test_a_column_without_gaps_is_the_same_to_the_last_bit_whatever_is_missing_beside_it() -> None:
    values, clusters = rng(1).normal(size=60), [f"c{number % 13}" for number in range(60)]
    holes = np.where(rng(2).random(60) < 0.3, np.nan, values)
    alone = cluster_bootstrap_means(values[:, None], clusters, rng(3))
    beside = cluster_bootstrap_means(np.stack([values, holes], axis=1), clusters, rng(3), gaps=True)
    assert beside[0].value == alone[0].value
    assert (beside[0].low, beside[0].high) == pytest.approx((alone[0].low, alone[0].high), rel=1e-12)


def test_leaving_a_prompt_out_of_a_cluster_is_the_mean_without_it() -> None:
    values, clusters = rng(1).normal(size=60), [f"c{number % 13}" for number in range(60)]
    kept = np.arange(60) % 3 != 0
    holes = np.where(kept, values, np.nan)
    own = [cluster for cluster, keep in zip(clusters, kept, strict=True) if keep]
    # Every cluster keeps something, so that the resamples of the clusters are the same ones.
    assert set(own) == set(clusters)
    (with_holes,) = cluster_bootstrap_means(holes[:, None], clusters, rng(3), gaps=True)
    without = cluster_bootstrap_mean(values[kept], own, rng(3))
    assert (with_holes.value, with_holes.n) == (pytest.approx(without.value), without.n)
    assert (with_holes.low, with_holes.high) == pytest.approx((without.low, without.high))


def test_rounds_in_which_a_column_has_nothing_are_passed_over_for_that_column() -> None:
    # Two clusters of three have a value: one round in 27 draws the third alone, and is no round of this column.
    table = np.array([[0.0, 1.0], [1.0, 1.0], [NAN, 1.0]])
    first, second = cluster_bootstrap_means(table, ["a", "b", "c"], rng(), rounds=2000, gaps=True)
    assert (first.value, first.low, first.high) == (0.5, 0.0, 1.0)
    assert (second.low, second.high) == (1.0, 1.0)


def test_a_column_in_a_single_cluster_has_no_interval_though_others_have() -> None:
    table = [[2.0, 1.0], [4.0, 2.0], [NAN, 3.0]]
    first, second = cluster_bootstrap_means(table, ["a", "a", "b"], rng(), gaps=True)
    assert first == Estimate(3.0, None, None, 2)
    assert second.low is not None


def test_suites_weigh_alike_however_many_values_each_has() -> None:
    one, other = np.array([[1.0], [NAN], [NAN], [NAN]]), np.array([[3.0], [3.0], [3.0]])
    (estimate,) = mean_of_suites([one, other], [list("abcd"), list("abc")], rng(), gaps=True)
    assert (estimate.value, estimate.n) == (2.0, 4)


def test_a_column_without_any_value_is_an_error() -> None:
    with pytest.raises(ValueError, match="column 1 has no value: leave it out"):
        cluster_bootstrap_means([[1.0, NAN], [2.0, NAN]], ["a", "b"], rng(), gaps=True)


@pytest.mark.parametrize(("value", "gaps"), [(NAN, False), (float("inf"), False), (float("inf"), True)])
def test_a_number_that_is_not_finite_is_an_error_where_it_does_not_stand_for_a_gap(value: float, gaps: bool) -> None:
    with pytest.raises(ValueError, match="value 1 is not a finite number"):
        cluster_bootstrap_means([[1.0], [value]], ["a", "b"], rng(), gaps=gaps)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, NAN]), st.sampled_from("abcd")), min_size=1, max_size=20).filter(
        lambda pairs: any(value == value for value, _ in pairs)
    )
)
def test_an_interval_lies_between_the_extreme_values_that_are_there(pairs: list[tuple[float, str]]) -> None:
    values = np.array([value for value, _ in pairs])
    (estimate,) = cluster_bootstrap_means(values[:, None], [cluster for _, cluster in pairs], rng(), 50, gaps=True)
    assert estimate.n == np.count_nonzero(~np.isnan(values))
    assert estimate.value == pytest.approx(np.nanmean(values))
    if estimate.low is not None and estimate.high is not None:
        assert np.nanmin(values) <= estimate.low <= estimate.high <= np.nanmax(values)


def test_a_win_rate_counts_the_questions_that_have_a_verdict() -> None:
    rate = as_win_rate(Estimate(0.55, 0.4, 0.7, 4), np.array([1.0, 0.75, NAN, 0.5, 0.0, NAN]))
    assert (rate.wins, rate.ties, rate.losses, rate.n) == (2, 1, 1, 4)
