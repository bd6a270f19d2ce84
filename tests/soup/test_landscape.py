import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from salsa.soup.landscape import Frame, above_chord, barrier, barycentre, frame, line_grid, plane_grid

MARGINS = st.sampled_from([0.0, 0.1, 0.25, 0.3, 1 / 3, 0.5, 1.0])


def vectors(count: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(count, 12))


def gram(models: NDArray[np.float64]) -> NDArray[np.float64]:
    steps = models[1:] - models[0]
    return steps @ steps.T


def plane(models: NDArray[np.float64]) -> Frame:
    return frame(gram(models), [f"SFT{number + 1}" for number in range(len(models))])


def test_the_line_has_even_steps_within_and_beyond_its_ends() -> None:
    alphas = [weights[1] for weights in line_grid(4, 0.5)]
    assert alphas == [-0.5, -0.25, 0, 0.25, 0.5, 0.75, 1, 1.25, 1.5]
    assert line_grid(1) == [(1, 0), (0.5, 0.5), (0, 1)]


@given(st.integers(1, 40), MARGINS, st.integers(2, 5))
def test_a_finer_line_holds_the_coarser_one_bit_for_bit(intervals: int, beyond: float, times: int) -> None:
    coarse, fine = line_grid(intervals, beyond), line_grid(intervals * times, beyond)
    assert set(coarse) <= set(fine)
    assert fine == sorted(fine, key=lambda weights: weights[1])
    for first, second in fine:
        exact = Fraction(second).limit_denominator(200)
        assert (first, second) == (float(1 - exact), float(exact))


@given(st.integers(1, 9), MARGINS, st.integers(2, 4))
def test_a_finer_plane_holds_the_coarser_one_bit_for_bit(intervals: int, beyond: float, times: int) -> None:
    coarse, fine = plane_grid(intervals, beyond), plane_grid(intervals * times, beyond)
    assert set(coarse) <= set(fine)
    assert len(set(fine)) == len(fine)
    for weights in fine:
        assert math.fsum(weights) == pytest.approx(1, abs=1e-15)
        assert -beyond - 1e-12 <= min(weights)
        assert max(weights) <= 1 + beyond + 1e-12


@pytest.mark.parametrize("intervals", [1, 2, 3, 4, 5, 6])
def test_models_midpoints_and_barycentre_are_on_every_plane(intervals: int) -> None:
    grid = plane_grid(intervals)
    edges = {tuple(0.5 * (number != other) for number in range(3)) for other in range(3)}
    assert {(1, 0, 0), (0, 1, 0), (0, 0, 1), barycentre(3)} | edges <= set(grid)


@pytest.mark.parametrize(("intervals", "beyond", "count"), [(3, 0, 13), (6, 0, 28), (6, 1 / 6, 52), (6, 1 / 3, 82)])
def test_the_plane_is_a_lattice_of_the_triangle_and_a_margin(intervals: int, beyond: float, count: int) -> None:
    # Of a triangle of n intervals with a margin of k: (n + 3k + 1)(n + 3k + 2) / 2, less three corners of
    # k (k + 1) / 2; three intervals lack the edges' midpoints.
    assert len(plane_grid(intervals, beyond)) == count


@given(st.integers(1, 8), MARGINS, st.permutations(range(3)))
def test_the_plane_treats_its_models_alike(intervals: int, beyond: float, order: list[int]) -> None:
    grid = plane_grid(intervals, beyond)
    assert {tuple(weights[index] for index in order) for weights in grid} == set(grid)


def test_the_edge_of_a_plane_is_a_line() -> None:
    edge = [weights[:2] for weights in plane_grid(6, 0.5) if weights[2] == 0]
    assert edge == line_grid(6, 0.5)


@pytest.mark.parametrize("grid", [line_grid, plane_grid])
@pytest.mark.parametrize(("intervals", "beyond"), [(0, 0.0), (-2, 0.0), (3, -0.1), (3, math.inf)])
def test_grids_that_make_no_sense_are_refused(grid: object, intervals: int, beyond: float) -> None:
    with pytest.raises(
        ValueError, match=r"intervals is -?\d; a grid needs at least 1|beyond is .*; it must be 0 or more"
    ):
        grid(intervals=intervals, beyond=beyond)  # type: ignore[operator]


@given(st.integers(2, 3), st.integers(0, 50))
def test_coordinates_keep_every_distance(count: int, seed: int) -> None:
    models = vectors(count, seed)
    places = plane(models).models
    for i, j in itertools.combinations(range(count), 2):
        assert np.linalg.norm(places[i] - places[j]) == pytest.approx(np.linalg.norm(models[i] - models[j]), rel=1e-10)
    assert places[0].tolist() == [0] * (count - 1)
    assert places[1][0] > 0
    assert places[1][1:].tolist() == [0] * (count - 2)


