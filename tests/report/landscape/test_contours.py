from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.report.landscape import contours, figures
from salsa.report.landscape.contours import in_words, levels
from salsa.report.landscape.summary import assemble
from tests.report.landscape import factory

SIZES = st.floats(1e-3, 1e3)


def summary(world: factory.World) -> dict[str, Any]:
    return assemble(factory.evidence(world=world, policies=()), np.random.default_rng(0), 50)


@given(st.floats(-100, 100), SIZES, SIZES)
def test_lines_are_no_closer_than_the_data_tell_apart(low: float, extent: float, resolution: float) -> None:
    values = np.array([low, low + extent / 3, low + extent])
    found = levels(values, resolution)
    assert found.step >= resolution * (1 - 1e-6)
    assert len(found.lines) <= 20
    assert all(values.min() < line < values.max() for line in found.lines)
    assert np.diff(found.lines) == pytest.approx(np.full(max(0, len(found.lines) - 1), found.step))
    assert all(line / found.step == pytest.approx(round(line / found.step), abs=1e-6) for line in found.lines)
    if extent < 0.999 * resolution:
        assert not found.lines
    # Round numbers are at most a factor of 2 apart, so a step is at most twice the resolution.
    if extent > 5 * max(resolution, extent / 20):
        assert len(found.lines) >= 2


@given(SIZES, SIZES)
def test_what_may_be_noise_has_nearly_one_colour(extent: float, resolution: float) -> None:
    found = levels(np.array([0.0, extent]), resolution)
    assert found.low <= 0 < extent <= found.high
    assert found.high - found.low >= 6 * resolution * (1 - 1e-6)
    assert found.high - extent == pytest.approx(0 - found.low)


def test_without_intervals_lines_are_as_many_as_can_be_read() -> None:
    found = levels(np.array([0.0, 1.0]), None)
    assert found.lines == pytest.approx(np.arange(1, 20) * 0.05)
    assert (found.low, found.high) == (0, 1)


def test_equal_values_have_no_lines_but_a_colour() -> None:
    for resolution in (None, 0.0, 1e-17, 0.1):
        found = levels(np.array([2.0, 2.0 + 4e-16]), resolution)
        assert found.lines == ()
        assert (found.low, found.high) == pytest.approx((1.5, 2.5))


@given(st.integers(-9, 9), st.sampled_from([1.0, 2.0, 2.5, 5.0]), st.integers(-3, 3))
def test_the_height_of_a_line_reads_as_it_is(number: int, factor: float, power: int) -> None:
    step = factor * 10.0**power
    text = in_words(number * step, step)
    assert float(text.replace("−", "-")) == pytest.approx(number * step)
    assert len(text.partition(".")[2]) <= max(0, 1 - power) + 1


def test_lines_and_their_labels_are_the_heights_of_the_quantity() -> None:
    made = summary(factory.World())
    figure = figures.figures(made)["plane"]
    figure.draw_without_rendering()
    plane = made["plane"]
    corners = np.array(plane["coordinates"])
    axis, key = figure.axes[0], "judge"
    values = np.array([point["values"][key]["value"] for point in plane["points"]])
    wanted = levels(values, plane["findings"][key]["resolution"])
    written = (text for text in axis.texts if text.get_text() not in plane["models"])
    labels = {float(text.get_text().replace("−", "-")): text for text in written}
    assert labels
    for height, text in labels.items():
        assert min(abs(height - line) for line in wanted.lines) < 1e-9
        # Where it stands, the quantity has about that height.
        weights = np.linalg.solve(np.vstack([corners.T, np.ones(3)]), [*text.get_position(), 1])
        assert factory.quality(factory.soup(tuple(weights))) == pytest.approx(height, abs=0.2)


def test_equal_soups_are_drawn_without_relief() -> None:
    made = summary(factory.World(noise=2.0, slope=0.0))
    figure = figures.figures(made)["plane"]
    for key, axis in zip(("judge", "reward"), figure.axes[:2], strict=True):
        values = np.array([point["values"][key]["value"] for point in made["plane"]["points"]])
        found = levels(values, made["plane"]["findings"][key]["resolution"])
        assert len(found.lines) <= 4
        low, high = axis.collections[0].get_clim()
        assert np.ptp(values) < 0.7 * (high - low)


def test_labels_stand_on_some_lines_only() -> None:
    found = contours.Levels([float(line) for line in range(17)], 1.0, 0, 17)
    chosen = [height for height, _ in contours.labelled(found, found.lines)]
    assert chosen == [2, 6, 10, 14]
