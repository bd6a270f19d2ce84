import colorsys
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from salsa.report.figures import COLOURS, GREY, INK, to_png, to_svg
from salsa.report.study import figures, looks, panels, pictures
from salsa.report.study.names import named
from salsa.report.study.schema import printable
from tests.report.study import examples
from tests.report.study.odd import EVERY

pytestmark = pytest.mark.filterwarnings("ignore:Glyph .* missing from font")


KEPT = ("control", "other")


def drawn(study: dict[str, Any]) -> dict[str, Figure]:
    return {name: drawing.figure for name, drawing in figures.drawings(printable(study)).items()}


def texts(figure: Figure) -> list[Text]:
    """Return every text that is seen: labels of ticks beyond the ends of an axis are not."""
    figure.draw_without_rendering()
    beyond: set[int] = set()
    for line in (line for axis in figure.axes for line in (axis.xaxis, axis.yaxis)):
        low, high = sorted(line.get_view_interval())
        for tick in [*line.get_major_ticks(), *line.get_minor_ticks()]:
            if not low - 1e-9 * (high - low) <= tick.get_loc() <= high + 1e-9 * (high - low):
                beyond |= {id(tick.label1), id(tick.label2)}
    shown = (text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip())
    return [text for text in shown if id(text) not in beyond]


@pytest.mark.parametrize("name", EVERY)
def test_no_text_is_cut_off_or_covers_another(name: str) -> None:
    for kind, figure in drawn(EVERY[name]()).items():
        found = [(text, text.get_window_extent()) for text in texts(figure)]
        for number, (text, box) in enumerate(found):
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1
            assert inside, f"{kind}: {text.get_text()!r} is cut off"
            for other, its in found[number + 1 :]:
                across = min(box.x1, its.x1) - max(box.x0, its.x0)
                down = min(box.y1, its.y1) - max(box.y0, its.y0)
                assert across <= 1 or down <= 1, f"{kind}: {text.get_text()!r} covers {other.get_text()!r}"


@pytest.mark.parametrize("name", EVERY)
def test_what_the_page_cuts_off_is_the_frame_alone(name: str) -> None:
    for drawing in figures.drawings(printable(EVERY[name]())).values():
        inches = drawing.figure.dpi
        low, high = inches * drawing.small, drawing.figure.bbox.y1 - inches * drawing.heading
        for text in texts(drawing.figure):
            box = text.get_window_extent()
            if text.get_gid() in (pictures.HEADING, pictures.SMALL):
                assert box.y0 >= high - 1 or box.y1 <= low + 1
            else:
                assert low - 1 <= box.y0 <= box.y1 <= high + 1, text.get_text()


@pytest.mark.parametrize("title", ["Gold", "long " * 40, "<g <g> </g> -- <g/>"])
def test_the_svg_of_the_page_has_no_frame_and_is_as_high_as_the_rest(title: str) -> None:
    study = examples.frontier()
    study["figures"][0]["title"] = title
    (drawing,) = figures.drawings(printable(study)).values()
    svg = to_svg(drawing.figure)
    bare = pictures.bare(drawing, svg)
    assert svg.count('<g id="frame-') == 2
    assert "frame-" not in bare
    ElementTree.fromstring(bare)
    height = 72 * (drawing.figure.get_figheight() - drawing.heading - drawing.small)
    found = re.search(r'height="([\d.]+)pt" viewBox="0 ([\d.]+) [\d.]+ ([\d.]+)"', bare)
    assert found
    assert [float(part) for part in found.groups()] == pytest.approx([height, 72 * drawing.heading, height], abs=0.01)
    used = set(re.findall(r'href="#([^"]+)"', bare)) | set(re.findall(r"url\(#([^)]+)\)", bare))
    assert used <= set(re.findall(r'id="([^"]+)"', bare))
    with pytest.raises(ValueError, match="the SVG has no size"):
        pictures.bare(drawing, "<svg></svg>")


def test_the_layout_is_solved_once_for_all_files(monkeypatch: pytest.MonkeyPatch) -> None:
    solved = []
    execute = ConstrainedLayoutEngine.execute
    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", lambda *given: (solved.append(1), execute(*given))[1])
    drawings = figures.drawings(printable(examples.table_1()))
    pictures.both(drawings)
    assert len(solved) == len(drawings) == 2


