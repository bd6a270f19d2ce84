import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from salsa.report import figures
from tests.report import factory


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return figures.write_all(factory.experiment(), tmp_path_factory.mktemp("figures"))


def test_every_figure_is_written_as_png_and_svg(written: list[Path]) -> None:
    names = [f"{name}.{suffix}" for name in ("scores", "curves", "calibration") for suffix in ("png", "svg")]
    assert [path.name for path in written] == names
    for path in written:
        data = path.read_bytes()
        if path.suffix == ".png":
            assert data.startswith(b"\x89PNG")
        else:
            assert ElementTree.fromstring(data).tag.endswith("svg")
            assert b"<dc:date>" not in data


def test_equal_experiments_give_equal_files(written: list[Path]) -> None:
    again = figures.figures(factory.experiment())
    for path in written:
        if path.stem == "scores":
            expected = (
                figures.to_png(again["scores"]) if path.suffix == ".png" else figures.to_svg(again["scores"]).encode()
            )
            assert path.read_bytes() == expected


def test_curves_show_scores_length_and_kl_to_each_anchor_for_each_trained_policy() -> None:
    figure = figures.curves(factory.experiment())
    axes = [axis for axis in figure.axes if axis.get_visible()]
    titles = ["Reward model (optimised)", "Gold reward (judge)", "Length", "KL to SFT1", "KL to SFT2", "KL to soup"]
    assert [axis.get_title(loc="left") for axis in axes] == titles
    for axis in axes:
        assert [line.get_label() for line in axis.get_lines()] == list(factory.TRAINED)
        assert axis.get_ylabel()
    assert [axis.get_xlabel() for axis in axes[3:]] == ["PPO step"] * 3
    drawn = axes[3].get_lines()[0].get_ydata()
    assert list(drawn) == [point["kl"]["SFT1"]["k1"] for point in factory.experiment()["curves"]["SALSA"]]
    # A band for each policy where there are standard errors, none where there are not.
    assert [len(axis.collections) for axis in axes] == [0, 0, 0, 4, 4, 4]
    assert len({axis.get_ylim() for axis in axes[3:]}) == 1


def test_a_policy_has_one_colour_in_all_figures() -> None:
    experiment = factory.experiment()
    lines = figures.curves(experiment).axes[0].get_lines()
    colours = {line.get_label(): line.get_color() for line in lines}
    assert len(set(colours.values())) == 4
    dots = [line for line in figures.scores(experiment).axes[0].get_lines() if line.get_marker() == "o"]
    for row, dot in zip(experiment["rows"], dots, strict=True):
        assert dot.get_color() == colours.get(row["name"], figures.GREY)


def test_panels_without_values_are_left_out_and_gaps_stay_gaps() -> None:
    experiment = factory.experiment()
    for points in experiment["curves"].values():
        for point in points:
            point["judge"] = None
    experiment["curves"]["PPO"][2]["reward"] = None
    experiment["curves"]["PPO"][1]["kl"] = {}
    figure = figures.curves(experiment)
    titles = [axis.get_title(loc="left") for axis in figure.axes if axis.get_visible()]
    assert titles == ["Reward model (optimised)", "Length", "KL to SFT1", "KL to SFT2", "KL to soup"]
    assert figures.to_png(figure)


def test_what_there_is_no_data_for_is_not_drawn() -> None:
    experiment = factory.experiment()
    experiment["curves"], experiment["reward_model"] = {}, None
    for row in experiment["rows"]:
        for cell in row["suites"].values():
            cell["judge"] = None
    assert figures.figures(experiment) == {}


def test_a_missing_score_is_written_in_its_place() -> None:
    experiment = factory.experiment()
    del experiment["rows"][3]["suites"]["hard"]
    axis = figures.scores(experiment).axes[2]
    assert [(text.get_text(), text.get_position()[1]) for text in axis.texts] == [("missing", 3)]


def test_empty_bins_are_left_out_of_the_reliability_diagram() -> None:
    experiment = factory.experiment()
    bins = experiment["reward_model"]["reliability"]
    bins[0] |= {"count": 0, "predicted": None, "observed": None}
    upper, lower = figures.calibration(experiment).axes
    curve = next(line for line in upper.get_lines() if line.get_label() == "reward model")
    assert list(curve.get_xdata()) == [each["predicted"] for each in bins[1:]]
    assert len(lower.patches) == 9
    assert re.search(r"accuracy 74.8", upper.texts[0].get_text())


def test_confidences_above_one_half_fill_the_reliability_diagram() -> None:
    experiment = factory.experiment()
    bins = experiment["reward_model"]["reliability"]
    experiment["reward_model"]["reliability"] = [each for each in bins if each["predicted"] >= 0.5]
    upper, _ = figures.calibration(experiment).axes
    assert upper.get_xlim() == (0.5, 1)
    assert upper.get_ylim() == (0.5, 1)
