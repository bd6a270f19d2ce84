"""How the figures of a landscape name and draw the same things alike: quantities, policies, models, differences."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from salsa.report.figures import COLOURS, GREY, INK, MARKERS, PAPER
from salsa.report.landscape.findings import shown
from salsa.report.schema import Metric

NOTE = 8.0
"""Size of small print, in points."""
CENTRE: Mapping[str, Any] = {"marker": "*", "markersize": 13, "markeredgecolor": PAPER, "linestyle": "none"}
"""The mark of the soup with equal weights."""
EDGE: Mapping[str, Any] = {
    "color": PAPER,
    "marker": "D",
    "markersize": 5,
    "markeredgecolor": INK,
    "markeredgewidth": 1,
    "linestyle": "none",
}
"""The mark of the soup of two models on the plane of three."""
BEST: Mapping[str, Any] = {
    "marker": "o",
    "markersize": 13,
    "markerfacecolor": "none",
    "markeredgecolor": INK,
    "markeredgewidth": 1.2,
    "linestyle": "none",
}
"""The ring around the best point of a grid."""
DISC: Mapping[str, Any] = {
    "color": PAPER,
    "marker": "o",
    "markersize": 10,
    "markeredgecolor": INK,
    "markeredgewidth": 0.6,
    "linestyle": "none",
}
"""What lies under the mark of a policy on the contours."""
FOOT: Mapping[str, Any] = {"markersize": 5, "markeredgecolor": PAPER, "markeredgewidth": 0.6, "linestyle": "none"}
"""The mark of a policy's foot on the line."""
_LEGEND_LINE = 0.21  # inches
_FILLED = 0.95
"""Of the width of a figure by its small print."""
SHOWN = ("judge", "reward", "loss")
"""Quantities that get a panel, in this order."""


def quantities(landscape: Mapping[str, Any]) -> Iterator[tuple[str, Metric]]:
    """Yield the quantities that get a panel."""
    for key in SHOWN:
        if key in landscape["quantities"]:
            yield key, Metric(**landscape["quantities"][key])


def title(key: str, metric: Metric) -> str:
    """Return the title of a quantity's panel."""
    name = metric.label[:1].upper() + metric.label[1:]
    return plain({"judge": f"{name} (judge)", "loss": f"{name}, held-out"}.get(key, name))


def unit(metric: Metric) -> str:
    """Return a quantity's unit and better direction."""
    better = {"high": "higher is better", "low": "lower is better", "": ""}[metric.better]
    return plain(", ".join(filter(None, (metric.unit, better))))


def policy(number: int) -> dict[str, Any]:
    """Return the colour and marker of a policy, by its place among the others: those of the figures over PPO steps."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def differences(found: Mapping[str, Any], centre: str, names: list[str], metric: Metric) -> str:
    """Return the soup with equal weights against each model, a line each."""
    each = (f"{centre} − {name}: {minus(shown(found['differences'][name], metric))}" for name in names)
    return plain("\n".join(each))


def about(landscape: Mapping[str, Any]) -> str:
    """Return what begins the small print: the title of the landscape and its replicate, if it has them."""
    parts = [landscape["title"]] if landscape.get("title") else []
    parts += [f"replicate {landscape['replicate']}"] if landscape.get("replicate") is not None else []
    return f"{', '.join(parts)}: " if parts else ""


def intervals(landscape: Mapping[str, Any], models: Sequence[str]) -> str:
    """Return what the intervals of differences hold for."""
    count = {2: "both", 3: "all three"}[len(models)]
    return (
        f"Differences are paired; their {landscape['level']:.0%} intervals hold for {count} models together, "
        "for this training only."
    )


def asked(landscape: Mapping[str, Any]) -> str:
    """Return in words what was measured at every point."""
    suite = f" of {landscape['suite']}" if landscape.get("suite") else ""
    prompts = f"the same prompts{suite} ({landscape['clusters']:,} clusters)"
    parts = [f"{landscape['replies']:,} replies a point to {prompts}"]
    if landscape["documents"]:
        parts.append(f"loss on {landscape['documents']:,} held-out documents ({landscape['tokens']:,} tokens)")
    return ", ".join(parts)


def legend_columns(panels: int) -> int:
    """Return how many columns the legend has under so many panels."""
    return max(2, min(4, panels + 1))


def legend_height(entries: int, columns: int) -> float:
    """Return the height of the legend in inches."""
    return _LEGEND_LINE * -(-entries // columns)


def frame(figure: Figure, heading: str, explanation: str, entries: Sequence[Artist], columns: int) -> None:
    """Give a figure its heading over a legend, and its small print."""
    figure.legend(
        handles=entries,
        loc="outside upper left",
        ncols=columns,
        fontsize=NOTE + 0.5,
        handlelength=2.4,
        title=plain(heading),
        title_fontproperties={"size": 12, "weight": "bold"},
        alignment="left",
        borderaxespad=0.2,
    )
    small = figure.supxlabel(plain(explanation), fontsize=NOTE + 0.5, color=GREY, x=0.01, ha="left")
    lines = small.get_window_extent().width / (_FILLED * figure.bbox.width)
    small.set_text(plain(textwrap.fill(explanation, int(len(explanation) / max(lines, 1)))))


def minus(text: str) -> str:
    """Return the text of numbers with the minus sign that the axes have."""
    return text.replace("-", "−")


def plain(text: str) -> str:
    """Return text that matplotlib shows as itself, and no formula."""
    return text.replace("$", r"\$")