def test_roles_have_the_same_colour_in_every_figure() -> None:
    for make in examples.EXAMPLES.values():
        study = make()
        for figure in study["figures"]:
            given = looks.of(study, figure)
            assert all(looks.of_all(study)[key].colour == look.colour for key, look in given.items() if key[0] in KEPT)
            for (role, label), look in given.items():
                expected = dict(zip(("ppo", "salsa", "control"), COLOURS, strict=False)) | {"sft": GREY, "soup": INK}
                first = next(other for kind, other in given if kind == role)
                if label == first:
                    assert look.colour == expected[role]


def test_a_control_keeps_its_look_where_the_others_are_absent() -> None:
    study = examples.table_1()
    whole = looks.of(study, study["figures"][1])
    alone = {**study["figures"][1], "series": study["figures"][1]["series"][-1:]}
    key = ("control", "start+ref soup")
    assert looks.of({**study, "figures": [*study["figures"], alone]}, alone)[key] == whole[key]


@pytest.mark.parametrize("role", ["salsa", "control", "soup"])
def test_series_of_one_role_are_told_apart(role: str) -> None:
    series = [{"label": str(number), "role": role, "points": []} for number in range(7)]
    figure = {"series": series}
    given = looks.of({"figures": [figure]}, figure)
    assert len({(look.colour, look.marker) for look in given.values()}) == 7
    assert all(re.fullmatch("#[0-9a-fA-F]{6}", look.colour) for look in given.values())


def test_intervals_are_drawn_from_low_to_high_in_the_unit_of_the_axis() -> None:
    axis = drawn(examples.table_1())["win_rates"].axes[0]
    bars = [line for line in axis.get_lines() if line.get_color() == COLOURS[1] and len(line.get_xdata()) == 2]
    assert next(list(map(float, bar.get_xdata())) for bar in bars) == pytest.approx([54.7, 58.7])
    assert axis.get_title(loc="left") == "Llama2"
    dashed = [line for line in axis.get_lines() if line.get_color() == GREY]
    assert [list(line.get_xdata()) for line in dashed] == [[50, 50]]


def test_a_missing_point_is_named_or_left_out_and_not_joined_over() -> None:
    assert [text.get_text() for text in texts(drawn(examples.table_1())["win_rates"])].count("missing") == 1
    study = examples.alpha()
    study["figures"][0]["series"][0]["points"][2] |= {"value": None, "low": None, "high": None}
    axis = drawn(study)["alpha"].axes[0]
    line = next(line for line in axis.get_lines() if len(line.get_xdata()) == 5)
    assert [value != value for value in line.get_ydata()] == [False, False, True, False, False]


def test_all_points_and_intervals_are_within_the_axes() -> None:
    for make in examples.EXAMPLES.values():
        study = printable(make())
        for figure in named(study).values():
            if figure["kind"] == "plane":
                continue
            made = figures.draw(study, figure).figure
            scale = figure["y"].get("scale") or 1
            for axis in made.axes:
                ends = axis.get_xlim() if figure["kind"] == "intervals" else axis.get_ylim()
                numbers = [
                    point[key] * scale
                    for series in figure["series"]
                    for point in series["points"]
                    for key in ("low", "value", "high")
                    if point[key] is not None
                ]
                assert min(ends) <= min(numbers)
                assert max(numbers) <= max(ends)


def test_points_at_one_place_stand_beside_each_other_and_near_it() -> None:
    figure = drawn(examples.alpha())["lengths"]
    figure.draw_without_rendering()
    axis = figure.axes[0]
    lines = [line for line in axis.get_lines() if len(line.get_xdata()) == 6]
    true = axis.transData.transform((0.1, 30.0))[0]
    places = [line.get_transform().transform((0.1, 30.0))[0] for line in lines]
    assert len(set(places)) == len(lines) == 4
    assert sum(places) / 4 == pytest.approx(true)
    assert max(places) - min(places) <= 0.2 * figure.dpi


def test_points_of_paths_keep_their_order_and_those_of_lines_are_ordered() -> None:
    study = examples.frontier()
    study["figures"][0]["series"][0]["points"].reverse()
    path = next(line for line in drawn(study)["frontier"].axes[0].get_lines() if len(line.get_xdata()) == 6)
    assert list(path.get_xdata()) == sorted(path.get_xdata(), reverse=True)
    study["figures"][0]["kind"] = "lines"
    line = next(line for line in drawn(study)["frontier"].axes[0].get_lines() if len(line.get_xdata()) == 6)
    assert list(line.get_xdata()) == sorted(line.get_xdata())


