"""Soups of SFT models before any RL: gold, reward-model score and SFT loss over their weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salsa.evaluation.statistics import Estimate, t_interval
from salsa.evaluation.study.verdict import Verdict
from salsa.studies.pieces import cell, column, figure, point, series, table
from salsa.studies.settings import Settings


@dataclass(frozen=True)
class Soup:
    """A weighted sum of a replicate's SFT models, measured on fixed prompts and held-out documents, each in two halves.

    `gold` and `reward` are means over prompts, `loss` is the held-out SFT loss in nats a token.
    """

    family: str
    replicate: int
    weights: tuple[float, ...]
    gold: tuple[float, float]
    reward: tuple[float, float]
    loss: tuple[float, float]
    print: str


QUANTITIES: Mapping[str, tuple[str, str, str, int, bool]] = {
    "gold": ("Gold reward", "gold reward, points", "points", 2, True),
    "reward": ("Reward-model score", "score, normalised", "normalised", 2, True),
    "loss": ("Held-out SFT loss", "nats a token", "nats a token", 3, False),
}
"""Title, label of the axis, unit, digits, and whether more is better."""
Value = Callable[[Soup], float]


def landscape(soups: Sequence[Soup], settings: Settings) -> dict[str, Any]:
    """Return tables, figures and verdicts of `study.json`; of two models a line, of three the plane's named points."""
    families = list(dict.fromkeys(soup.family for soup in soups))
    found: dict[str, Any] = {"verdicts": [], "headline": 0, "tables": [], "figures": [], "notes": _notes(soups)}
    for family in families:
        own = [soup for soup in soups if soup.family == family]
        at = f", {family}" if len(families) > 1 else ""
        found["verdicts"] += [asdict(_verdict(own, name, settings, at)) for name in QUANTITIES]
        found["tables"].append(_table(own, settings, at))
        found["figures"] += [_figure(own, name, settings, at) for name in QUANTITIES]
    return found


def _values(soups: Sequence[Soup], weights: tuple[float, ...], name: str) -> NDArray[np.float64]:
    """Return [replicates] of a quantity at one point."""
    return _halves(soups, weights, name).mean(axis=1)


def _halves(soups: Sequence[Soup], weights: tuple[float, ...], name: str) -> NDArray[np.float64]:
    """Return [replicates, 2] of a quantity at one point, on each half of the prompts or documents."""
    own = {soup.replicate: getattr(soup, name) for soup in soups if soup.weights == weights}
    return np.array([own[replicate] for replicate in sorted(own)], dtype=np.float64)


def _ends(count: int) -> list[tuple[float, ...]]:
    return [tuple(1.0 if place == index else 0.0 for place in range(count)) for index in range(count)]


def _centre(soups: Sequence[Soup]) -> tuple[float, ...]:
    """Return the weights of the uniform soup, as they stand in the grid."""
    count = len(soups[0].weights)
    return min({soup.weights for soup in soups}, key=lambda weights: max(abs(each - 1 / count) for each in weights))


def _verdict(soups: Sequence[Soup], name: str, settings: Settings, at: str) -> Verdict:
    """Return whether the uniform soup is better than the best of its models, in each replicate the best one there.

    Which model is the best is read from one half of the prompts, and compared on the other half, both ways: the best of
    several noisy numbers would be too good for a comparison with them.
    """
    title, _, unit, digits, more = QUANTITIES[name]
    ends = np.stack([_halves(soups, weights, name) for weights in _ends(len(soups[0].weights))])
    best = ends.argmax(axis=0) if more else ends.argmin(axis=0)
    chosen = np.take_along_axis(ends, best[None, :, ::-1], axis=0)[0]
    difference = t_interval((_halves(soups, _centre(soups), name) - chosen).mean(axis=1), settings.level)
    better = "above" if more else "below"
    bounds = "no interval"
    if difference.low is not None and difference.high is not None:
        bounds = f"[{difference.low:+.{digits}f}, {difference.high:+.{digits}f}]"
    figures = f"{difference.value:+.{digits}f} {bounds} {unit}, {difference.n} replicates"
    what = title[0].lower() + title[1:]
    if difference.low is not None and difference.high is not None and (difference.low > 0 or difference.high < 0):
        wins = (difference.low > 0) is more
        sentence = f"The soup is {better} its best model in {what}{at}: {figures}"
        return Verdict(
            sentence if wins else f"The soup is not {better} its best model in {what}{at}: {figures}",
            "first" if wins else "second",
        )
    return Verdict(f"The data do not decide whether the soup is {better} its best model in {what}{at}: {figures}", None)


