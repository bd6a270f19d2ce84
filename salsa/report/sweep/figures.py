"""Figures over the swept keys: the judge's score of the policy and its win rate against the opponent."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from salsa.report.figures import COLOURS, DASHES, GREY, MARKERS, STYLE, empty_figure
from salsa.report.sweep.cells import REPEATS, Cell, is_number, row_of, shown
from salsa.report.sweep.lines import Line, Pick, Point, mean_of_lines, of_key
from salsa.report.sweep.quantities import scores_there

MOST_LINES = 8
"""Combinations of the other keys that are told apart; of more, only their mean stands out."""
_FEW_LINES = 3
_POLICY = 1
"""Number of the policy's colour in the figures of one experiment; the opponent's is 0."""
_MOST_TICKS = 8
_DECADE = 10.0
_WIDTH, _HEIGHT, _LEGEND_LINE = 8.4, 3.3, 0.2  # inches
_LEGEND_CHARACTERS = 110
_LOWEST_MARK = 0.03  # of an axis' height
_BESIDE = 0.06
"""How far apart points beside each other stand, of the distance between two values of the key."""


@dataclass(frozen=True)
class Panel:
    """One quantity over the key: title, unit, where an experiment has it, and the value at which nobody is better."""

    title: str
    unit: str
    pick: Pick
    scale: float = 1.0
    even: float | None = None


@dataclass(frozen=True)
class Look:
    """How a line is drawn and what the legend says of it; `joined` says whether a line runs through its points.

    `opacity` is that of its band: many bands on each other must not hide the lines.
    """

    number: int
    label: str
    joined: bool = True
    opacity: float = 0.15

    @property
    def style(self) -> dict[str, Any]:
        """What matplotlib is given; after all colours come the same ones with other dashes and markers."""
        colour, turn = self.number % len(COLOURS), self.number // len(COLOURS)
        dash = DASHES[(colour + turn) % len(DASHES)] if self.joined else "none"
        marker = MARKERS[(colour + turn) % len(MARKERS)]
        return {"color": COLOURS[colour], "linestyle": dash, "marker": marker, "markersize": 4.5, "linewidth": 1.8}


def over(cells: Sequence[Cell], key: str) -> Figure | None:
    """Return the figure over a numeric swept key, a line for each combination of the others; None without results.

    Bands are the experiments' own intervals, or over repeats (replicates, seeds) Student t intervals of their mean.
    A missing experiment is a gap, marked at the bottom. Values beyond a decade get a logarithmic axis.
    """
    cells = [cell for cell in cells if is_number(cell.keys.get(key))]
    done = [cell.experiment for cell in cells if cell.experiment is not None]
    if not done:
        return None
    drawn = of_key(cells, key)
    level = done[0]["level"]
    with matplotlib.rc_context(STYLE):
        panels = _panels(done)
        figure = empty_figure(_WIDTH * len(panels) / 2, _HEIGHT)
        axes = figure.subplots(1, len(panels), squeeze=False).ravel()
        for axis, panel in zip(axes, panels, strict=True):
            axis.set(title=_plain(panel.title), xlabel=_plain(key), ylabel=_plain(panel.unit))
            _scale(axis, sorted({place for line in drawn for place in line.places}))
            if panel.even is not None:
                axis.axhline(panel.even, color=GREY, linewidth=1, linestyle=DASHES[2], zorder=1)
            _draw(axis, drawn, key, panel, level, _policy(done))
        if scores_there(done):
            _draw_opponent(axes[0], drawn, key, panels[0])
        for axis in axes:
            _mark_missing(axis, drawn)
        _legend(figure, axes[0])
        figure.supxlabel(_explanation(drawn, key, level), fontsize=8.5, color=GREY, x=0.01, ha="left")
    return figure


def _panels(done: Sequence[Mapping[str, Any]]) -> list[Panel]:
    judges = list(dict.fromkeys(each["judge"]["name"] for each in done))
    units = " / ".join(dict.fromkeys(each["judge"]["unit"] for each in done))
    opponents = {opponent["name"] for each in done if (opponent := row_of(each, "opponent")) is not None}
    against = opponents.pop() if len(opponents) == 1 else "the opponent"
    name = judges[0] if len(judges) == 1 else "judge score"
    policy = _policy(done)
    scores = Panel(f"{policy}: {name}, mean over suites", units, lambda each: _pooled(each, "policy").get("judge"))
    return [
        *([scores] if scores_there(done) else []),
        Panel(f"{policy}: win rate against {against}", "% (win + tie / 2; 50 is even)", _win_rate, 100.0, 50.0),
    ]


def _pooled(experiment: Mapping[str, Any], role: str) -> Mapping[str, Any]:
    return (row_of(experiment, role) or {}).get("pooled") or {}


def _win_rate(experiment: Mapping[str, Any]) -> Mapping[str, Any] | None:
    opponent = row_of(experiment, "opponent")
    return None if opponent is None else _pooled(experiment, "policy").get("win_rate", {}).get(opponent["name"])


def _policy(done: Sequence[Mapping[str, Any]]) -> str:
    names = {policy["name"] for each in done if (policy := row_of(each, "policy")) is not None}
    return names.pop() if len(names) == 1 else "policy"


def _scale(axis: Any, places: Sequence[float]) -> None:
    """Set the key's axis: logarithmic beyond a decade, with ticks at the swept values where there is room."""
    positive = [place for place in places if place > 0]
    if positive and places[0] >= 0 and positive[-1] / positive[0] > _DECADE:
        if places[0] > 0:
            axis.set_xscale("log")
        else:
            # Zero has no logarithm: between it and the smallest value the axis is linear.
            axis.set_xscale("symlog", linthresh=positive[0])
    axis.xaxis.set_minor_locator(NullLocator())
    if len(places) <= _MOST_TICKS:
        axis.xaxis.set_major_locator(FixedLocator(places))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(float(value))))
    elif axis.get_xscale() == "linear":
        axis.xaxis.set_major_locator(MaxNLocator(nbins=_MOST_TICKS))


