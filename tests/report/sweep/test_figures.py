import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from salsa.report.figures import COLOURS, GREY, to_png, to_svg
from salsa.report.sweep.cells import Cell
from salsa.report.sweep.figures import MOST_LINES, over
from tests.report.sweep.factory import experiment, sweep

KLS = [0.1, 0.2, 0.4]


def drawn(cells: Sequence[Cell], key: str) -> Figure:
    figure = over(cells, key)
    assert figure is not None
    return figure


def labelled(axis: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in axis.get_lines() if not line.get_label().startswith("_")}


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for each in figure.legends for text in each.get_texts()]


def test_a_single_key_has_the_policy_beside_its_opponent_and_the_win_rate() -> None:
    figure = drawn(sweep({"policy.kl_coef": KLS}, lambda keys: 1 + keys["policy.kl_coef"]), "policy.kl_coef")
    judged, won = figure.axes
    assert judged.get_title(loc="left") == "SALSA: gold reward, mean over suites"
    assert won.get_title(loc="left") == "SALSA: win rate against PPO"
    assert (judged.get_ylabel(), judged.get_xlabel(), won.get_xlabel()) == (
        "points",
        "policy.kl_coef",
        "policy.kl_coef",
    )
    assert legend(figure) == ["SALSA", "PPO"]
    policy = labelled(judged)["SALSA"]
    assert list(policy.get_xdata()) == KLS
    assert list(policy.get_ydata()) == [1.1, 1.2, 1.4]
    # The same colours as in the figures of one experiment, opponents first.
    assert [labelled(judged)[name].get_color() for name in ("PPO", "SALSA")] == list(COLOURS[:2])
    assert list(labelled(won)["SALSA"].get_ydata()) == pytest.approx([55.5, 56.0, 57.0])
    band = judged.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((1.0, 1.5))
    assert "95% intervals" in figure.get_supxlabel()


def test_there_is_a_line_for_each_combination_with_a_look_of_its_own() -> None:
    cells = sweep({"policy.kl_coef": KLS, "soup.alpha": list(range(MOST_LINES))})
    figure = drawn(cells, "policy.kl_coef")
    for axis in figure.axes:
        lines = labelled(axis)
        assert list(lines) == [f"soup.alpha={value}" for value in range(MOST_LINES)]
        looks = {(line.get_color(), str(line.get_linestyle()), line.get_marker()) for line in lines.values()}
        assert len(looks) == MOST_LINES
    first, second = (labelled(axis) for axis in figure.axes)
    assert [line.get_color() for line in first.values()] == [line.get_color() for line in second.values()]


def test_of_many_combinations_the_mean_stands_out() -> None:
    values = {"policy.kl_coef": KLS, "soup.alpha": list(range(MOST_LINES + 1))}
    figure = drawn(sweep(values, lambda keys: float(keys["soup.alpha"]), missing=[8]), "policy.kl_coef")
    faint = [line for line in figure.axes[0].get_lines() if line.get_color() == GREY and len(line.get_xdata()) == 3]
    assert len(faint) == MOST_LINES + 1
    assert legend(figure) == [
        "each of 9 settings of the other keys",
        "mean of the 8 that have every point",
        "result missing",
    ]
    mean = labelled(figure.axes[0])["mean of the 8 that have every point"]
    assert list(mean.get_ydata()) == [3.5] * 3


def test_missing_points_are_marked_and_not_joined_over() -> None:
    figure = drawn(sweep({"policy.kl_coef": KLS}, missing=[1]), "policy.kl_coef")
    for axis in figure.axes:
        assert [math.isnan(value) for value in labelled(axis)["SALSA"].get_ydata()] == [False, True, False]
        marks = [line for line in axis.get_lines() if line.get_marker() == "x" and len(line.get_xdata())]
        assert [list(line.get_xdata()) for line in marks] == [[0.2]]
        # A point that no line reaches keeps its interval.
        bars = [line for line in axis.get_lines() if list(line.get_xdata()) == [0.4, 0.4]]
        assert bars
    assert "result missing" in legend(figure)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0.1, 1.0], "linear"),
        ([0.1, 1.1], "log"),
        ([0, 0.01, 0.5], "symlog"),
        ([0, 0.25, 0.5, 1], "linear"),
        ([-1, 0.01, 1], "linear"),
        ([0, 1, 2, 3], "linear"),
    ],
)
def test_more_than_a_decade_is_logarithmic(values: list[float], scale: str) -> None:
    figure = drawn(sweep({"policy.kl_coef": values}), "policy.kl_coef")
    assert [axis.get_xscale() for axis in figure.axes] == [scale, scale]
    figure.draw_without_rendering()
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == [f"{value:g}" for value in values]


def test_repeats_are_thin_lines_around_their_mean() -> None:
    cells = sweep({"replicate": [0, 1, 2], "soup.alpha": [0, 0.5]}, lambda keys: float(keys["replicate"]))
    figure = drawn(cells, "soup.alpha")
    axis = figure.axes[0]
    thin = [line for line in axis.get_lines() if line.get_linewidth() < 1]
    assert [list(line.get_ydata()) for line in thin] == [[0, 0], [1, 1], [2, 2]]
    assert list(labelled(axis)["SALSA"].get_ydata()) == [1, 1]
    assert "mean of 3 repeats" in figure.get_supxlabel()


def test_replicates_have_no_order_and_are_not_joined() -> None:
    figure = drawn(sweep({"replicate": [0, 1, 2], "soup.alpha": [0, 0.5]}), "replicate")
    first, second = labelled(figure.axes[0]).values()
    assert {line.get_linestyle() for line in (first, second)} == {"None"}
    assert np.all(first.get_xdata() < second.get_xdata()), "points at one place stand beside each other"


def test_a_key_whose_name_is_a_formula_is_shown_as_it_is() -> None:
    figure = drawn(sweep({"x$_1$": [0, 1], "_y": ["a", "$b$"]}), "x$_1$")
    assert figure.axes[0].get_xlabel() == r"x\$_1\$"
    assert len(legend(figure)) == 2
    assert to_png(figure)


def test_without_results_there_is_no_figure() -> None:
    assert over(sweep({"policy.kl_coef": KLS}, missing=[0, 1, 2]), "policy.kl_coef") is None
    assert over(sweep({"model": ["llama2", "gemma"]}), "policy.kl_coef") is None


def test_experiments_without_a_judge_or_an_opponent_can_be_drawn() -> None:
    made = experiment({}, 1.0)
    made["rows"] = [row for row in made["rows"] if row["role"] != "opponent"]
    next(row for row in made["rows"] if row["role"] == "policy")["pooled"] = None
    cells = [Cell(job, {"soup.alpha": job}, str(job), made, "done") for job in range(2)]
    assert to_png(drawn(cells, "soup.alpha"))


def test_equal_sweeps_give_equal_files() -> None:
    pictures = []
    for _ in range(2):
        figure = drawn(sweep({"policy.kl_coef": KLS, "model": ["llama2", "gemma"]}, missing=[3]), "policy.kl_coef")
        pictures.append((to_png(figure), to_svg(figure)))
    assert pictures[0] == pictures[1]
