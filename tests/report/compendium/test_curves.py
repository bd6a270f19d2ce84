import re
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from salsa.report.compendium import curves
from salsa.report.compendium.curves import HEIGHT, WIDTH, Line, Point

values = st.floats(-1e6, 1e6, allow_nan=False)
points_of_one = st.lists(st.tuples(st.integers(0, 1000), values, st.floats(0, 100)), min_size=1, max_size=12)


@given(st.lists(points_of_one, min_size=1, max_size=4))
def test_everything_is_drawn_inside_the_picture(drawn: list[list[tuple[int, float, float]]]) -> None:
    given_lines = []
    for number, points in enumerate(drawn):
        told = [Point(step, value, value - half, value + half) for step, value, half in points]
        given_lines.append(Line(f"m{number}", "#123456", "", told))
    text = curves.chart("Reward", "points", given_lines)
    root = ElementTree.fromstring(text)
    for circle in root.iter("circle"):
        assert 0 <= float(circle.attrib["cx"]) <= WIDTH
        assert 0 <= float(circle.attrib["cy"]) <= HEIGHT
    for path in root.iter("path"):
        numbers = [float(each) for each in re.findall(r"-?\d+\.\d+", path.attrib["d"])]
        assert all(-0.1 <= number <= WIDTH + 0.1 for number in numbers)


def test_values_that_differ_by_rounding_alone_are_drawn() -> None:
    for value, half in ((0.0, 5e-324), (0.0, 0.0), (1.0, 1e-16), (1e6, 1e-9)):
        points = [Point(0, value, value - half, value + half)]
        ElementTree.fromstring(curves.chart("Reward", "points", [Line("m", "#123456", "", points)]))


def test_the_axis_has_round_numbers_around_the_values() -> None:
    points = [Point(0, 0.12), Point(30, 0.93)]
    text = curves.chart("Gold", "points", [Line("PPO", "#123456", "", points)])
    labels = re.findall(r">([−\d.]+)</text>", text)
    assert labels == ["0", "0.2", "0.4", "0.6", "0.8", "1", "0", "10", "20", "30"]


def test_a_higher_value_is_drawn_higher_and_a_later_step_further_right() -> None:
    text = curves.chart("Gold", "points", [Line("PPO", "#123456", "", [Point(0, 1.0), Point(5, 2.0)])])
    (x1, y1), (x2, y2) = (map(float, each) for each in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', text))
    assert x2 > x1
    assert y2 < y1


def test_the_label_tells_what_is_drawn_and_without_points_there_is_no_chart() -> None:
    text = curves.chart("KL <b>", "nats", [Line('a "policy"', "#123456", "4 2", [Point(0, 0.0), Point(8, 3.5)])])
    assert "a &quot;policy&quot; from 0 at 0 to 3.5 at 8" in text
    assert "KL &lt;b&gt;" in text
    assert 'stroke-dasharray="4 2"' in text
    assert curves.chart("KL", "nats", []) == ""