def _draw(axis: Any, drawn: Sequence[Line], key: str, panel: Panel, level: float, policy: str) -> None:
    joined = key not in REPEATS
    if len(drawn) > MOST_LINES:
        _draw_many(axis, drawn, panel, level, joined)
        return
    for number, line in enumerate(drawn):
        opacity = 0.15 if len(drawn) <= _FEW_LINES else 0.06
        look = Look(number if len(drawn) > 1 else _POLICY, line.label or policy, joined, opacity)
        places = line.places if joined else _beside(line.places, number, len(drawn))
        if len(line.repeats) > 1:
            for repeat in range(len(line.repeats)):
                values = [value * panel.scale for value, _, _ in line.points(repeat, panel.pick)]
                axis.plot(
                    places, values, color=look.style["color"], linewidth=0.7, marker=".", markersize=3, alpha=0.45
                )
        _draw_line(axis, places, line.mean(panel.pick, level), panel.scale, look)


def _draw_line(axis: Any, places: Sequence[float], points: Sequence[Point], scale: float, look: Look) -> None:
    """Draw one line with its band; a point that no line reaches gets its interval as a bar."""
    values, lows, highs = ([number * scale for number in column] for column in zip(*points, strict=True))
    axis.plot(places, values, label=_plain(look.label), zorder=3, **look.style)
    if look.joined:
        axis.fill_between(places, lows, highs, color=look.style["color"], alpha=look.opacity, linewidth=0)
    for index, place in enumerate(places):
        alone = all(math.isnan(value) for value in [*values[max(0, index - 1) : index], *values[index + 1 : index + 2]])
        if alone or not look.joined:
            axis.plot([place] * 2, [lows[index], highs[index]], color=look.style["color"], linewidth=1.6)


