"""Times and sizes are read and written as people do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.store.quantities import parsed_duration, shown_duration, shown_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30d", 30 * 86400.0), ("12h", 43200.0), ("1.5h", 5400.0), ("90m", 5400.0), ("10s", 10.0), ("2w", 14 * 86400.0)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parsed_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "3 d", "1y", "1e3s", "30D", "inf"])
def test_what_is_no_duration_says_how_one_is_written(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no duration; write a number and s, m, h, d or w, such as 30d"):
        parsed_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.017, "0.02 s"),
        (1.26, "1.3 s"),
        (59.6, "60 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (3 * 86400, "3 d"),
        (30 * 86400, "4 w"),
    ],
)
def test_durations_are_shown_in_a_fitting_unit(seconds: float, text: str) -> None:
    assert shown_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_900, "99.9 kB"),
        (412_206, "412 kB"),
        (999_600, "1.0 MB"),
        (13.5e9, "13.5 GB"),
        (5e15, "5000 TB"),
    ],
)
def test_sizes_are_shown_in_decimal_units(count: float, text: str) -> None:
    assert shown_size(count) == text


@given(count=st.integers(0, 10**15))
def test_a_shown_size_is_near_the_size(count: int) -> None:
    number, unit = shown_size(count).split()
    factor = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    assert float(number) * factor == pytest.approx(count, rel=0.051)
