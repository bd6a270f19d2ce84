"""What a line or a plane shows of one quantity: the soup against its ingredients, the barrier, the best point."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from salsa.evaluation.statistics import Estimate
from salsa.report.landscape.distribution import Array, Distribution
from salsa.report.schema import Metric
from salsa.soup.landscape import Weights, above_chord, barrier, barycentre

MIDPOINT, BARYCENTRE = "midpoint", "barycentre"
ENDS, VERTICES, EDGES = "mean of the ends", "mean of the vertices", "mean of the edges' midpoints"
_ZERO = 1e-3
"""Of the last decimal of a metric: a bound this close to 0 is rounding, and taken for 0."""
INSIDE, EDGE, VERTEX, OUTSIDE = "inside", "on an edge", "at a model", "outside"
PLACES = (INSIDE, EDGE, VERTEX, OUTSIDE)


@dataclass(frozen=True)
class Field:
    """One quantity at the points of a grid: names of the spanning models, weights of the points, and its values."""

    models: Sequence[str]
    weights: Sequence[Weights]
    values: Distribution
    metric: Metric
    level: float

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return -1 if self.metric.better == "low" else 1

    @property
    def centre(self) -> str:
        """What the soup with equal weights is called."""
        return MIDPOINT if len(self.models) == 2 else BARYCENTRE

    def at(self, weights: Weights) -> Array:
        """Return the coefficients that pick the point with these weights."""
        return np.array([1.0 if own == weights else 0.0 for own in self.weights])

    def over(self, chosen: Sequence[bool]) -> Array:
        """Return the coefficients of the mean over the chosen points."""
        picked = np.asarray(chosen, dtype=np.float64)
        return picked / picked.sum()

    def estimate(self, coefficients: Array) -> dict[str, Any]:
        """Return a combination of points with its paired interval."""
        return asdict(self.values.contrasts([coefficients]).estimates(self.level)[0])


def vertices(count: int) -> list[Weights]:
    """Return the weights of the models themselves."""
    return [tuple(float(row == column) for column in range(count)) for row in range(count)]


def place(weights: Weights) -> str:
    """Return where a point lies: inside the models' hull, on its edge, at a model, or outside."""
    if min(weights) < 0:
        return OUTSIDE
    if max(weights) == 1:
        return VERTEX
    return INSIDE if min(weights) > 0 else EDGE


def check(models: Sequence[str], weights: Sequence[Weights], kind: str) -> None:
    """Raise ValueError, naming the weights, where a grid lacks a model or the soup with equal weights."""
    for needed in [*vertices(len(models)), barycentre(len(models))]:
        if needed not in weights:
            raise ValueError(
                f"the {kind} lacks the point with weights {needed}; evaluate the grid that salsa.soup makes"
            )


def of_line(field: Field) -> dict[str, Any]:
    """Return the findings on a line: midpoint, its differences, barrier, best point."""
    ends = [field.at(weights) for weights in vertices(2)]
    middle = field.at(barycentre(2))
    against = {**dict(zip(field.models, ends, strict=True)), ENDS: (ends[0] + ends[1]) / 2}
    return {
        "centre": field.estimate(middle),
        "differences": _differences(field, middle, against),
        "barrier": _barrier(field),
        "best": _best(field, middle),
        "resolution": _resolution(field, middle),
    }


def of_plane(field: Field) -> dict[str, Any]:
    """Return the findings on a plane: barycentre, interior, their differences, best point."""
    corners = [field.at(weights) for weights in vertices(3)]
    edges = [field.at(weights) for weights in ((0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5))]
    middle, inside = field.at(barycentre(3)), [place(weights) == INSIDE for weights in field.weights]
    interior = field.over(inside)
    against: dict[str, Array] = {
        **dict(zip(field.models, corners, strict=True)),
        VERTICES: sum(corners, np.zeros(1)) / 3,
    }
    if all(edge.any() for edge in edges):
        against[EDGES] = sum(edges, np.zeros(1)) / 3
    return {
        "centre": field.estimate(middle),
        "differences": _differences(field, middle, against),
        "interior": {
            "points": int(np.count_nonzero(inside)),
            "mean": field.estimate(interior),
            "differences": _differences(
                field, interior, {name: other for name, other in against.items() if name != EDGES}
            ),
        },
        "best": _best(field, middle),
        "resolution": _resolution(field, middle),
    }


