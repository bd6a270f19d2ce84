"""The line plot: rewards and loss over the share of the second model, and where the best point lies."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from salsa.report.figures import DASHES, GREY, INK, PAPER, RULE, STYLE, empty_figure
from salsa.report.grid import number
from salsa.report.landscape import looks
from salsa.report.landscape.findings import MIDPOINT
from salsa.report.landscape.placement import along

_PANEL, _HEIGHT = 3.75, 5.5  # inches
_ROOM = 0.025
"""Of the width of a panel: left and right of what stands in it."""
_BAR, _WIDEST = 0.75, 0.12
"""The width of a bar: of the smallest distance between points, and in alpha at most."""
_ASIDE = 0.032
"""Of the width of a panel: between the marks of policies, and to those of models."""
_SHADE = "#eef1f4"
_CHANCE: Mapping[str, Any] = {"color": INK, "linewidth": 1.1, "linestyle": DASHES[1]}


def draw(landscape: Mapping[str, Any]) -> Figure | None:
    """Return the line plot, a panel for each of judge, reward model and loss; None without any of them.

    Below each panel is the share of resamples in which a point is the best. Policies stand at their foot on the line
    with their own values, which are not the line's: they lie off it.
    """
    panels = list(looks.quantities(landscape))
    if not panels:
        return None
    line = landscape["line"]
    entries, places = _entries(landscape), _places(landscape)
    with matplotlib.rc_context(STYLE):
        columns = looks.legend_columns(len(panels))
        figure = empty_figure(_PANEL * max(2, len(panels)), _HEIGHT + looks.legend_height(len(entries), columns))
        axes = figure.subplots(2, len(panels), squeeze=False, sharex=True, height_ratios=(4, 1))
        axes[0][0].set_xlim(*_limits(landscape, [place for place in places if place is not None]))
        for (key, metric), upper, lower in zip(panels, axes[0], axes[1], strict=True):
            upper.set_title(looks.title(key, metric), pad=16)
            upper.set_ylabel(looks.unit(metric))
            _curve(upper, line, key)
            _policies(upper, landscape["others"], places, key)
            note = looks.differences(line["findings"][key], MIDPOINT, line["models"], metric)
            upper.set_xlabel(note, loc="left", fontsize=looks.NOTE)
            _shares(lower, line, key)
            lower.tick_params(axis="x", pad=6)
            lower.set_xlabel(f"α, weight of {looks.plain(line['models'][1])}")
        axes[1][0].set_ylabel("comes out best,\n% of resamples", fontsize=looks.NOTE)
        for axis in axes.ravel():
            _regions(axis, axis in axes[0], line)
        looks.frame(figure, _title(landscape), _explanation(landscape), entries, columns)
    return figure


def _title(landscape: Mapping[str, Any]) -> str:
    first, second = landscape["line"]["models"]
    return f"Soups on the line through {first} and {second}: (1 − α) {first} + α {second}"


def _explanation(landscape: Mapping[str, Any]) -> str:
    line = landscape["line"]
    distance = line["coordinates"][1][0]
    feet = any(other["line"] for other in landscape["others"])
    policies = (
        "Policies stand at their foot, the nearest point of the line (side by side where they meet). " if feet else ""
    )
    return (
        f"{looks.about(landscape)}{len(line['points'])} soups, {looks.asked(landscape)}. "
        f"{line['models'][0]} and {line['models'][1]} are {distance:.3g} apart (Euclidean, between weights). {policies}"
        f"{looks.intervals(landscape, line['models'])}"
    )


def _limits(landscape: Mapping[str, Any], places: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the axis: with the whole of every bar, and with the policies where they are drawn."""
    alphas, half = _alphas(landscape["line"]), _bar(landscape["line"]) / 2
    left, right = min(alphas[0] - half, *places, 0.0), max(alphas[-1] + half, *places, 1.0)
    room = _ROOM * (right - left)
    return left - room, right + room


def _alphas(line: Mapping[str, Any]) -> list[float]:
    return [point["weights"][1] for point in line["points"]]


def _bar(line: Mapping[str, Any]) -> float:
    """Return the width of a bar, in alpha."""
    return min(_WIDEST, *(_BAR * (after - before) for before, after in itertools.pairwise(_alphas(line))))


def _places(landscape: Mapping[str, Any]) -> list[float | None]:
    """Return where each policy is drawn: at its foot, or beside it where marks would meet; None without a foot."""
    feet = [_foot(other) for other in landscape["others"] if other["line"]]
    left, right = _limits(landscape, feet)
    placed = iter(along(feet, (0.0, 0.5, 1.0), _ASIDE * (right - left)))
    return [next(placed) if other["line"] else None for other in landscape["others"]]


def _foot(other: Mapping[str, Any]) -> float:
    alpha: float = other["line"]["weights"][1]
    return alpha


