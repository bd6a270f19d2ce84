import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from salsa.report.figures import COLOURS
from salsa.report.landscape import figures
from salsa.report.landscape.evidence import Evidence
from salsa.report.landscape.summary import assemble
from tests.report.landscape import factory

NEAR = ("PPO", "SALSA")
TITLES = ("Gold reward (judge)", "Reward-model score", "SFT loss, held-out")


def summary(evidence: Evidence) -> dict[str, Any]:
    return assemble(evidence, np.random.default_rng(0), 50)


def stretched(gram: list[list[float]]) -> Evidence:
    return replace(factory.evidence(policies=()), gram=np.array(gram), geometry=None)


AT_A_MODEL = np.zeros((6, 8))
AT_A_MODEL[0, 0], AT_A_MODEL[1, :2], AT_A_MODEL[2:, 2:6] = 12, (6, 11), np.eye(4)
AT_A_MODEL[5, 0] = 6

WORLDS: dict[str, Evidence] = {
    "everything": factory.evidence(),
    "two models, no judge, no policies": factory.without(factory.evidence(models=2, policies=()), "judge"),
    "loss only": factory.without(factory.without(factory.evidence(policies=NEAR), "judge"), "reward"),
    "noise": factory.evidence(intervals=(20, 6), world=factory.World(noise=2.0)),
    "no margin": factory.evidence(intervals=(4, 4), beyond=(0, 0)),
    "one interval": factory.evidence(intervals=(1, 1), beyond=(0, 0)),
    "one interval and a margin": factory.evidence(intervals=(1, 1), beyond=(1, 1)),
    "equal soups": factory.evidence(world=factory.World(noise=2.0, slope=0.0)),
    "one cluster": factory.evidence(world=factory.World(subjects=1)),
    "a flat triangle": stretched([[25.0, 1.0], [1.0, 1.5]]),
    "a tall triangle": stretched([[2.0, 1.0], [1.0, 12.0]]),
    "policies at a model": replace(factory.evidence(), gram=AT_A_MODEL @ AT_A_MODEL.T, geometry=None),
    "one model of two": replace(factory.evidence(models=2), geometry=factory.geometry(["SFT2"])),
    "many layers": replace(
        factory.evidence(models=2, policies=NEAR), geometry=factory.geometry(("SFT1", "SFT2", *NEAR), 32)
    ),
}


@pytest.fixture(scope="module")
def landscape() -> dict[str, Any]:
    return summary(WORLDS["everything"])


@pytest.fixture(scope="module")
def drawn(landscape: dict[str, Any]) -> dict[str, Figure]:
    return figures.figures(landscape)


def texts(figure: Figure) -> list[Text]:
    """Return every text that is seen: labels of ticks beyond the ends of an axis are not."""
    figure.draw_without_rendering()
    beyond: set[int] = set()
    for line in (line for axis in figure.axes for line in (axis.xaxis, axis.yaxis)):
        low, high = sorted(line.get_view_interval())
        room = 1e-9 * (high - low)
        for tick in [*line.get_major_ticks(), *line.get_minor_ticks()]:
            if not low - room <= tick.get_loc() <= high + room:
                beyond |= {id(tick.label1), id(tick.label2)}
    shown = (text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip())
    return [text for text in shown if id(text) not in beyond]


@pytest.mark.parametrize("name", WORLDS)
def test_no_text_is_cut_off_or_covers_another(name: str) -> None:
    for kind, figure in figures.figures(summary(WORLDS[name])).items():
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
        page = figure.bbox
        for text, box in boxes:
            across, up = (box.x0 - page.x0, page.x1 - box.x1), (box.y0 - page.y0, page.y1 - box.y1)
            assert min(*across, *up) >= -1, f"{kind}: {text!r} is cut off"
        for (first, one), (second, other) in itertools.combinations(boxes, 2):
            shared = [
                min(one.x1, other.x1) - max(one.x0, other.x0),
                min(one.y1, other.y1) - max(one.y0, other.y0),
            ]
            # Boxes hold room for strokes that a text may not have.
            assert min(shared) < 2, f"{kind}: {first!r} covers {second!r}"


