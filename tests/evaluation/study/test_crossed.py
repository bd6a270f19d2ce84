"""Intervals over replicates that share their questions."""

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from salsa.evaluation.comparisons import replicates
from salsa.evaluation.sheet import Sheet
from salsa.evaluation.study.crossed import interval, interval_of_suites

SHAPES = st.tuples(st.integers(2, 12), st.integers(2, 8))


def rng():
    return np.random.default_rng(5)


def names(count, each=1):
    return [f"c{index // each}" for index in range(count)]


@pytest.mark.parametrize("count", [2, 9])
def test_few_replicates_show_the_t_interval_over_their_means(count):
    values = rng().random((count, 30))
    found = interval(values, names(30), rng(), 200, 0.9)
    means = values.mean(axis=1)
    low, high = stats.t.interval(0.9, count - 1, loc=means.mean(), scale=stats.sem(means))
    assert found.shown == "t"
    assert found.estimate is found.t
    assert (found.value, found.t.low, found.t.high, found.t.n) == pytest.approx((means.mean(), low, high, count))


def test_ten_replicates_show_the_crossed_interval():
    found = interval(rng().random((10, 30)), names(30), rng(), 200)
    assert found.shown == "crossed"
    assert found.estimate is found.crossed
    assert found.crossed.value == found.t.value == found.value


@pytest.mark.parametrize(("of_replicates", "of_questions"), [(1.0, 0.0), (0.0, 1.0), (0.5, 2.0)])
def test_the_crossed_interval_holds_the_variance_of_both(of_replicates, of_questions):
    draw = rng()
    table = draw.normal(0, of_replicates, (16, 1)) + draw.normal(0, of_questions, (1, 400))
    found = interval(table, names(400), rng(), 4000).crossed
    deviation = np.sqrt(table.mean(axis=1).var() / 16 + table.mean(axis=0).var() / 400)
    assert found.high - found.low == pytest.approx(2 * 1.96 * deviation, rel=0.1)


def test_what_varies_with_both_at_once_counts_three_times():
    table = rng().normal(size=(30, 400))
    found = interval(table, names(400), rng(), 4000).crossed
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(3 / table.size), rel=0.1)


def test_questions_of_a_cluster_are_drawn_together():
    table = np.repeat(rng().normal(size=(1, 200)), 2, axis=1) + np.zeros((12, 1))
    together, apart = (interval(table, names(400, each), rng(), 4000).crossed for each in (2, 1))
    assert (together.high - together.low) / (apart.high - apart.low) == pytest.approx(2**0.5, rel=0.1)


def test_one_suite_is_what_the_replicates_of_a_sheet_are():
    values = rng().random((11, 60))
    codes = np.arange(60) // 3
    models = tuple(names(11))
    sheet = Sheet(models, ("",) * 60, (1,) * 60, codes, values.T, np.ones((60, 11)))
    expected = replicates(sheet, "arm", models, rng(), 300, 0.95)
    found = interval(values, [str(code) for code in codes], rng(), 300, 0.95)
    assert found.shown == expected.shown
    assert astuple(found.t) == pytest.approx(astuple(expected.t))
    assert astuple(found.crossed) == pytest.approx(astuple(expected.crossed))


@settings(deadline=None)
@given(arrays(np.float64, SHAPES, elements=st.floats(0, 1)), st.floats(-3, 3), st.floats(0.1, 3))
def test_intervals_move_and_stretch_with_the_values(values, shift, scale):
    plain = interval(values, names(values.shape[1]), rng(), 50)
    moved = interval(shift + scale * values, names(values.shape[1]), rng(), 50)
    for before, after in ((plain.t, moved.t), (plain.crossed, moved.crossed)):
        expected = [shift + scale * number for number in (before.value, before.low, before.high)]
        assert [after.value, after.low, after.high] == pytest.approx(expected, abs=1e-9)


@settings(deadline=None)
@given(arrays(np.float64, SHAPES, elements=st.floats(0, 1)))
def test_the_crossed_interval_stays_within_the_values(values):
    found = interval(values, names(values.shape[1]), rng(), 50).crossed
    assert values.min() - 1e-12 <= found.low <= found.high <= values.max() + 1e-12


