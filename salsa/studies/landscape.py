"""Soups of SFT models before any RL: judge's score, reward-model score and SFT loss over their weights."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salsa.evaluation.comparisons import FEW
from salsa.evaluation.statistics import Estimate, t_interval
from salsa.evaluation.study.verdict import Verdict
from salsa.studies.pieces import cell, column, figure, point, series, table
from salsa.studies.questions import DRAWS
from salsa.studies.sentences import Claims, sentence, signed
from salsa.studies.settings import Settings

Weights = tuple[float, ...]
Array = NDArray[np.float64]
CORNERS = ((0.0, 0.0), (1.0, 0.0), (0.5, 0.75**0.5))
"""Where three models are drawn: an equilateral triangle, one shape for all replicates."""
_MOST_PLACES = 4
"""Places of a peak that a sentence names."""
_QUARTILES: Mapping[str, float] = {"lower quartile": 0.25, "median": 0.5, "upper quartile": 0.75}
_WHERE = ("inside", "at the ends", "outside")
_ZERO = 1e-9
"""Of a weight, which is computed as what the others leave."""
_RARE = 0.005
"""Share of the draws that would read as none."""


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
    """Return tables, figures, verdicts and claims of `study.json`; of two models a line, of three the plane."""
    found: dict[str, Any] = {"verdicts": [], "headline": 0, "second": 1, "tables": [], "figures": [], "notes": []}
    families = list(dict.fromkeys(soup.family for soup in soups))
    fields = [Field([soup for soup in soups if soup.family == family], settings) for family in families]
    for family, field in zip(families, fields, strict=True):
        at = f", {family}" if len(families) > 1 else ""
        found["verdicts"] += [asdict(_verdict(field, name, at)) for name in field.quantities]
        found["tables"] += [_table(field, at), _peaks(field, at)]
        found["figures"] += _line(field, at) if field.count == 2 else [_plane(field, at)]
    found["notes"] = _notes(fields)
    found["claims"] = _claims(dict(zip(families, fields, strict=True)), settings)
    return found


def _claims(fields: Mapping[str, "Field"], settings: Settings) -> list[dict[str, Any]]:
    """Return each claim of the paper, the `main` ones beside where the mean reward-model score is highest."""
    told = _peak(fields, settings) if any(each.main for each in settings.claims) else None
    return [
        {"claim": each.claim} | (told if told and each.main else {"here": None, "holds": None})
        for each in settings.claims
    ]


def _peak(fields: Mapping[str, "Field"], settings: Settings) -> dict[str, Any] | None:
    """Return where the mean curve of the reward-model score is highest, and in how many resampled replicates.

    Replicates are drawn whole, and in all families together. That the uniform soup is the highest holds where it is
    in `level` of the draws, and does not hold where it is in no more than 1 - `level` of them; fewer than ten
    replicates vary too little when they are resampled to tell. None where families share no replicate.
    """
    first, *others = fields.values()
    shared = [each for each in first.replicates if all(each in other.replicates for other in others)]
    if not shared:
        return None
    curves = np.mean([field.curves("reward", shared) for field in fields.values()], axis=0)
    count, best = len(shared), int(curves.mean(axis=1).argmax())
    of = f" (mean of {', '.join(fields)})" if others else ""
    at = "at alpha = " if first.count == 2 else "at weights "
    here = f"the mean reward-model score{of} is highest {at}{first.place(best)}"
    if count == 1:
        return {"here": f"{here}, 1 replicate", "holds": None}
    draws = settings.rng().multinomial(count, np.full(count, 1 / count), size=DRAWS)
    shares = np.bincount((curves @ draws.T).argmax(axis=0), minlength=len(first.grid)) / DRAWS
    uniform = shares[first.grid.index(first.centre)]
    holds = True if uniform >= settings.level else False if uniform <= 1 - settings.level else None
    often = [place for place in np.argsort(-shares, kind="stable")[:_MOST_PLACES] if shares[place] >= _RARE]
    said = [f"at {first.place(int(place))} in {100 * shares[place]:.0f} %" for place in often]
    elsewhere = 1 - sum(shares[place] for place in often)
    said += [f"elsewhere in {100 * elsewhere:.0f} %"] if elsewhere >= _RARE else []
    here = f"{here}; in resampled replicates ({count}) the peak is {', '.join(said)}"
    return {"here": here, "holds": holds if count >= FEW else None}


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

    def curves(self, name: str, replicates: Sequence[int]) -> Array:
        """Return [points, replicates] of a quantity over the grid, of the replicates asked for."""
        columns = [self.replicates.index(replicate) for replicate in replicates]
        return np.stack([self.values(weights, name) for weights in self.grid])[:, columns]

    def place(self, index: int) -> str:
        """Return a point of the grid in words: on the line alpha, the weight of the second model, else all weights."""
        weights = self.grid[index][1:] if self.count == 2 else self.grid[index]
        return " : ".join(_short(weight) for weight in weights)

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


def _short(weight: float) -> str:
    """Return a weight without its leading zero, as the configuration has it."""
    return f"{round(weight, 2) + 0.0:g}".replace("0.", ".", 1)


def _verdict(field: Field, name: str, at: str) -> Verdict:
    """Return whether the uniform soup is better than the best of its models."""
    quantity, difference = field.quantities[name], field.over_best_model(name)
    where = f"{'above' if quantity.more else 'below'} its best model in {quantity.words}{at}"
    claims = Claims(
        f"The soup is {where}", f"The soup is not {where}", f"The data do not decide whether the soup is {where}"
    )
    figures = f"{signed(difference, quantity.digits)} {quantity.unit}"
    return sentence(claims, difference if quantity.more else _negative(difference), figures, field.settings.level)


def _negative(difference: Estimate) -> Estimate:
    """Return a difference the other way round: of what is better low, how much better it is."""
    low = None if difference.high is None else -difference.high
    high = None if difference.low is None else -difference.low
    return Estimate(-difference.value, low, high, difference.n)


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
    """Return the table of where each quantity is best in a replicate, and of the soup against the best model.

    Of a line the quartiles of the places, of the plane how many replicates have their best point where: the places of
    few replicates are far from normal, and an interval of their mean could lie beyond the grid.
    """
    line = field.count == 2
    columns = [column(label, "weight of SFT2 at the best point", "", 2) for label in _QUARTILES] if line else []
    columns += [column(label, "at the best point", "% of replicates", 0, 100) for label in ("uniform", *_WHERE)]
    columns.append(column("difference", "soup of all", "", 3, label="less the best model", even=0.0))
    rows = []
    for name, quantity in field.quantities.items():
        best, prints = field.best(name), field.prints(field.grid)
        numbers = _shares(best, field.centre)
        if line:
            numbers |= {label: float(np.quantile([each[1] for each in best], q)) for label, q in _QUARTILES.items()}
        cells = {label: cell(Estimate(value, None, None, len(best)), prints) for label, value in numbers.items()}
        cells["difference"] = cell(field.over_best_model(name), field.prints([*field.ends, field.centre]))
        rows.append({"label": f"{quantity.title}, {quantity.unit}", "role": "other", "group": None, "cells": cells})
    caption = (
        f"Where each of {len(field.replicates)} replicates has its best of {len(field.grid)} points, by all of its "
        "prompts (noise spreads them), and the uniform soup less the best model, which is chosen on other prompts, "
        f"with a {field.settings.level:.0%} t interval over replicates. Uniform: at equal weights; inside: all weights "
        "above zero; at the ends: a model, or on the plane an edge; outside: a weight below zero."
    )
    made = table(f"best points{at}", f"Where soups are best{at}", caption, columns, rows)
    return made | {"row_header": "quantity"}


def _shares(best: Sequence[Weights], centre: Weights) -> dict[str, float]:
    """Return the share of replicates whose best point is the uniform soup, is inside, at the ends, and outside."""
    least = np.array([min(weights) for weights in best])
    shares = {"inside": least > _ZERO, "at the ends": abs(least) <= _ZERO, "outside": least < -_ZERO}
    found = {"uniform": float(np.mean([weights == centre for weights in best]))}
    return found | {label: float(np.mean(where)) for label, where in shares.items()}


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
    difference = signed(field.over_best_model(name), quantity.digits)
    return series(quantity.title, "soup", points, quantity.title) | {
        "unit": quantity.unit,
        "digits": quantity.digits,
        "better": "high" if quantity.more else "low",
        "resolution": field.resolution(name),
        "note": f"soup less best model: {difference}; best at {highest}",
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
        "Each quantity has a sentence of its own, and none of them is corrected for the others.",
    ]