@pytest.mark.parametrize(
    ("places", "scale"),
    [([0.1, 1.0], "log"), ([0, 0.1, 1.0], "symlog"), ([-1.0, 1.0], "linear"), (["a", "b"], "linear")],
)
def test_a_logarithmic_axis_takes_what_has_a_logarithm(places: list[Any], scale: str) -> None:
    study = examples.alpha()
    points = [{"x": place, "value": 1.0, "low": None, "high": None} for place in places]
    study["figures"][1]["series"] = [{"label": "a", "role": "ppo", "points": points}]
    figure = drawn(study)["lengths"]
    figure.draw_without_rendering()
    assert figure.axes[0].get_xscale() == scale
    names = [str(place) if isinstance(place, str) else f"{place:g}".replace("-", "−") for place in places]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == names


def test_the_small_print_says_what_is_drawn() -> None:
    study = printable(examples.table_1())
    bars, bands = (figures.explanation(study, figure) for figure in study["figures"])
    assert bars == "Points: means over 8 replicates; bars: 95% intervals; dashed: 50, where neither is better."
    assert figures.explanation(study, study["figures"][0] | {"explanation": "Counts."}) == "Counts."
    plane = printable(examples.plane())
    assert figures.explanation(plane, plane["figures"][0]).startswith(
        "Shading: means over 8 replicates, 58 soups (dots), linear between them; brighter is better."
    )
    alone = "bands are of each arm alone; arms share replicates, so their differences are surer than the bands look"
    assert bands == f"Lines: means over 8 replicates; bands: 95% intervals; {alone}."
    study["figures"][1]["series"] = study["figures"][1]["series"][:1]
    assert "bands are of" not in figures.explanation(study, study["figures"][1]), "there is one arm"
    alone = printable(EVERY["one replicate"]())
    assert figures.explanation(alone, alone["figures"][1]) == "Lines: one replicate, so there are no intervals."


def test_file_names_are_safe_and_their_own() -> None:
    study = examples.alpha()
    one, other = study["figures"]
    one["name"], other["name"] = "../a b", "A_B"
    study["figures"] += [{**one, "name": "/"}, {**one, "name": "gone", "series": []}]
    assert list(named(study)) == ["a_b", "A_B_2", "figure"]


def test_equal_studies_give_equal_files_of_each_kind(tmp_path: Path) -> None:
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        paths, _ = figures.write_all(printable(examples.frontier()), tmp_path / name)
        written.append({path.name: path.read_bytes() for path in paths})
    assert written[0] == written[1]
    starts = {"frontier.png": b"\x89PNG", "frontier.svg": b"<?xml", "frontier.pdf": b"%PDF"}
    assert {name: data[: len(starts[name])] for name, data in written[0].items()} == starts


@pytest.mark.parametrize("name", ["names", "extreme", "one replicate"])
def test_odd_studies_can_be_drawn(name: str) -> None:
    found = drawn(EVERY[name]())
    assert found
    for figure in found.values():
        assert to_png(figure)
        assert "<svg" in to_svg(figure)
    if name == "names":
        assert any(r"\$f\$" in text.get_text() for figure in found.values() for text in texts(figure))


def test_the_legend_names_what_is_drawn_and_nothing_else() -> None:
    found = drawn(EVERY["extreme"]())
    assert [text.get_text() for text in found["lengths"].legends[0].get_texts()] == list(examples.ARMS)
    assert [text.get_text() for text in found["alpha"].legends[0].get_texts()] == [
        "KL coefficient tuned for each alpha"
    ]
    study = examples.alpha()
    study["figures"][0]["series"] = study["figures"][0]["series"][:1]
    study["figures"][0]["title"] = "Win rate, KL coefficient tuned for each alpha"
    assert drawn(study)["alpha"].legends == []


def test_without_results_there_is_no_figure() -> None:
    assert drawn(EVERY["nothing measured"]()) == {}


def test_shades_of_ink_follow_the_page() -> None:
    assert to_hex(looks.swatch("soup")) == INK


def test_the_plane_shows_the_triangle_its_models_and_every_soup_in_each_panel() -> None:
    figure = drawn(examples.plane())["plane"]
    panels = [axis for axis in figure.axes if axis.get_title(loc="left")]
    assert [axis.get_title(loc="left") for axis in panels] == [
        "Gold reward",
        "Reward-model score",
        "Held-out SFT loss",
    ]
    for axis in panels:
        names = {text.get_text() for text in axis.texts}
        assert {"SFT1", "SFT2", "SFT3"} <= names
        dots = next(line for line in axis.get_lines() if line.get_marker() == ".")
        assert len(dots.get_xdata()) == 58
        ring = next(line for line in axis.get_lines() if len(line.get_xdata()) == 4)
        corners = [(model["x"], model["y"]) for model in examples.MODELS]
        assert [tuple(map(float, at)) for at in ring.get_xydata()] == [*corners, corners[0]]
        star = next(line for line in axis.get_lines() if line.get_marker() == "*")
        assert list(map(float, star.get_xydata()[0])) == pytest.approx([0.5, 0.866 / 3])
    bars = [axis.get_xlabel() for axis in figure.axes if axis not in panels]
    assert bars == ["points, higher is better", "normalised, higher is better", "nats a token, lower is better"]


