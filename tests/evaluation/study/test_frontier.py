"""Fronts of gold reward against sqrt(KL): matched KL, areas, peaks, differences of arms."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from salsa.evaluation.study.frontier import (
    area,
    area_difference,
    common_span,
    even_levels,
    front,
    matched,
    matched_difference,
    peak,
)

POINTS = st.lists(st.tuples(st.floats(0, 50), st.floats(-5, 5)), min_size=2, max_size=12)


def line(start, slope, kl=(0.0, 1.0, 4.0, 9.0)):
    """Return the front gold = start + slope * sqrt(KL)."""
    return front(kl, start + slope * np.sqrt(kl))


def test_a_linear_front_is_linear_in_the_root():
    found = line(1.0, 2.0, (9.0, 1.0))
    assert found.at([1.0, 4.0, 6.25, 9.0]) == pytest.approx([3, 5, 6, 7])


def test_outside_its_points_a_front_has_no_value():
    assert line(0.0, 1.0, (1.0, 4.0)).at([0.99, 1.0, 4.0, 4.01]) == [None, 1.0, 2.0, None]


def test_points_of_equal_kl_become_their_mean():
    found = front([4.0, 1.0, 4.0], [1.0, 0.0, 3.0])
    assert (found.kl.tolist(), found.gold.tolist()) == ([1, 4], [0, 2])


def test_levels_whose_roots_are_equal_are_one():
    found = front([1.0, 1.0 + 2**-52, 4.0], [1.0, 3.0, 4.0])
    assert found.at([1.0, 4.0]) == [2.0, 4.0]


def test_an_estimate_below_zero_counts_as_zero():
    assert front([-0.01, 1.0], [0.5, 1.0]).at([0.0, 0.25]) == [0.5, 0.75]


@settings(deadline=None)
@given(POINTS, st.randoms())
def test_the_order_of_the_points_is_nothing_to_the_front(points, random):
    shuffled = random.sample(points, len(points))
    first, second = (front(*zip(*order, strict=True)) for order in (points, shuffled))
    assert first.kl.tolist() == second.kl.tolist()
    assert first.gold == pytest.approx(second.gold, abs=1e-12)


@settings(deadline=None)
@given(POINTS)
def test_a_front_goes_through_its_points_and_stays_between_them(points):
    found = front(*zip(*points, strict=True))
    assert found.at(found.kl.tolist()) == pytest.approx(found.gold.tolist(), abs=1e-9)
    between = found.heights(np.linspace(found.kl[0], found.kl[-1], 30).tolist())
    between = between[~np.isnan(between)]
    assert found.gold.min() - 1e-9 <= between.min() <= between.max() <= found.gold.max() + 1e-9


def test_the_area_under_a_constant_is_its_height_times_the_width():
    assert line(3.0, 0.0).area((1.0, 6.25)) == pytest.approx(3 * 1.5)


def test_the_area_under_a_line_is_that_of_a_trapezium():
    assert line(1.0, 2.0).area((0.25, 6.25)) == pytest.approx((2 + 6) / 2 * 2)


@settings(deadline=None)
@given(POINTS)
def test_the_area_is_the_integral_of_the_front(points):
    found = front(*zip(*points, strict=True))
    span = (float(found.kl[0]), float(found.kl[-1]))
    dense = np.unique(np.concatenate([found.distance, np.linspace(*np.sqrt(span), 300)]))
    expected = integrate.trapezoid(np.interp(dense, found.distance, found.gold), dense)
    assert found.area(span) == pytest.approx(expected, abs=1e-6)


def test_areas_of_neighbouring_spans_add_up():
    found = front([0, 1, 2, 5, 9], [0, 3, 1, 4, 2])
    assert found.area((0.5, 2.5)) + found.area((2.5, 8)) == pytest.approx(found.area((0.5, 8)))


@pytest.mark.parametrize("span", [(0.5, 4.0), (1.0, 9.5), (4.0, 2.0)])
def test_there_is_no_area_where_there_are_no_points(span):
    with pytest.raises(ValueError, match="the points reach from 1"):
        line(0.0, 1.0, (1.0, 9.0)).area(span)


def test_a_peak_is_the_highest_point_at_the_least_kl():
    assert front([1, 4, 9, 16], [0, 2, 2, 1]).peak() == (2, 4)
    found = peak([front([1, 4], [0, 2]), front([1, 6], [0, 3])])
    assert (found.gold.value, found.kl.value, found.kl.n) == (2.5, 5, 2)


def test_the_common_span_is_where_all_fronts_are():
    first, second = line(0, 1, (0.5, 9.0)), line(0, 1, (1.0, 16.0))
    assert common_span([first, second]) == (1.0, 9.0)
    assert common_span([line(0, 1, (0.0, 1.0)), second]) is None


@settings(deadline=None)
@given(st.floats(0, 20), st.floats(0.01, 20), st.integers(2, 9))
def test_even_levels_are_even_in_the_root_and_inside(low, width, count):
    levels = even_levels((low, low + width), count)
    assert len(levels) == count
    assert (levels[0], levels[-1]) == (low, low + width)
    steps = np.diff(np.sqrt(levels))
    assert steps == pytest.approx(np.full(count - 1, steps.mean()))
    assert None not in front([low, low + width], [0, 1]).at(levels)


def test_gold_at_matched_kl_has_the_t_interval_over_replicates():
    starts = [0.0, 0.3, 0.1]
    [found] = matched([line(start, 1.0) for start in starts], [4.0], 0.9)
    low, high = stats.t.interval(0.9, 2, loc=np.mean(starts), scale=stats.sem(starts))
    assert (found.kl, found.outside) == (4.0, 0)
    assert (found.gold.value, found.gold.low, found.gold.high) == pytest.approx(
        (2 + np.mean(starts), 2 + low, 2 + high)
    )


def test_replicates_that_do_not_reach_a_level_are_counted():
    fronts = [line(0.0, 1.0, (0.0, reach)) for reach in (1.0, 4.0, 9.0)]
    found = matched(fronts, [1.0, 4.0, 9.0, 16.0])
    assert [each.outside for each in found] == [0, 1, 2, 3]
    assert [each.gold and each.gold.n for each in found] == [3, 2, 1, None]


def test_crossing_fronts_differ_by_sign_on_either_side():
    # 1 + d and 3 - d cross at d = 1.
    offsets = [0.0, 0.2, -0.1]
    first = [line(1 + offset, 1.0) for offset in offsets]
    second = [line(3 + offset, -1.0) for offset in offsets]
    found = matched_difference(first, second, [0.0, 1.0, 4.0])
    assert [each.gold.value for each in found] == pytest.approx([-2, 0, 2], abs=1e-12)
    assert all(each.gold.high - each.gold.low == pytest.approx(0, abs=1e-9) for each in found)


def test_a_difference_needs_both_arms_at_the_level():
    first = [line(1.0, 0.0), line(1.0, 0.0, (0.0, 2.0))]
    second = [line(0.0, 0.0, (0.0, 5.0)), line(0.0, 0.0)]
    found = matched_difference(first, second, [1.0, 4.0, 8.0])
    assert [(each.outside, each.gold and each.gold.value) for each in found] == [(0, 1), (1, 1), (2, None)]
    with pytest.raises(ValueError, match="2 and 1 fronts"):
        matched_difference(first, second[:1], [1.0])


def test_the_difference_of_areas_is_paired():
    starts = [0.0, 5.0, -3.0]
    first, second = [line(start + 0.5, 1.0) for start in starts], [line(start, 1.0) for start in starts]
    span = common_span([*first, *second])
    found = area_difference(first, second, span)
    assert (found.value, found.low, found.high, found.n) == pytest.approx((1.5, 1.5, 1.5, 3))
    apart = area(first, span), area(second, span)
    assert found.value == pytest.approx(apart[0].value - apart[1].value)
    assert apart[0].high - apart[0].low > 10


@pytest.mark.parametrize(
    ("kl", "gold", "message"),
    [
        ([], [], "one at least"),
        ([1.0], [1.0, 2.0], "one gold reward a KL"),
        ([1.0, math.nan], [1.0, 2.0], "KL of point 1"),
        ([1.0, 2.0], [math.inf, 2.0], "gold reward of point 0"),
    ],
)
def test_what_is_no_front_is_refused(kl, gold, message):
    with pytest.raises(ValueError, match=message):
        front(kl, gold)