def _differences(field: Field, own: Array, against: Mapping[str, Array]) -> dict[str, Any]:
    """Return a point minus each of `against`: minus the models with intervals that hold for all of them together.

    A verdict looks at two or three models at once; intervals of their own would err more often than they say.
    """
    found = {name: field.estimate(own - other) for name, other in against.items()}
    apart = field.values.contrasts([own - against[name] for name in field.models])
    return found | {name: asdict(each) for name, each in zip(field.models, apart.together(field.level), strict=True)}


def _barrier(field: Field) -> dict[str, Any]:
    """Return the barrier on the data, and between what heights a band that holds for all alphas together puts it.

    Resampled maxima would not do: the highest of many noisy heights is above 0 even where there is no barrier.
    """
    alphas = np.array([weights[1] for weights in field.weights])
    found = barrier(alphas, -field.sign * field.values.value)
    within = np.flatnonzero((alphas >= 0) & (alphas <= 1))
    # Each row is a point minus the chord below it; the sign makes "worse" positive.
    excess = -field.sign * above_chord(alphas, np.eye(len(alphas))).T[within]
    band = field.values.contrasts(excess).band(field.level)
    low, high = (None, None) if band is None else (max(0.0, max(bounds)) for bounds in zip(*band, strict=True))
    return {**asdict(Estimate(found.height, low, high, field.values.n)), "alpha": found.alpha}


def _best(field: Field, centre: Array) -> dict[str, Any]:
    """Return the best point on the data, and the soup with equal weights against its rival, the best other point.

    The rival is chosen on the same data, so the interval of that difference is one that holds for the differences to
    all points of the grid together.
    """
    shares = field.values.best_shares(field.sign)
    heights = field.sign * field.values.value
    best, rival = int(np.argmax(heights)), int(np.argmax(np.where(centre > 0, -np.inf, heights)))
    apart = field.values.contrasts(centre - np.eye(len(centre))).together(field.level)
    found: dict[str, Any] = {
        "weights": list(field.weights[best]),
        "is_centre": bool(centre[best]),
        "rival": list(field.weights[rival]),
        "difference": asdict(apart[rival]),
        "share": None if shares is None else shares[best],
        "centre_share": None if shares is None else float(np.asarray(shares) @ centre),
        "chance_share": field.values.chance_share(field.sign),
        "places": None if shares is None else _by_place(field.weights, shares),
    }
    if len(field.models) == 2:
        found["alphas"] = None if shares is None else _range(field.weights, shares, field.level)
    return found


def _resolution(field: Field, centre: Array) -> float | None:
    """Return half the width of a typical paired interval: that of the median point inside against the centre."""
    others = np.eye(len(centre))[
        [place(own) != OUTSIDE and not at for own, at in zip(field.weights, centre, strict=True)]
    ]
    found = field.values.contrasts(others - centre).estimates(field.level)
    halves = [(each.high - each.low) / 2 for each in found if each.low is not None and each.high is not None]
    return float(np.median(halves)) if halves else None


def _by_place(weights: Sequence[Weights], shares: Sequence[float]) -> dict[str, float]:
    """Return in which share of resamples the best point lies inside, on an edge, at a model, and outside."""
    places = [place(each) for each in weights]
    return {
        name: float(sum(share for own, share in zip(places, shares, strict=True) if own == name)) for name in PLACES
    }


def _range(weights: Sequence[Weights], shares: Sequence[float], level: float) -> list[float]:
    """Return the quantiles of the best alpha over the resamples that hold `level` of them."""
    alphas, total = [each[1] for each in weights], np.cumsum(shares)
    tail = (1 - level) / 2
    last = len(alphas) - 1
    # A share is a sum of fractions: a quantile that is just met may come out a rounding short.
    return [alphas[min(last, int(np.searchsorted(total, bound - 1e-9)))] for bound in (tail, 1 - tail)]