def test_axes_are_gram_schmidt_on_the_differences() -> None:
    models = vectors(3)
    first = models[1] - models[0]
    first /= np.linalg.norm(first)
    second = models[2] - models[0]
    second -= (second @ first) * first
    second /= np.linalg.norm(second)
    weights = np.array([[0.2, 0.5, 0.3], [1.4, -0.3, -0.1]])
    expected = [[(row @ models - models[0]) @ axis for axis in (first, second)] for row in weights]
    assert plane(models).coordinates(weights) == pytest.approx(np.array(expected))


@given(st.integers(2, 3), st.integers(0, 50), st.lists(st.floats(-2, 2), min_size=2, max_size=2))
def test_a_soup_projects_on_itself(count: int, seed: int, later: list[float]) -> None:
    models, weights = vectors(count, seed), [1 - sum(later[: count - 1]), *later[: count - 1]]
    step = np.array(weights) @ models - models[0]
    found = plane(models).project((models[1:] - models[0]) @ step, float(step @ step))
    assert found.weights == pytest.approx(weights, abs=1e-9)
    assert found.coordinates == pytest.approx(plane(models).coordinates(weights), abs=1e-9)
    assert found.off == pytest.approx(0, abs=1e-9)


@given(st.integers(2, 3), st.integers(0, 50))
def test_a_projection_is_the_foot_of_the_perpendicular(count: int, seed: int) -> None:
    models = vectors(count, seed)
    other = np.random.default_rng(seed + 1000).normal(size=12)
    step = other - models[0]
    found = plane(models).project((models[1:] - models[0]) @ step, float(step @ step))
    rest = other - np.array(found.weights) @ models
    assert (models[1:] - models[0]) @ rest == pytest.approx(np.zeros(count - 1), abs=1e-9)
    assert found.off == pytest.approx(np.linalg.norm(rest))
    assert found.distances == pytest.approx(np.linalg.norm(models - other, axis=1))
    assert sum(found.weights) == pytest.approx(1)


@given(st.permutations(range(3)))
def test_another_order_of_the_models_moves_the_axes_and_nothing_else(order: list[int]) -> None:
    models, weights = vectors(3), np.array([0.6, 0.3, 0.1])
    other = vectors(4)[3]
    turned = plane(models[order])
    places, same = plane(models).coordinates(np.vstack([np.eye(3), weights])), np.eye(3)[:, order]
    again = turned.coordinates(np.vstack([same, weights[order]]))
    for i, j in itertools.combinations(range(4), 2):
        assert np.linalg.norm(places[i] - places[j]) == pytest.approx(np.linalg.norm(again[i] - again[j]))
    feet = []
    for rows in (models, models[order]):
        step = other - rows[0]
        feet.append(plane(rows).project((rows[1:] - rows[0]) @ step, float(step @ step)))
    assert np.array(feet[0].weights)[order] == pytest.approx(feet[1].weights)
    assert feet[0].off == pytest.approx(feet[1].off)


def test_models_that_span_nothing_are_named() -> None:
    first, second = vectors(2)
    with pytest.raises(ValueError, match="SFT2 has the weights of SFT1"):
        plane(np.array([first, first]))
    with pytest.raises(ValueError, match="SFT3 lies on the line through SFT1 and SFT2"):
        plane(np.array([first, second, 0.3 * first + 0.7 * second]))
    with pytest.raises(ValueError, match="SFT3 lies on the line"):
        plane(np.array([first, second, first]))
    with pytest.raises(ValueError, match="shape"):
        frame(np.eye(2), ["SFT1", "SFT2"])


def test_a_quadratic_bump_has_the_barrier_of_its_height() -> None:
    alphas = np.array([weights[1] for weights in line_grid(10, 0.5)])
    found = barrier(alphas, 3 + 2 * alphas + 0.8 * alphas * (1 - alphas))
    assert (found.height, found.alpha) == (pytest.approx(0.8 / 4), 0.5)


def test_a_valley_has_no_barrier_and_what_lies_beyond_does_not_count() -> None:
    alphas = np.array([weights[1] for weights in line_grid(10, 0.5)])
    found = barrier(alphas, 3 + 2 * alphas - 0.8 * alphas * (1 - alphas))
    assert (found.height, found.alpha) == (0, 0)


def test_the_chord_runs_through_both_ends() -> None:
    alphas = np.array([-0.5, 0, 0.25, 1])
    rows = np.array([[1.0, 2, 5, 4], [0, 0, 0, 0]])
    assert above_chord(alphas, rows).tolist() == [[0, 0, 2.5, 0], [0, 0, 0, 0]]
    with pytest.raises(ValueError, match="lacks 0 or 1"):
        above_chord(alphas[:-1], rows[:, :-1])
