import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.report.landscape.placement import along, around, beside

PLACES = st.lists(st.floats(-1, 1), max_size=6)


@given(PLACES, st.sampled_from([0.05, 0.2]))
def test_marks_on_an_axis_leave_room_for_each_other(values: list[float], least: float) -> None:
    placed = along(values, (0.0, 0.5, 1.0), least)
    for first, second in itertools.combinations(placed, 2):
        assert abs(first - second) >= 0.99 * least
    assert all(abs(place - mark) >= 0.99 * least for place in placed for mark in (0.0, 0.5, 1.0))


def test_a_mark_with_room_stays_where_it_is() -> None:
    assert along([0.25, 0.75], (0.0, 0.5, 1.0), 0.1) == [0.25, 0.75]
    points = np.array([[3.0, 1.0], [0.0, -2.0]])
    assert around(points, np.zeros((1, 2)), np.array([1.0, 1.0]), 0.5).tolist() == points.tolist()


def test_a_mark_moves_no_farther_than_needed() -> None:
    assert along([0.01], (0.0,), 0.1) == [pytest.approx(0.11)]
    assert along([-0.05], (0.0,), 0.1) == [pytest.approx(-0.1)]


@given(st.integers(1, 7), st.integers(0, 20))
def test_marks_in_the_plane_leave_room_for_each_other(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, taken = 0.1 * rng.normal(size=(count, 2)), np.array([[0.0, 0.0], [1, 0], [0, 1]])
    placed = around(points, taken, np.array([0.4, 0.4]), 0.2)
    for first, second in itertools.combinations([*placed, *taken], 2):
        assert np.linalg.norm(first - second) >= 0.199
    assert np.linalg.norm(placed - points, axis=1).max() <= 1.05 * 0.2 * (count + 3)


def test_a_mark_moves_away_from_the_centre_first() -> None:
    placed = around(np.array([[0.0, 0.0]]), np.array([[0.0, 0.0]]), np.array([1.0, 0.0]), 0.2)
    assert placed[0] == pytest.approx([-0.21, 0])
    assert around(np.empty((0, 2)), np.zeros((1, 2)), np.zeros(2), 0.2).shape == (0, 2)


def test_a_name_stands_outward_unless_something_is_there() -> None:
    corner, outward, half = np.array([2.0, 1.0]), np.array([-1.0, 0.0]), np.array([0.2, 0.05])
    assert beside(corner, outward, half, 0.1, np.empty((0, 2)), 0.1) == pytest.approx([-1, 0])
    turned = beside(corner, outward, half, 0.1, np.array([[1.7, 1.0]]), 0.1)
    assert turned != pytest.approx([-1, 0])
    middle = corner + turned * (0.1 + half)
    assert np.any(np.abs(np.array([1.7, 1.0]) - middle) > half)