def verdict(field: Field, findings: Mapping[str, Any]) -> str:
    """Return in a few sentences whether the soup with equal weights is better than each ingredient, and best of all."""
    differences = {name: findings["differences"][name] for name in field.models}
    sides = {name: _side(each, field) for name, each in differences.items()}
    measured = ", ".join(f"{shown(each, field.metric)} against {name}" for name, each in differences.items())
    return f"{_against(field, sides)} ({measured}). {_where(field, findings['best'])}"


def _against(field: Field, sides: Mapping[str, int]) -> str:
    """Return a sentence on the soup with equal weights against the models: worse, undecided, better."""
    worse, unclear, better = ([name for name, side in sides.items() if side == wanted] for wanted in (-1, 0, 1))
    every = "both ends" if len(sides) == 2 else "all three models"
    if len(worse) == len(sides) or len(better) == len(sides):
        return f"The {field.centre} is {'worse' if worse else 'better'} than {every}"
    parts = [f"the {field.centre} is worse than {_listed(worse)}"] if worse else []
    if unclear:
        own = "it" if worse else f"the {field.centre}"
        parts.append(f"the data do not decide whether {own} is better than {_listed(unclear, 'or')}")
    parts += [f"it is better than {_listed(better)}"] if better else []
    said = "; ".join(parts)
    return said[0].upper() + said[1:]


def _where(field: Field, best: Mapping[str, Any]) -> str:
    """Return a sentence on the best point of the grid; shares of resamples only where they tell points apart."""
    rival, side = spot(field.models, best["rival"]), _side(best["difference"], field)
    difference = shown(best["difference"], field.metric)
    if best["is_centre"]:
        said = f"The best point of the grid is the {field.centre} itself"
        apart = f"{field.centre} against that: {difference}"
        if side > 0:
            return f"{said} (in {best['share']:.0%} of resamples), better than the next best, {rival} ({apart})."
        return f"{said}; the data do not tell it from the next best, {rival} ({apart})."
    said, apart = f"The best point of the grid is {rival}", f"{field.centre} against it: {difference}"
    if side < 0:
        sure = f"(in {best['share']:.0%} of resamples; the {field.centre} in {best['centre_share']:.0%})"
        return f"{said} {sure}, better than the {field.centre} ({apart})."
    return f"{said}; the data do not tell the {field.centre} from it ({apart})."


def spot(models: Sequence[str], weights: Sequence[float]) -> str:
    """Return a point of the grid in words: alpha on a line, the weights on a plane."""
    if max(weights) == 1 and min(weights) == 0:
        return models[list(weights).index(1)]
    if len(models) == 2:
        return f"alpha = {weights[1]:.4g}"
    return f"weights ({', '.join(f'{weight:.3g}' for weight in weights)})"


def shown(estimate: Mapping[str, Any], metric: Metric) -> str:
    """Return a difference with its sign and interval, in the decimals of `precise`."""
    metric = precise(estimate, metric)
    value = _signed(estimate["value"] * metric.scale, metric.decimals)
    if estimate["low"] is None:
        return f"{value} [no interval]"
    low, high = (_signed(estimate[key] * metric.scale, metric.decimals) for key in ("low", "high"))
    return f"{value} [{low}, {high}]"


def precise(estimate: Mapping[str, Any], metric: Metric) -> Metric:
    """Return the metric with as many decimals as show on which side of 0 the bounds of this estimate lie."""
    bounds = [_bound(estimate[key], metric) for key in ("low", "high")]
    decimals = metric.decimals
    while any(bound and round(bound * metric.scale, decimals) == 0 for bound in bounds):
        decimals += 1
    return replace(metric, decimals=decimals)


def _bound(value: float | None, metric: Metric) -> float:
    """Return a bound, or 0 for one that differs from 0 by rounding only."""
    return 0.0 if value is None or abs(value * metric.scale) < _ZERO * 10**-metric.decimals else value


def _signed(value: float, decimals: int) -> str:
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text


def _side(estimate: Mapping[str, Any], field: Field) -> int:
    """Return 1 where the whole interval is on the better side of 0, -1 on the worse side, else 0."""
    low, high = sorted(field.sign * _bound(estimate[key], field.metric) for key in ("low", "high"))
    return 1 if low > 0 else -1 if high < 0 else 0


def _listed(names: Sequence[str], word: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