def test_equal_landscapes_give_equal_files(landscape: dict[str, Any], tmp_path: Path) -> None:
    written = figures.write_all(landscape, tmp_path)
    assert [path.name for path in written] == [
        f"{name}.{suffix}" for name in ("line", "plane", "layers") for suffix in ("png", "svg")
    ]
    first = {path.name: path.read_bytes() for path in written}
    assert ElementTree.fromstring(first["plane.svg"]).tag.endswith("svg")
    figures.write_all(summary(WORLDS["everything"]), tmp_path)
    assert {path.name: path.read_bytes() for path in written} == first


def test_the_line_shows_each_quantity_over_alpha(landscape: dict[str, Any], drawn: dict[str, Figure]) -> None:
    upper, lower = drawn["line"].axes[:3], drawn["line"].axes[3:]
    assert tuple(axis.get_title(loc="left") for axis in upper) == TITLES
    assert [axis.get_ylabel() for axis in upper] == [
        "points, higher is better",
        "normalised, higher is better",
        "nats a token, lower is better",
    ]
    assert {axis.get_xlabel() for axis in lower} == {"α, weight of SFT2"}
    points = landscape["line"]["points"]
    for axis, key in zip(upper, ("judge", "reward", "loss"), strict=True):
        curve = next(line for line in axis.get_lines() if len(line.get_xdata()) == len(points))
        assert list(curve.get_xdata()) == [point["weights"][1] for point in points]
        assert list(curve.get_ydata()) == [point["values"][key]["value"] for point in points]
        chord = next(line for line in axis.get_lines() if list(line.get_xdata()) == [0, 1])
        assert list(chord.get_ydata()) == [
            point["values"][key]["value"] for point in points if max(point["weights"]) == 1
        ]
        assert [text.get_text() for text in axis.texts] == ["SFT1", "midpoint", "SFT2"]
        difference = landscape["line"]["findings"][key]["differences"]["SFT1"]
        assert f"{abs(difference['value']):.2f}" in axis.get_xlabel().splitlines()[0]


def test_bars_are_the_shares_of_resamples(landscape: dict[str, Any], drawn: dict[str, Figure]) -> None:
    for axis, key in zip(drawn["line"].axes[3:], ("judge", "reward", "loss"), strict=True):
        heights = [bar.get_height() for bar in axis.patches[: len(landscape["line"]["points"])]]
        assert heights == pytest.approx([100 * point["best_share"][key] for point in landscape["line"]["points"]])