def test_absent_replies_are_left_out():
    values = np.array([[1.0, np.nan, 0.0], [1.0, 1.0, np.nan]])
    assert interval(values, names(3), rng(), 100).value == pytest.approx((0.5 + 1) / 2)


def test_a_replicate_without_any_reply_is_left_out():
    values = rng().random((4, 20))
    lacking = np.insert(values, 1, np.nan, axis=0)
    assert interval(lacking, names(20), rng(), 100) == interval(values, names(20), rng(), 100)


def test_a_replicate_that_lacks_a_suite_is_left_out_of_all():
    first, second = rng().random((2, 5, 20))
    second[2] = np.nan
    rest = [0, 1, 3, 4]
    found = interval_of_suites([first, second], [names(20)] * 2, rng(), 100)
    assert found == interval_of_suites([first[rest], second[rest]], [names(20)] * 2, rng(), 100)
    assert found.t.n == found.crossed.n == 4


def test_suites_count_the_same_whatever_their_size():
    small, large = np.zeros((3, 5)), np.ones((3, 50))
    found = interval_of_suites([small, large], [names(5), names(50)], rng(), 50)
    assert (found.value, found.t.low, found.crossed.low, found.crossed.high) == (0.5, 0.5, 0.5, 0.5)


def test_replicates_are_drawn_together_over_suites():
    # What a replicate gains on one suite it loses on the other: its mean never varies.
    skill = rng().normal(size=(12, 1)) + np.zeros((1, 40))
    opposed = interval_of_suites([skill, -skill], [names(40)] * 2, rng(), 500)
    assert (opposed.crossed.low, opposed.crossed.high) == pytest.approx((0, 0), abs=1e-12)
    alone, alike = (
        interval(skill, names(40), rng(), 500),
        interval_of_suites([skill, skill], [names(40)] * 2, rng(), 500),
    )
    assert (alike.crossed.low, alike.crossed.high) == pytest.approx((alone.crossed.low, alone.crossed.high))


def test_a_cluster_of_several_suites_is_drawn_in_all_of_them():
    hard = rng().normal(size=(1, 100)) + np.zeros((12, 1))
    shared = interval_of_suites([hard, -hard], [names(100)] * 2, rng(), 300).crossed
    own = interval_of_suites([hard, -hard], [names(100), [f"d{index}" for index in range(100)]], rng(), 300).crossed
    assert (shared.low, shared.high) == pytest.approx((0, 0), abs=1e-12)
    assert own.high - own.low > 0.1


def test_one_cluster_or_one_replicate_has_no_crossed_interval():
    one_cluster = interval(rng().random((12, 4)), ["c"] * 4, rng(), 50)
    assert one_cluster.crossed.low is one_cluster.crossed.high is None
    assert one_cluster.t.low is not None
    one_replicate = interval(rng().random((1, 4)), names(4), rng(), 50)
    assert one_replicate.crossed.low is one_replicate.t.low is None
    in_one_suite = interval_of_suites([rng().random((3, 4))] * 2, [names(4), ["c0"] * 4], rng(), 50)
    assert in_one_suite.crossed.low is None


@pytest.mark.parametrize(
    ("tables", "clusters", "message"),
    [
        ([], [], "no suites"),
        ([[[1.0, 2.0]]], [["a"]], "2 questions, but 1 clusters"),
        ([[[1.0]], [[1.0], [2.0]]], [["a"], ["a"]], "suites of 1 and 2 replicates"),
        ([[[1.0]]], [], "1 suites, but clusters of 0"),
        ([[1.0]], [["a"]], r"found \(1,\)"),
        ([[[0.0, np.inf]]], [["a", "b"]], "replicate 0, question 1 is not a finite"),
        ([[[np.nan]]], [["a"]], "no replicate has a value in every suite"),
    ],
)
def test_what_is_no_table_is_refused(tables, clusters, message):
    with pytest.raises(ValueError, match=message):
        interval_of_suites(tables, clusters, rng())
