"""Figures of an experiment: curves over PPO, calibration of the reward model, and judge scores with intervals."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from salsa.report.judging import scored

# Okabe and Ito's colours, which people with any colour vision tell apart; yellow and black are left out, because
# they vanish on a white or a dark page.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", (0, (6, 1.5)), (0, (3, 1.2)), (0, (1, 1)), (0, (5, 1.2, 1, 1.2)), (0, (8, 2, 2, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P")
# The page exchanges these three for its own, so that figures follow its light or dark scheme.
INK, RULE, PAPER = "#24292f", "#d5dae0", "#ffffff"
GREY = "#7d8590"

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    # Letters become outlines, so that a file looks the same on machines with other fonts.
    "svg.fonttype": "path",
    # Without this the names inside an SVG file would differ from run to run.
    "svg.hashsalt": "salsa",
}


def figures(experiment: Mapping[str, Any]) -> dict[str, Figure]:
    """Return every figure that the experiment has data for, by file name without suffix."""
    made = {"scores": scores(experiment), "curves": curves(experiment), "calibration": calibration(experiment)}
    return {name: figure for name, figure in made.items() if figure is not None}


def write_all(experiment: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write every figure as PNG and SVG into an existing folder; equal experiments give equal files."""
    paths = []
    for name, figure in figures(experiment).items():
        for suffix, data in (("png", to_png(figure)), ("svg", to_svg(figure).encode())):
            path = folder / f"{name}.{suffix}"
            path.write_bytes(data)
            paths.append(path)
    return paths


def to_png(figure: Figure, dots_per_inch: int = 160) -> bytes:
    """Return a figure as PNG without date or version, so that the bytes depend on the picture alone."""
    data = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(data, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return data.getvalue()


def to_svg(figure: Figure) -> str:
    """Return a figure as SVG without date, with names that depend on the picture alone."""
    data = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None})
    return data.getvalue()


def curves(experiment: Mapping[str, Any]) -> Figure | None:
    """Return scores, length and KL to each anchor over PPO steps, a line for each trained policy; None without curves.

    Bands are 95 % normal intervals (1.96 standard errors) where the curve has a standard error: `judge_se`,
    `reward_se`, `length_se`, and `k1_se` of each anchor.
    """
    lines = {name: points for name, points in experiment["curves"].items() if points}
    if not lines:
        return None
    judge = experiment["judge"]
    panels: list[tuple[str, str, Callable[[Mapping[str, Any]], tuple[float | None, float | None]]]] = [
        ("Reward model (optimised)", "normalised score", lambda point: (point.get("reward"), point.get("reward_se"))),
        (
            f"{judge['name'].capitalize()} (judge)",
            judge["unit"],
            lambda point: (point.get("judge"), point.get("judge_se")),
        ),
        ("Length", "tokens a reply", lambda point: (point.get("length"), point.get("length_se"))),
    ]
    for anchor in experiment["anchors"]:
        panels.append((f"KL to {anchor}", "nats a reply (k1)", _kl_of(anchor)))
    panels = [
        panel for panel in panels if any(panel[2](point)[0] is not None for each in lines.values() for point in each)
    ]
    looks = _looks(experiment["rows"])
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    with matplotlib.rc_context(STYLE):
        figure = empty_figure(3.5 * across, 2.55 * down + 0.45)
        axes = figure.subplots(down, across, squeeze=False).ravel()
        for axis, (title, unit, pick) in zip(axes, panels, strict=False):
            axis.set_title(title)
            axis.set_ylabel(unit)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, steps=[1, 2, 4, 5, 8, 10]))
            for name, points in lines.items():
                _line(axis, looks[name], name, [(point["step"], *pick(point)) for point in points])
        # One scale for all anchors: which model a policy stays close to is what these panels are for.
        divergences = [axis for axis, panel in zip(axes, panels, strict=False) if panel[0].startswith("KL to ")]
        if divergences:
            limits = [axis.get_ylim() for axis in divergences]
            for axis in divergences:
                axis.set_ylim(min(0.0, *(low for low, _ in limits)), max(high for _, high in limits))
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        for axis in axes[max(0, len(panels) - across) : len(panels)]:
            axis.set_xlabel("PPO step")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=min(4, len(labels)), handlelength=3.2)
    return figure


def _kl_of(anchor: str) -> Callable[[Mapping[str, Any]], tuple[float | None, float | None]]:
    def pick(point: Mapping[str, Any]) -> tuple[float | None, float | None]:
        found = point["kl"].get(anchor, {})
        return found.get("k1"), found.get("k1_se")

    return pick