def _curve(axis: Any, line: Mapping[str, Any], key: str) -> None:
    """Draw one quantity of the soups with its bands, the chord between the ends, and the ends and midpoint."""
    points = line["points"]
    alphas = _alphas(line)
    value, low, high, lowest, highest = (
        [_number(point["values"][key][name]) for point in points]
        for name in ("value", "low", "high", "band_low", "band_high")
    )
    axis.fill_between(alphas, lowest, highest, color=INK, alpha=0.09, linewidth=0)
    axis.fill_between(alphas, low, high, color=INK, alpha=0.13, linewidth=0)
    axis.plot(alphas, value, color=INK, linewidth=1.6, marker=".", markersize=4.5, zorder=3)
    ends = [value[alphas.index(end)] for end in (0.0, 1.0)]
    axis.plot([0, 1], ends, color=INK, linewidth=1.2, linestyle=DASHES[2], zorder=2)
    axis.plot([0, 1], ends, color=INK, linestyle="none", marker="o", markersize=6.5, zorder=4)
    axis.plot([0.5], [value[alphas.index(0.5)]], color=INK, zorder=4, **looks.CENTRE)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _policies(axis: Any, others: Sequence[Mapping[str, Any]], places: Sequence[float | None], key: str) -> None:
    """Draw each policy's own value at its place, and its foot as a mark on the axis."""
    for index, (other, place) in enumerate(zip(others, places, strict=True)):
        if place is None:
            continue
        look, found = looks.policy(index), (other["values"] or {}).get(key)
        # On the axis and half over its edge: no curve runs there.
        axis.plot([place], [0], transform=axis.get_xaxis_transform(), clip_on=False, zorder=6, **looks.FOOT, **look)
        if found:
            if found["low"] is not None:
                axis.plot([place] * 2, [found["low"], found["high"]], color=look["color"], linewidth=1.5, zorder=5)
            axis.plot(
                [place], [found["value"]], markersize=6.5, markeredgecolor=PAPER, linestyle="none", zorder=6, **look
            )


def _shares(axis: Any, line: Mapping[str, Any], key: str) -> None:
    """Draw how often each point of the grid is the best in resamples, and how high the highest bar is by chance."""
    shares = [point["best_share"][key] for point in line["points"]]
    if any(share is None for share in shares):
        axis.text(0.5, 0.5, "one cluster: no resamples", transform=axis.transAxes, ha="center", va="center")
        axis.set_yticks([])
        return
    alphas = _alphas(line)
    colours = [INK if alpha == 0.5 else GREY for alpha in alphas]
    axis.bar(alphas, [100 * share for share in shares], width=_bar(line), color=colours, zorder=3)
    axis.axhline(100 * line["findings"][key]["best"]["chance_share"], zorder=4, **_CHANCE)
    axis.set_ylim(0, 100)
    axis.yaxis.set_major_locator(FixedLocator([0, 50, 100]))
    axis.grid(visible=False, axis="x")


def _regions(axis: Any, upper: bool, line: Mapping[str, Any]) -> None:
    """Shade what lies beyond the two models, and name the models and their midpoint above the upper panels."""
    left, right = axis.get_xlim()
    for start, end in ((left, 0), (1, right)):
        axis.axvspan(start, end, color=_SHADE, linewidth=0, zorder=0)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: looks.minus(f"{value:.4g}")))
    if not upper:
        return
    for alpha in (0.0, 0.5, 1.0):
        axis.axvline(alpha, color=GREY, linewidth=0.8, linestyle=DASHES[3], zorder=1)
    names = {0.0: line["models"][0], 0.5: MIDPOINT, 1.0: line["models"][1]}
    for alpha, name in names.items():
        _above(axis, alpha, looks.plain(name))


def _above(axis: Any, alpha: float, text: str) -> None:
    look = {"ha": "center", "va": "bottom", "fontsize": looks.NOTE + 0.5}
    axis.annotate(text, (alpha, 1), (0, 3), xycoords=axis.get_xaxis_transform(), textcoords="offset points", **look)


def _entries(landscape: Mapping[str, Any]) -> list[Any]:
    """Return the entries of the legend."""
    percent = f"{landscape['level']:.0%}"
    shown: list[Any] = [
        Line2D([], [], color=INK, linewidth=1.6, marker=".", markersize=6, label="soup"),
        Patch(color=INK, alpha=0.22, linewidth=0, label=f"{percent} interval of each point"),
        Patch(color=INK, alpha=0.09, linewidth=0, label=f"{percent} band of all points together"),
        Line2D([], [], color=INK, linewidth=1.2, linestyle=DASHES[2], label="chord between the models"),
        Line2D([], [], color=INK, label=MIDPOINT, **looks.CENTRE),
        Patch(facecolor=_SHADE, edgecolor=RULE, linewidth=0.6, label="beyond the models"),
        Line2D([], [], label="highest bar by chance, on average", **_CHANCE),
    ]
    for index, other in enumerate(landscape["others"]):
        if other["line"]:
            off = looks.minus(f"α = {number(_foot(other), 2)}, {other['line']['off']:.3g} off the line")
            label = f"{looks.plain(other['name'])} ({off})"
            shown.append(Line2D([], [], linestyle="none", markersize=6.5, label=label, **looks.policy(index)))
    return shown
