"""Soups of SFT models before any RL: judge's score, reward-model score and SFT loss over their weights."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salsa.evaluation.statistics import Estimate, t_interval
from salsa.evaluation.study.verdict import Verdict
from salsa.studies.pieces import cell, column, figure, point, series, table
from salsa.studies.settings import Settings

Weights = tuple[float, ...]
Array = NDArray[np.float64]
CORNERS = ((0.0, 0.0), (1.0, 0.0), (0.5, 0.75**0.5))
"""Where three models are drawn: an equilateral triangle, one shape for all replicates."""


@dataclass(frozen=True)
class Soup:
    """A weighted sum of a replicate's SFT models, measured on fixed prompts and held-out documents, each in two halves.

    `gold` (the judge's score) and `reward` are means over prompts, `loss` is the held-out SFT loss in nats a token.
    """

    family: str
    replicate: int
    weights: Weights
    gold: tuple[float, float]
    reward: tuple[float, float]
    loss: tuple[float, float]
    print: str


@dataclass(frozen=True)
class Quantity:
    """What is measured of a soup: its heading, its unit, digits, and whether more is better."""

    title: str
    unit: str
    digits: int
    more: bool = True

    @property
    def words(self) -> str:
        """The heading within a sentence."""
        return self.title[0].lower() + self.title[1:]


def quantities(settings: Settings) -> dict[str, Quantity]:
    """Return what is shown: the judge's score, the reward model's if that is not the judge, and the SFT loss."""
    found = {"gold": Quantity(settings.measure[0].upper() + settings.measure[1:], settings.unit, 2)}
    reward = Quantity("Reward-model score", "normalised", 2)
    if reward.title != found["gold"].title:
        found["reward"] = reward
    return found | {"loss": Quantity("Held-out SFT loss", "nats a token", 3, more=False)}


def landscape(soups: Sequence[Soup], settings: Settings) -> dict[str, Any]:
    """Return tables, figures and verdicts of `study.json`; of two models a line, of three the plane."""
    found: dict[str, Any] = {"verdicts": [], "headline": 0, "tables": [], "figures": [], "notes": []}
    families = list(dict.fromkeys(soup.family for soup in soups))
    fields = [Field([soup for soup in soups if soup.family == family], settings) for family in families]
    for family, field in zip(families, fields, strict=True):
        at = f", {family}" if len(families) > 1 else ""
        found["verdicts"] += [asdict(_verdict(field, name, at)) for name in field.quantities]
        found["tables"] += [_table(field, at), _peaks(field, at)]
        found["figures"] += _line(field, at) if field.count == 2 else [_plane(field, at)]
    found["notes"] = _notes(fields)
    return found


class Field:
    """What was measured of one family, [replicates, halves] at each point of the grid.

    A replicate that lacks a point is left out of all, so that differences between points are paired.
    """

    def __init__(self, soups: Sequence[Soup], settings: Settings) -> None:
        self.settings, self.quantities = settings, quantities(settings)
        self.grid = sorted({soup.weights for soup in soups}, key=lambda weights: weights[1:])
        self.count = len(self.grid[0])
        has = {replicate: {soup.weights for soup in soups if soup.replicate == replicate} for replicate in _all(soups)}
        self.replicates = [replicate for replicate, points in has.items() if len(points) == len(self.grid)]
        if not self.replicates:
            raise ValueError(f"no replicate of {soups[0].family} has all {len(self.grid)} points of the grid")
        self._soups = {(soup.weights, soup.replicate): soup for soup in soups}
        self.ends = [
            tuple(1.0 if place == index else 0.0 for place in range(self.count)) for index in range(self.count)
        ]
        uniform = 1 / self.count
        self.centre = min(self.grid, key=lambda weights: max(abs(each - uniform) for each in weights))

    def halves(self, weights: Weights, name: str) -> Array:
        """Return [replicates, 2] of a quantity at a point, on each half of the prompts or documents."""
        own = (getattr(self._soups[weights, replicate], name) for replicate in self.replicates)
        return np.array(list(own), dtype=np.float64)

    def values(self, weights: Weights, name: str) -> Array:
        """Return [replicates] of a quantity at a point."""
        return self.halves(weights, name).mean(axis=1)

    def mean(self, points: Sequence[Weights], name: str) -> Estimate:
        """Return the mean over points, with its interval over replicates."""
        return self.estimate(np.mean([self.values(weights, name) for weights in points], axis=0))

    def estimate(self, values: Array) -> Estimate:
        """Return the mean over replicates."""
        return t_interval(values, self.settings.level)

    def best(self, name: str) -> list[Weights]:
        """Return where a quantity is best in each replicate."""
        every = np.stack([self.values(weights, name) for weights in self.grid])
        places = every.argmax(axis=0) if self.quantities[name].more else every.argmin(axis=0)
        return [self.grid[place] for place in places]

    def over_best_model(self, name: str) -> Estimate:
        """Return the uniform soup less the best of its models, in each replicate the best one there.

        Which model is the best is read from one half of the prompts, and compared on the other half, both ways: the
        best of several noisy numbers would be too good for a comparison with them.
        """
        ends = np.stack([self.halves(weights, name) for weights in self.ends])
        best = ends.argmax(axis=0) if self.quantities[name].more else ends.argmin(axis=0)
        chosen = np.take_along_axis(ends, best[None, :, ::-1], axis=0)[0]
        return self.estimate((self.halves(self.centre, name) - chosen).mean(axis=1))

    def prints(self, points: Sequence[Weights]) -> list[str]:
        """Return the fingerprints behind some points."""
        return [self._soups[weights, replicate].print for weights in points for replicate in self.replicates]

    def resolution(self, name: str) -> float | None:
        """Return half the width of a typical paired interval: of the median point within the models and the centre."""
        inside = [weights for weights in self.grid if min(weights) >= 0 and weights != self.centre]
        apart = (self.values(weights, name) - self.values(self.centre, name) for weights in inside)
        found = [self.estimate(each) for each in apart]
        halves = [(each.high - each.low) / 2 for each in found if each.low is not None and each.high is not None]
        return float(np.median(halves)) if halves else None


def _all(soups: Sequence[Soup]) -> list[int]:
    return sorted({soup.replicate for soup in soups})


def _signed(estimate: Estimate, digits: int) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:+.{digits}f} no interval"
    return f"{estimate.value:+.{digits}f} [{estimate.low:+.{digits}f}, {estimate.high:+.{digits}f}]"


def _verdict(field: Field, name: str, at: str) -> Verdict:
    """Return whether the uniform soup is better than the best of its models."""
    quantity, difference = field.quantities[name], field.over_best_model(name)
    better = "above" if quantity.more else "below"
    figures = f"{_signed(difference, quantity.digits)} {quantity.unit}, {difference.n} replicates"
    where = f"its best model in {quantity.words}{at}: {figures}"
    if difference.low is None or difference.high is None or difference.low <= 0 <= difference.high:
        return Verdict(f"The data do not decide whether the soup is {better} {where}", None)
    wins = (difference.low > 0) is quantity.more
    return Verdict(f"The soup is {'' if wins else 'not '}{better} {where}", "first" if wins else "second")


def _table(field: Field, at: str) -> dict[str, Any]:
    """Return the table of the models, their soups, and on the plane the means of its parts."""
    named = {f"SFT{index}": [weights] for index, weights in enumerate(field.ends, start=1)}
    if field.count == 3:
        named |= {"SFT1 + SFT2": [(0.5, 0.5, 0.0)], "SFT1 + SFT3": [(0.5, 0.0, 0.5)], "SFT2 + SFT3": [(0.0, 0.5, 0.5)]}
    named["soup of all"] = [field.centre]
    if field.count == 3:
        named |= _parts(field.grid)
    columns = [
        column(name, "before any RL", each.unit, each.digits, label=each.title, better="high" if each.more else "low")
        for name, each in field.quantities.items()
    ]
    rows = []
    for label, points in named.items():
        cells = {name: cell(field.mean(points, name), field.prints(points)) for name in field.quantities}
        kind = "sft" if points[0] in field.ends and len(points) == 1 else "soup"
        rows.append({"label": label, "role": kind, "group": None, "cells": cells})
    caption = (
        "Soups of SFT models before any RL, on the same prompts and with the same random numbers; "
        f"{field.settings.level:.0%} t intervals over replicates, not corrected for several comparisons."
    )
    return table(f"named points{at}", f"Models and soups{at}", caption, columns, rows)


def _parts(grid: Sequence[Weights]) -> dict[str, list[Weights]]:
    """Return the points of the plane by where they are; the models themselves are in no part."""
    parts: dict[str, list[Weights]] = {"mean inside": [], "mean on the edges": [], "mean outside": []}
    for weights in grid:
        least = min(weights)
        if max(weights) != 1.0 or least < 0:
            parts["mean inside" if least > 0 else "mean outside" if least < 0 else "mean on the edges"].append(weights)
    return {label: points for label, points in parts.items() if points}


def _peaks(field: Field, at: str) -> dict[str, Any]:
    """Return the table of where each quantity is best in a replicate, and of the soup against the best model."""
    places = range(1, 2) if field.count == 2 else range(field.count)
    columns = [column(f"weight{place}", "at the best point", "weight", 2, label=f"SFT{place + 1}") for place in places]
    columns.append(column("inside", "at the best point", "% of replicates", 0, 100, label="between the models"))
    columns.append(column("difference", "soup of all", "", 3, label="less the best model", even=0.0))
    rows = []
    for name, quantity in field.quantities.items():
        best, prints = field.best(name), field.prints(field.grid)
        cells: dict[str, Any] = {
            f"weight{place}": cell(field.estimate(np.array([weights[place] for weights in best])), prints)
            for place in places
        }
        inside = float(np.mean([min(weights) > 0 for weights in best]))
        cells["inside"] = cell(Estimate(inside, None, None, len(best)), prints)
        cells["difference"] = cell(field.over_best_model(name), field.prints([*field.ends, field.centre]))
        rows.append({"label": f"{quantity.title}, {quantity.unit}", "role": "other", "group": None, "cells": cells})
    caption = (
        f"Where each of {len(field.replicates)} replicates has its best of {len(field.grid)} points, by all of its "
        "prompts (noise spreads them), and the uniform soup less the best model, which is chosen on other prompts; "
        f"{field.settings.level:.0%} t intervals over replicates."
    )
    made = table(f"best points{at}", f"Where soups are best{at}", caption, columns, rows)
    return made | {"row_header": "quantity"}


def _line(field: Field, at: str) -> list[dict[str, Any]]:
    """Return a figure for each quantity over the weight of the second model, and one of where replicates are best."""
    axis = "weight of SFT2 (0: SFT1 alone, 1: SFT2 alone)"
    found, counted = [], []
    for name, quantity in field.quantities.items():
        points = [point(weights[1], field.mean([weights], name)) for weights in field.grid]
        label = f"{quantity.words}, {quantity.unit}"
        title = f"{quantity.title} along the line{at}"
        found.append(figure(f"{name}_line{_file(at)}", title, "lines", (axis, label), [series("soup", "soup", points)]))
        best = field.best(name)
        ends = [weights[1] for weights in [*best, *field.ends]]
        met = (weights for weights in field.grid if min(ends) <= weights[1] <= max(ends))
        counts = [{"x": weights[1], "value": best.count(weights), "low": None, "high": None} for weights in met]
        counted.append(series(quantity.title, "other", counts))
    peaks = figure(f"peaks_line{_file(at)}", f"Where replicates are best{at}", "lines", (axis, "replicates"), counted)
    says = f"Points: in how many of {len(field.replicates)} replicates a weight is the best of the grid."
    return [*found, peaks | {"explanation": says}]


def _plane(field: Field, at: str) -> dict[str, Any]:
    """Return the figure of the plane, a panel for each quantity."""
    panels = [_panel(field, name) for name in field.quantities]
    models = [{"label": f"SFT{index}", "x": x, "y": y} for index, (x, y) in enumerate(CORNERS, start=1)]
    made = figure(f"plane{_file(at)}", f"Soups of three SFT models before any RL{at}", "plane", ("", ""), panels)
    note = "The models stand at the corners of an equilateral triangle, whatever their distances in weight space."
    return made | {"models": models, "note": note}


def _panel(field: Field, name: str) -> dict[str, Any]:
    quantity = field.quantities[name]
    means = {weights: field.mean([weights], name) for weights in field.grid}
    points = []
    for weights, estimate in means.items():
        x, y = np.array(weights) @ np.array(CORNERS)
        points.append(point(float(x), estimate) | {"y": float(y), "weights": list(weights)})
    choose = max if quantity.more else min
    highest = " : ".join(f"{weight:.2g}" for weight in choose(means, key=lambda weights: means[weights].value))
    difference = _signed(field.over_best_model(name), quantity.digits)
    return series(quantity.title, "soup", points, quantity.title) | {
        "unit": quantity.unit,
        "digits": quantity.digits,
        "better": "high" if quantity.more else "low",
        "resolution": field.resolution(name),
        "note": f"barycentre less best model: {difference}; best at {highest}",
    }


def _file(at: str) -> str:
    return at.replace(", ", "_")


def _notes(fields: Sequence[Field]) -> list[str]:
    counts: Mapping[int, None] = dict.fromkeys(len(field.replicates) for field in fields)
    return [
        f"{' or '.join(map(str, counts))} replicates: SFT models, preferences and reward model are drawn anew in each. "
        "World and base model are the same in all, so the intervals are conditional on them.",
        "The best model of a replicate is chosen among its own SFT models on one half of the prompts (documents, for "
        "the loss) and compared with the soup on the other half, both ways.",
    ]