def marks(axis: Any, number: int) -> list[tuple[float, float]]:
    """Return where the marks of a policy stand, from below."""
    colour = COLOURS[number]
    lines = (line for line in axis.get_lines() if line.get_color() == colour and len(line.get_xdata()) == 1)
    return sorted((float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines)


def test_policies_stand_near_their_foot_with_their_own_value(
    landscape: dict[str, Any], drawn: dict[str, Figure]
) -> None:
    axis = drawn["line"].axes[0]
    width = axis.get_xlim()[1] - axis.get_xlim()[0]
    for number, other in enumerate(landscape["others"]):
        (foot, bottom), (place, value) = marks(axis, number)
        assert (bottom, value) == (0, other["values"]["judge"]["value"])
        assert foot == place == pytest.approx(other["line"]["weights"][1], abs=0.05 * width)
    legend = [text.get_text() for text in drawn["line"].legends[0].get_texts()]
    assert "PPO (α = −0.06, 1.14 off the line)" in legend


def test_policies_that_meet_stand_side_by_side() -> None:
    names = [*factory.NAMES[:2], *factory.POLICIES]
    steps = np.zeros((5, 8))
    steps[0, 0], steps[1:, 1:5] = 5, np.eye(4)
    made = summary(replace(factory.evidence(models=2), gram=steps @ steps.T, geometry=None))
    assert made["distances"]["names"] == names
    assert [other["line"]["weights"][1] for other in made["others"]] == [0] * 4
    axis = figures.figures(made)["line"].axes[0]
    places = sorted(marks(axis, number)[0][0] for number in range(4))
    width = axis.get_xlim()[1] - axis.get_xlim()[0]
    assert min(after - before for before, after in itertools.pairwise(sorted([*places, 0.0]))) > 0.03 * width


def test_the_plane_shows_each_quantity_in_weight_distance(landscape: dict[str, Any], drawn: dict[str, Figure]) -> None:
    panels = drawn["plane"].axes[:3]
    for axis in panels:
        assert axis.get_aspect() == 1
        names = {text.get_text(): text.xy for text in axis.texts if isinstance(text, Annotation)}
        assert list(names) == ["SFT1", "SFT2", "SFT3"]
        assert np.array([names[name] for name in factory.NAMES]) == pytest.approx(
            np.array(landscape["plane"]["coordinates"])
        )
        dots = next(line for line in axis.get_lines() if len(line.get_xdata()) == len(landscape["plane"]["points"]))
        places = [point["coordinates"] for point in landscape["plane"]["points"]]
        assert np.array(dots.get_xydata()) == pytest.approx(np.array(places))
    assert panels[0].get_xlabel() == "distance from SFT1 towards SFT2"
    assert {axis.get_xlim() for axis in panels} == {panels[0].get_xlim()}
    legend = [text.get_text() for text in drawn["plane"].legends[0].get_texts()]
    assert "PPO (1.1 off the plane)" in legend
    assert "barycentre" in legend


def test_better_is_brighter_in_every_panel(landscape: dict[str, Any], drawn: dict[str, Figure]) -> None:
    for axis, key in zip(drawn["plane"].axes[:3], ("judge", "reward", "loss"), strict=True):
        colours = axis.collections[0]
        values = [point["values"][key]["value"] for point in landscape["plane"]["points"]]
        worst, best = (max, min) if key == "loss" else (min, max)
        dark, bright = (sum(colours.to_rgba(pick(values))[:3]) for pick in (worst, best))
        assert bright > dark


def test_contours_cover_the_grid(landscape: dict[str, Any], drawn: dict[str, Figure]) -> None:
    # The area of the hexagon: a triangle of 1 + 3m times the edge, less three corners of m times the edge.
    (x0, y0), (x1, y1), (x2, y2) = landscape["plane"]["coordinates"]
    triangle = abs((x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)) / 2
    margin = 1 / 3
    areas = 0.0
    for path in drawn["plane"].axes[0].collections[0].get_paths():
        for ring in path.to_polygons():
            x, y = ring[:, 0], ring[:, 1]
            areas += float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2
    assert abs(areas) == pytest.approx(triangle * ((1 + 3 * margin) ** 2 - 3 * margin**2), rel=1e-6)


@pytest.mark.parametrize("name", [name for name, world in WORLDS.items() if world.plane])
def test_names_and_marks_on_the_plane_are_within_its_panels(name: str) -> None:
    figure = figures.figures(summary(WORLDS[name]))["plane"]
    figure.draw_without_rendering()
    for axis in (axis for axis in figure.axes if axis.get_title(loc="left") in TITLES):
        panel = axis.bbox
        for text in axis.texts:
            box = text.get_window_extent()
            assert min(box.x0 - panel.x0, panel.x1 - box.x1, box.y0 - panel.y0, panel.y1 - box.y1) > -1, text.get_text()
        for line in (line for line in axis.get_lines() if line.get_marker() not in ("", "None")):
            half = line.get_markersize() / 2 * figure.dpi / 72
            x, y = line.get_transform().transform(line.get_xydata()).T
            assert min(x.min() - panel.x0, panel.x1 - x.max(), y.min() - panel.y0, panel.y1 - y.max()) >= half - 1


@pytest.mark.parametrize("name", ["one interval", "no margin", "everything", "policies at a model"])
def test_bars_and_policies_are_within_the_line_panels(name: str) -> None:
    figure = figures.figures(summary(WORLDS[name]))["line"]
    for axis in figure.axes[3:]:
        left, right = axis.get_xlim()
        (bars,) = axis.containers
        for bar in bars:
            assert left < bar.get_x() < bar.get_x() + bar.get_width() < right
    for number in range(len(WORLDS[name].others)):
        places = [place for place, _ in marks(figure.axes[0], number)]
        left, right = figure.axes[0].get_xlim()
        assert all(left + 0.02 * (right - left) < place < right - 0.02 * (right - left) for place in places)


def test_a_line_over_the_bars_shows_the_highest_by_chance(landscape: dict[str, Any], drawn: dict[str, Figure]) -> None:
    for axis, key in zip(drawn["line"].axes[3:], ("judge", "reward", "loss"), strict=True):
        (chance,) = (line for line in axis.get_lines() if len(line.get_ydata()) == 2)
        expected = 100 * landscape["line"]["findings"][key]["best"]["chance_share"]
        assert list(chance.get_ydata()) == pytest.approx([expected] * 2)


def test_layers_show_norms_and_cosines(landscape: dict[str, Any], drawn: dict[str, Figure]) -> None:
    norms, cosines = drawn["layers"].axes
    geometry = landscape["geometry"]
    labels = [line.get_label() for line in norms.get_lines() if not line.get_label().startswith("_")]
    assert labels == list(geometry["names"])
    marks = [line for line in norms.get_lines() if line.get_label().startswith("_")]
    assert list(marks[0].get_ydata()) == [layer["norms"][0] for layer in geometry["layers"]]
    assert [text.get_text() for text in norms.get_xticklabels()] == ["embed", "0", "1", "2", "3", "norm", "head"]
    pairs = [text.get_text() for text in cosines.get_legend().get_texts()]
    assert pairs == [
        "SFT1 and SFT2: 0.23 over all layers",
        "SFT1 and SFT3: 0.16 over all layers",
        "SFT2 and SFT3: 0.20 over all layers",
    ]


def test_layers_have_no_angles_for_a_single_model() -> None:
    made = summary(replace(factory.evidence(models=2, policies=NEAR), geometry=factory.geometry(["SFT2", *NEAR])))
    (axis,) = figures.figures(made)["layers"].axes
    assert [line.get_label() for line in axis.get_lines() if not line.get_label().startswith("_")] == ["SFT2", *NEAR]


def test_the_small_print_says_what_was_asked(landscape: dict[str, Any]) -> None:
    made = figures.figures({**landscape, "title": "llama2, tiny", "suite": "validation"})
    for name in ("line", "plane"):
        text = " ".join(made[name].get_supxlabel().split())
        assert text.startswith("llama2, tiny: ")
        assert "240 replies a point to the same prompts of validation (60 clusters)" in text
    assert made["layers"].get_supxlabel().startswith("llama2, tiny: ")
    for figure in figures.figures({**landscape, "title": "llama2, tiny", "replicate": 0}).values():
        assert figure.get_supxlabel().startswith("llama2, tiny, replicate 0: ")


def test_what_there_is_no_data_for_is_not_drawn() -> None:
    made = summary(replace(factory.evidence(models=2, policies=()), geometry=None))
    assert list(figures.figures(made)) == ["line"]
    blind = factory.without(factory.without(WORLDS["two models, no judge, no policies"], "reward"), "loss")
    assert list(figures.figures(summary(replace(blind, geometry=None)))) == []


def test_names_that_look_like_formulas_are_shown_as_they_are() -> None:
    made = factory.evidence(policies=("PPO",))
    odd = ("$a$", "b_$x$", "_c")
    made = replace(made, models=odd, geometry=None)
    for figure in figures.figures(summary(made)).values():
        shown = " ".join(text.get_text() for text in texts(figure))
        assert r"\$a\$" in shown