def test_a_plane_without_enough_values_leaves_its_panel_out() -> None:
    study = examples.plane()
    for point in study["figures"][0]["series"][1]["points"][2:]:
        point["value"] = None
    titles = [axis.get_title(loc="left") for axis in drawn(study)["plane"].axes]
    assert [title for title in titles if title] == ["Gold reward", "Held-out SFT loss"]


def test_the_mark_of_a_row_is_that_of_its_series() -> None:
    study = examples.table_1()
    given = looks.of_all(study)
    square = looks.mark("salsa", given["salsa", "SALSA"])
    assert square.count("M") == 1
    assert square.count("L") == 3
    assert "style=" not in square, "the sheet has the colour of a role"
    second = looks.mark("control", given["control", "start+ref soup"])
    assert f"color: {given['control', 'start+ref soup'].colour}" in second
    assert second != looks.mark("control", given["control", "ref SFT2"])
    assert looks.mark("other", None).count("C") > 3


@pytest.mark.parametrize(("count", "grid"), [(1, (1, 1)), (2, (2, 1)), (3, (3, 1)), (4, (2, 2)), (5, (3, 2))])
def test_four_panels_stand_in_a_square(count: int, grid: tuple[int, int]) -> None:
    assert panels.grid({"series": [{"panel": str(number)} for number in range(count)]}) == grid


def test_the_line_of_a_win_rate_says_that_neither_is_better_and_where_better_is() -> None:
    assert [text.get_text() for text in texts(drawn(examples.table_1())["win_rates"])].count("equal · better →") == 3
    found = drawn(examples.alpha())
    assert {"equal", "better ↑"} <= {text.get_text() for text in texts(found["alpha"])}
    assert not any("equal" in text.get_text() for text in texts(found["lengths"])), "it has no such line"


@pytest.mark.parametrize("shift", [-0.4, 0.3])
def test_the_name_of_the_line_is_seen_wherever_the_line_is(shift: float) -> None:
    study = examples.table_1()
    for point in (point for series in study["figures"][0]["series"] for point in series["points"]):
        point |= {key: value + shift for key in ("value", "low", "high") if (value := point[key]) is not None}
    figure = drawn(study)["win_rates"]
    for axis in figure.axes:
        (name,) = (text for text in axis.texts if "equal" in text.get_text())
        box, inside = name.get_window_extent(), axis.get_window_extent()
        assert inside.x0 <= box.x0 <= box.x1 <= inside.x1
        assert inside.y0 <= box.y0 <= box.y1 <= inside.y1


def contrast(colour: str, page: str) -> float:
    """Return the contrast of two colours as WCAG 2 defines it."""

    def luminance(text: str) -> float:
        shares = [int(text[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted(map(luminance, (colour, page)))
    return (light + 0.05) / (dark + 0.05)


def test_two_controls_differ_in_colour_and_are_seen_on_any_page() -> None:
    series = [{"label": str(number), "role": role, "points": []} for role in KEPT for number in range(2)]
    figure = {"series": series}
    given = looks.of({"figures": [figure]}, figure)
    colours = [look.colour for look in given.values()]
    assert len(set(colours)) == 4
    assert min(contrast(colour, page) for colour in colours for page in ("#ffffff", "#14181d")) >= 3
    hues = [colorsys.rgb_to_hsv(*to_rgb(colour))[0] for colour in colours[:2]]
    assert 0.3 < abs(hues[0] - hues[1]) < 0.7, "green and pink"


def test_numbers_in_figures_have_one_minus_sign() -> None:
    study = examples.plane()
    study["figures"][0]["series"][0]["note"] = (
        "barycentre less best model: -0.10 [-0.20, +0.00]; best at -0.5 : 1.5 : 0"
    )
    shown = " ".join(text.get_text() for text in texts(drawn(study)["plane"]))
    assert "−0.10 [−0.20, +0.00]" in shown
    assert not re.search(r"-\.?\d", shown)