def _line(axis: Any, index: int, name: str, points: Sequence[tuple[int, float | None, float | None]]) -> None:
    """Draw one policy's line; points without a value are gaps, a band is drawn where there are standard errors."""
    steps = [step for step, _, _ in points]
    values = [float("nan") if value is None else value for _, value, _ in points]
    colour = COLOURS[index % len(COLOURS)]
    style = {"color": colour, "linestyle": DASHES[index % len(DASHES)], "linewidth": 1.8, "label": name}
    # A marker now and then tells lines apart in print; one on each of many points would hide them.
    axis.plot(
        steps, values, marker=MARKERS[index % len(MARKERS)], markersize=4, markevery=max(1, len(steps) // 8), **style
    )
    if any(error is not None for _, _, error in points):
        low = [value - 1.96 * (error or 0.0) for value, (_, _, error) in zip(values, points, strict=True)]
        high = [value + 1.96 * (error or 0.0) for value, (_, _, error) in zip(values, points, strict=True)]
        axis.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)


def scores(experiment: Mapping[str, Any]) -> Figure | None:
    """Return the judge's score of every model on every suite, a dot with its interval; None without judge scores."""
    rows, suites = experiment["rows"], scored(experiment)
    found = {
        suite: [(index, row["suites"].get(suite, {}).get("judge")) for index, row in enumerate(rows)]
        for suite in suites
    }
    if not any(estimate for cells in found.values() for _, estimate in cells):
        return None
    judge = experiment["judge"]
    looks = _looks(rows)
    colours = [COLOURS[looks[row["name"]] % len(COLOURS)] if row["name"] in looks else GREY for row in rows]
    with matplotlib.rc_context(STYLE):
        figure = empty_figure(1.6 + 2.3 * len(suites), 0.95 + 0.3 * len(rows))
        axes = figure.subplots(1, len(suites), squeeze=False, sharex=True, sharey=True).ravel()
        for axis, suite in zip(axes, suites, strict=True):
            axis.set_title(suite)
            axis.grid(visible=False, axis="y")
            axis.xaxis.set_major_locator(MaxNLocator(nbins=5))
            for index, estimate in found[suite]:
                if estimate is None or estimate["value"] is None:
                    axis.text(0.5, index, "missing", transform=axis.get_yaxis_transform(), ha="center", va="center")
                    continue
                _dot(axis, index, estimate, colours[index])
        axes[0].set_yticks(range(len(rows)), [row["name"] for row in rows])
        axes[0].set_ylim(len(rows) - 0.5, -0.5)
        figure.supxlabel(f"{judge['name']} ({judge['unit']}), {experiment['level']:.0%} interval", fontsize=9.5)
    return figure


def _dot(axis: Any, index: int, estimate: Mapping[str, Any], colour: str) -> None:
    axis.plot([estimate["value"]], [index], "o", color=colour, markersize=5.5, zorder=3)
    if estimate["low"] is not None and estimate["high"] is not None:
        axis.plot([estimate["low"], estimate["high"]], [index, index], color=colour, linewidth=2.2)


def _looks(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the number of each trained policy's colour and dashes, the same in every figure, opponents first.

    Models before RL have none: they are grey, as what the others are read against.
    """
    order = ("opponent", "policy", "control")
    trained = sorted((row for row in rows if row["role"] in order), key=lambda row: order.index(row["role"]))
    return {row["name"]: number for number, row in enumerate(trained)}


def calibration(experiment: Mapping[str, Any]) -> Figure | None:
    """Return the reward model's reliability diagram over a histogram of its predictions; None without bins."""
    report = experiment["reward_model"]
    bins = [each for each in (report or {}).get("reliability", []) if each["count"]]
    if not bins:
        return None
    predicted, observed, counts = ([each[key] for each in bins] for key in ("predicted", "observed", "count"))
    # Confidences in the preferred reply of a pair begin at one half; probabilities of a fixed reply at zero.
    start = 0.5 if min(predicted) >= 0.5 else 0.0
    with matplotlib.rc_context(STYLE):
        figure = empty_figure(3.8, 4.3)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        upper.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=DASHES[2], label="perfect calibration")
        upper.plot(predicted, observed, "o-", color=COLOURS[0], linewidth=1.6, markersize=5, label="reward model")
        upper.set(xlim=(start, 1), ylim=(min(start, *observed), 1), ylabel="share observed")
        upper.set_title("Reward model, held-out pairs")
        upper.text(0.04, 0.96, _summary(report), va="top", transform=upper.transAxes)
        upper.legend(loc="lower right")
        lower.bar(predicted, counts, width=0.06 * (1 - start), color=COLOURS[0])
        lower.set(xlabel="probability that the reward model predicts", ylabel="pairs")
        lower.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
    return figure


def _summary(report: Mapping[str, Any]) -> str:
    accuracy, error = report["accuracy"]["value"], report["ece"]
    shown = [
        f"accuracy {accuracy:.1%}" if accuracy is not None else "",
        f"ECE {error:.3f}" if error is not None else "",
    ]
    return "\n".join(part for part in shown if part)


def empty_figure(width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches, drawn by Agg without any window or global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