def _draw_many(axis: Any, drawn: Sequence[Line], panel: Panel, level: float, joined: bool) -> None:
    for number, line in enumerate(drawn):
        values = [value * panel.scale for value, _, _ in line.mean(panel.pick, level)]
        style = {"color": GREY, "linewidth": 0.8, "marker": ".", "markersize": 4, "alpha": 0.6}
        label = f"each of {len(drawn)} settings of the other keys" if number == 0 else None
        axis.plot(line.places, values, linestyle="-" if joined else "none", label=label, **style)
    places, means, count = mean_of_lines(drawn, panel.pick, level)
    if count:
        label = f"mean of the {count} that have every point" if count < len(drawn) else "their mean"
        points = [(mean, math.nan, math.nan) for mean in means]
        _draw_line(axis, places, points, panel.scale, Look(_POLICY, label, joined))


def _draw_opponent(axis: Any, drawn: Sequence[Line], key: str, panel: Panel) -> None:
    """Draw the opponent's score beside a single line; with more lines it would have as many."""
    if len(drawn) != 1 or len(drawn[0].repeats) != 1:
        return
    experiments = [cell.experiment for cell in drawn[0].repeats[0].values() if cell.experiment is not None]
    names = {row["name"] for each in experiments if (row := row_of(each, "opponent")) is not None}
    if not names:
        return
    name = names.pop() if len(names) == 1 else "opponent"
    points = drawn[0].points(0, lambda experiment: _pooled(experiment, "opponent").get("judge"))
    _draw_line(axis, drawn[0].places, points, panel.scale, Look(0, name, key not in REPEATS))


def _beside(places: Sequence[float], number: int, count: int) -> list[float]:
    """Return places moved a little, so that points of several lines at one place are all seen."""
    step = min((after - before for before, after in pairwise(places)), default=1.0)
    return [place + (number - (count - 1) / 2) * _BESIDE * step for place in places]


def _mark_missing(axis: Any, drawn: Sequence[Line]) -> None:
    """Mark at the bottom where a result is missing, in the colour of its line where lines are told apart."""
    marks = {"marker": "x", "linestyle": "none", "markersize": 6, "transform": axis.get_xaxis_transform()}
    if any(line.missing() for line in drawn):
        axis.plot([], [], color=GREY, label="result missing", **marks)
    for number, line in enumerate(drawn):
        places = line.missing()
        apart = len(drawn) <= MOST_LINES
        colour = Look(number if len(drawn) > 1 else _POLICY, "").style["color"] if apart else GREY
        height = _LOWEST_MARK * (1 + number if apart else 1)
        axis.plot(places, [height] * len(places), color=colour, **marks)


def _legend(figure: Figure, axis: Any) -> None:
    handles, labels = axis.get_legend_handles_labels()
    if len(labels) < 2:
        return
    columns = max(1, min(4, len(labels), _LEGEND_CHARACTERS // (max(map(len, labels)) + 8)))
    figure.set_figheight(_HEIGHT + _LEGEND_LINE * -(-len(labels) // columns))
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, handlelength=3.2)


def _explanation(drawn: Sequence[Line], key: str, level: float) -> str:
    if len(drawn) > MOST_LINES:
        return "Thin: each setting; bold: mean of those without a gap. Their intervals are in the table."
    repeats = max(len(line.repeats) for line in drawn)
    if repeats > 1:
        return f"Bold: mean of {repeats} repeats, band: its {level:.0%} Student t interval; thin: each repeat."
    band = "Bars" if key in REPEATS else "Bands and bars"
    return (
        f"{band}: {level:.0%} intervals, from resampling questions by cluster; they hold for these trained models only."
    )


def _plain(text: str) -> str:
    """Return text that matplotlib shows as itself: no formulas, and no label that it would hide."""
    shown_text = text.replace("$", r"\$")
    return f" {shown_text}" if shown_text.startswith("_") else shown_text
