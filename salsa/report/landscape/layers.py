"""The plot over layers: how far each model moved from the base, and the angles between the models' changes."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from salsa.report.figures import DASHES, GREY, INK, STYLE, empty_figure
from salsa.report.landscape import looks

_WIDTH, _HEIGHT = 9.6, 3.7  # inches
_MOST_TICKS = 12
_NAMED_TICKS = 8
"""Ticks that would fit the axis if all had names instead of numbers."""
_WIDE = 30.0
"""From this ratio of the largest to the smallest norm on, the axis is logarithmic."""
_SHORT = {"embed_tokens": "embed", "lm_head": "head"}
_MODELS = ((INK, DASHES[0], "o"), (GREY, DASHES[0], "s"), (INK, DASHES[2], "^"))
"""Looks of the two or three models, and of the two or three pairs of them."""


def draw(landscape: Mapping[str, Any]) -> Figure | None:
    """Return norms and cosines of task vectors, layer by layer; None without a geometry of layers."""
    geometry = landscape["geometry"]
    if geometry is None or not geometry["layers"] or not geometry["names"]:
        return None
    models = [name for name in landscape["models"] if name in geometry["names"]]
    others = [other["name"] for other in landscape["others"]]
    with matplotlib.rc_context(STYLE):
        columns = 4
        figure = empty_figure(_WIDTH, _HEIGHT + looks.legend_height(len(geometry["names"]), columns))
        axes = figure.subplots(1, min(2, len(models)) or 1, squeeze=False, sharex=True)[0]
        norms = axes[0]
        for index, name in enumerate(geometry["names"]):
            values = [layer["norms"][index] for layer in geometry["layers"]]
            _draw(norms, geometry, values, looks.plain(name), _look(name, models, others))
        norms.set_title(looks.plain(f"Change from {geometry['base']}"))
        norms.set_ylabel("norm of the task vector")
        _height(norms, geometry)
        if len(models) > 1:
            _cosines(axes[1], geometry, models)
        for axis in axes:
            _ticks(axis, [layer["name"] for layer in geometry["layers"]])
        handles, _ = norms.get_legend_handles_labels()
        said = f"{looks.about(landscape)}{_explanation(geometry)}"
        looks.frame(figure, "What training changed, layer by layer", said, handles, columns)
    return figure


def _explanation(geometry: Mapping[str, Any]) -> str:
    norms = zip(geometry["names"], geometry["total"]["norms"], strict=True)
    return (
        f"A task vector is a model's weights minus those of {geometry['base']}; its norm is Euclidean, over all "
        "weights of a layer. Cosine 1: the same direction; 0: at right angles. Norms over all layers together: "
        f"{', '.join(f'{name} {norm:#.3g}' for name, norm in norms)}."
    )


def _look(name: str, models: Sequence[str], others: Sequence[str]) -> dict[str, Any]:
    """Return a model's look: the models that span the landscape in black and grey, policies in their colours."""
    if name in models:
        return _plain(models.index(name))
    number = others.index(name) if name in others else len(others)
    return {**looks.policy(number), "linestyle": DASHES[number % len(DASHES)], "linewidth": 1.2, "markersize": 4}


def _plain(number: int) -> dict[str, Any]:
    colour, dash, marker = _MODELS[number]
    return {"color": colour, "linestyle": dash, "marker": marker, "linewidth": 1.8, "markersize": 5}


def _draw(
    axis: Any, geometry: Mapping[str, Any], values: Sequence[float | None], label: str, look: Mapping[str, Any]
) -> None:
    """Draw a value of each layer; a line joins numbered layers only, because only those follow each other in kind."""
    shown = [float("nan") if value is None else value for value in values]
    places = _places([layer["name"] for layer in geometry["layers"]])
    axis.plot(places, shown, **{**look, "linestyle": "none"}, zorder=3)
    joined = [
        value if _number(layer["name"]) else float("nan")
        for value, layer in zip(shown, geometry["layers"], strict=True)
    ]
    axis.plot(places, joined, label=label, **look, zorder=3)


def _number(layer: str) -> str:
    """Return the number of a numbered layer, or nothing."""
    last = layer.rpartition(".")[2]
    return last if last.isdigit() else ""


def _height(axis: Any, geometry: Mapping[str, Any]) -> None:
    norms = [norm for layer in geometry["layers"] for norm in layer["norms"]]
    if min(norms) > 0 and max(norms) > _WIDE * min(norms):
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_locator(NullLocator())
    else:
        axis.set_ylim(bottom=0)


def _cosines(axis: Any, geometry: Mapping[str, Any], models: Sequence[str]) -> None:
    axis.set_title("Angle between the changes")
    axis.set_ylabel("cosine")
    lowest = 0.0
    for number, (first, second) in enumerate(itertools.combinations(models, 2)):
        i, j = geometry["names"].index(first), geometry["names"].index(second)
        values = [layer["cosines"][i][j] for layer in geometry["layers"]]
        lowest = min([lowest, *(value for value in values if value is not None)])
        total = geometry["total"]["cosines"][i][j]
        over = "" if total is None else looks.minus(f": {total:.2f} over all layers")
        label = looks.plain(f"{first} and {second}{over}")
        _draw(axis, geometry, values, label, _plain(number))
    axis.set_ylim(lowest - 0.06, 1.05)
    axis.axhline(0, color=GREY, linewidth=1)
    axis.legend(fontsize=looks.NOTE + 0.5, handlelength=2.8)


def _places(layers: Sequence[str]) -> list[float]:
    """Return where each layer stands: numbered ones beside each other, named ones with room for their names."""
    room = max(1.0, len(layers) / _NAMED_TICKS)
    places = [0.0]
    for before, layer in itertools.pairwise(layers):
        places.append(places[-1] + (1.0 if _number(before) and _number(layer) else room))
    return places


def _ticks(axis: Any, layers: Sequence[str]) -> None:
    """Name the layers on the axis; of many numbered ones only some."""
    step = -(-sum(bool(_number(layer)) for layer in layers) // _MOST_TICKS)
    named = [
        (place, _number(layer) or looks.plain(_SHORT.get(layer, layer)))
        for place, layer in zip(_places(layers), layers, strict=True)
        if not _number(layer) or int(_number(layer)) % step == 0
    ]
    axis.set_xticks([place for place, _ in named], [name for _, name in named])
    axis.set_xlabel("layer")