def _table(soups: Sequence[Soup], settings: Settings, at: str) -> dict[str, Any]:
    count = len(soups[0].weights)
    named = {f"SFT{index}": weights for index, weights in enumerate(_ends(count), start=1)}
    if count == 3:
        named |= {"SFT1 + SFT2": (0.5, 0.5, 0.0), "SFT1 + SFT3": (0.5, 0.0, 0.5), "SFT2 + SFT3": (0.0, 0.5, 0.5)}
    named["soup of all"] = _centre(soups)
    columns = [
        column(name, "before any RL", unit, digits, label=title, better="high" if more else "low")
        for name, (title, _, unit, digits, more) in QUANTITIES.items()
    ]
    rows = []
    for label, weights in named.items():
        prints = [soup.print for soup in soups if soup.weights == weights]
        cells = {name: cell(t_interval(_values(soups, weights, name), settings.level), prints) for name in QUANTITIES}
        kind = "sft" if 1.0 in weights else "soup"
        rows.append({"label": label, "role": kind, "group": None, "cells": cells})
    caption = (
        "Soups of SFT models before any RL, on the same prompts and with the same random numbers; "
        f"{settings.level:.0%} t intervals over replicates, not corrected for several comparisons."
    )
    return table(f"named points{at}", f"Models and soups{at}", caption, columns, rows)


def _figure(soups: Sequence[Soup], name: str, settings: Settings, at: str) -> dict[str, Any]:
    title, label, *_ = QUANTITIES[name]
    grid = sorted({soup.weights for soup in soups}, key=lambda weights: weights[1:])

    def at_point(weights: tuple[float, ...]) -> Estimate:
        return t_interval(_values(soups, weights, name), settings.level)

    if len(grid[0]) == 2:
        points = [point(weights[1], at_point(weights)) for weights in grid]
        axes = ("weight of SFT2 (0: SFT1 alone, 1: SFT2 alone)", label)
        return figure(
            f"{name}_line{_file(at)}", f"{title} along the line{at}", "lines", axes, [series("soup", "soup", points)]
        )
    outer = max(min(weights) for weights in grid)
    rings: dict[str, list[tuple[float, ...]]] = {"outside the triangle": [], "on its edges": [], "inside": []}
    for weights in grid:
        least = min(weights)
        rings["outside the triangle" if least < 0 else "on its edges" if least == 0 else "inside"].append(weights)
    points = [
        point(ring, t_interval(np.mean([_values(soups, weights, name) for weights in own], axis=0), settings.level))
        for ring, own in rings.items()
        if own
    ]
    points.append(point("barycentre", at_point(next(weights for weights in grid if min(weights) == outer))))
    axes = ("where on the plane (means over the grid's points there)", label)
    full = f"{title} on the plane through three SFT models{at}"
    return figure(f"{name}_plane{_file(at)}", full, "intervals", axes, [series("soup", "soup", points)])


def _file(at: str) -> str:
    return at.replace(", ", "_")


def _notes(soups: Sequence[Soup]) -> list[str]:
    count = len({soup.replicate for soup in soups})
    return [
        f"{count} replicates: SFT models, preferences and reward model are drawn anew in each. World and base model "
        "are the same in all, so the intervals are conditional on them.",
        "The best model of a replicate is chosen among its own SFT models on one half of the prompts (documents, for "
        "the loss) and compared with the soup on the other half, both ways.",
    ]
