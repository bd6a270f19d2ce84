"""A landscape as one Markdown page: what was measured, what it shows, the tables, how to read them, its origin."""

from collections.abc import Iterator, Mapping
from typing import Any

from salsa.report.grid import Cell, Column, Grid, to_markdown
from salsa.report.landscape.tables import grids, listed
from salsa.report.markup import escape
from salsa.report.schema import Metric

_DIGITS = 16
"""Of a fingerprint where it is a name."""
_PAIRED = (
    "Differences are paired: in every resample all points have the same prompts. The minus sign reads as in the "
    "formula, so for the loss a negative difference is the better one.",
    "The difference to the best other point of the grid has an interval that holds for the differences to all its "
    "points together, because that point was chosen on the same data.",
    "Other intervals hold for one number each. A difference has more decimals where a bound would else read 0 and is "
    "not.",
    "Barrier: the most by which a quantity gets worse than the chord between the two models within [0, 1] (Entezari et "
    "al. 2022; Frankle et al. 2020 subtract the mean of the ends instead). Its interval follows from a band over all "
    "alphas together: it lies above 0 only where some point is surely worse than the chord.",
)
_DISTANCES = "Distances are Euclidean, between weights."
_POLICIES = "Policies lie off the line and the plane; their foot is the nearest point on it."


def markdown(landscape: Mapping[str, Any]) -> str:
    """Return the page.

    What a caller has added to the landscape is shown: `title`, `suite`, `fingerprint`, `seed`, `replicate`, `soup`,
    and in `fingerprints` those of `models` and `others`, by their names.
    """
    title = f": {landscape['title']}" if landscape.get("title") else ""
    parts = [
        f"# Landscape between {escape(listed(landscape['models']) + title)}\n",
        _measured(landscape),
        _verdicts(landscape),
    ]
    parts += [to_markdown(grid) for grid in grids(landscape)]
    parts.append(_notes(landscape))
    return "\n".join([*parts, *_origin(landscape)])


def _measured(landscape: Mapping[str, Any]) -> str:
    """Return a paragraph on the points and the data."""
    line, plane, models = landscape["line"], landscape["plane"], landscape["models"]
    alphas = [point["weights"][1] for point in line["points"]]
    text = (
        f"Each point is one soup, weights w_1 theta_1 + w_2 theta_2 (+ w_3 theta_3) with sum 1 of {listed(models)}. "
        f"Line: (1 - alpha) {models[0]} + alpha {models[1]}, {len(alphas)} points from alpha = {alphas[0]:.4g} to "
        f"{alphas[-1]:.4g}. "
    )
    if plane:
        weights = [weight for point in plane["points"] for weight in point["weights"]]
        where = "inside and outside" if min(weights) < 0 else "within"
        text += (
            f"Plane: {len(plane['points'])} points, a lattice with every weight from {min(weights):.4g} to "
            f"{max(weights):.4g}, {where} the triangle. Its origin is {models[0]}; the first axis is "
            "e_1 = (theta_2 - theta_1) / |theta_2 - theta_1|, the second e_2 the part of theta_3 - theta_1 that is "
            "orthogonal to it, normalised (Gram-Schmidt, as Garipov et al. 2018); the unit is Euclidean distance. "
        )
    suite = f" of {landscape['suite']}" if landscape.get("suite") else ""
    text += (
        f"Replies a point: {landscape['replies']:,}, one to each of the same prompts{suite} "
        f"({landscape['clusters']:,} clusters), with the same random numbers at every point (common random numbers)."
    )
    if landscape["documents"]:
        text += f" SFT loss: {landscape['documents']:,} held-out documents, {landscape['tokens']:,} learned tokens."
    return escape(text) + "\n"


def _verdicts(landscape: Mapping[str, Any]) -> str:
    lines = ["## What it shows", ""]
    for kind in ("line", "plane"):
        for key, verdict in (landscape[kind] or {"verdicts": {}})["verdicts"].items():
            metric = Metric(**landscape["quantities"][key])
            lines.append(f"* {escape(f'{kind.capitalize()}, {metric.label} ({metric.unit}): {verdict}')}")
    return "\n".join(lines) + "\n"


def _notes(landscape: Mapping[str, Any]) -> str:
    """Return how to read intervals, shares and distances."""
    intervals = (
        f"Intervals are of {landscape['level']:.0%}, from {landscape['rounds']:,} resamples of clusters of prompts "
        "(for the loss, of documents); percentiles unless said otherwise. They are **conditional on these trained "
        "models**: another seed gives other models. At points they are pointwise; the CSV files also have a band that "
        "holds for all points together (`band_low`, `band_high`; sup-t)."
    )
    distances = f"{_POLICIES} {_DISTANCES}" if landscape["others"] else _DISTANCES
    together = (
        "Differences to the models, by which the verdicts go, have intervals that hold for all models of the line or "
        f"plane together (sup-t): where no soup differs from any model, about {1 - landscape['level']:.0%} of verdicts "
        "name a difference. Each quantity is judged by itself, so of several verdicts one errs more often than that."
    )
    notes = [intervals, together, *_PAIRED, *_shares(landscape), distances]
    return "\n".join(["## How to read it", "", *(f"* {line}" for line in notes)]) + "\n"


def _shares(landscape: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the shares of resamples do not say, with the size of the highest one by chance."""
    parts = []
    for kind in ("line", "plane"):
        found = (landscape[kind] or {"findings": {}})["findings"].values()
        shares = [each["best"]["chance_share"] for each in found if each["best"]["chance_share"] is not None]
        if shares:
            low, high = (f"{100 * share:.0f}" for share in (min(shares), max(shares)))
            points = len(landscape[kind]["points"])
            parts.append(f"{low if low == high else f'{low} to {high}'} % among the {points} points of the {kind}")
    if parts:
        yield (
            "Best point, % of resamples: how often a point of the grid comes out best; ties are split. This is **no "
            "probability of being best**, nor is the range of alpha an interval for the true best one: a point that is "
            "ahead by chance is ahead in most resamples, too. Were all points equally good and the noise the same, the "
            f"highest share would still be, on average, {' and '.join(parts)}."
        )


def _origin(landscape: Mapping[str, Any]) -> Iterator[str]:
    """Yield a last section on where the landscape comes from, if a caller has added something of that."""
    own, prints = landscape.get("fingerprint"), landscape.get("fingerprints") or {}
    said = [f"landscape {own[:_DIGITS]}"] if own else []
    said += [f"{key} {landscape[key]}" for key in ("seed", "replicate") if landscape.get(key) is not None]
    said += [f"soup {landscape['soup']}"] if landscape.get("soup") else []
    text = "; ".join(said)
    caption = f"{text[0].upper()}{text[1:]}." if said else ""
    caption = f"{caption} Those of the points are in the CSV files.".strip() if prints.get("points") else caption
    rows = list(_prints(prints))
    if rows:
        columns = [Column("", left=True), Column("", left=True), Column("fingerprint", left=True)]
        yield to_markdown(Grid("Fingerprints", caption, columns, rows))
    elif caption:
        yield f"## Fingerprints\n\n{escape(caption)}\n"


def _prints(prints: Mapping[str, Any]) -> Iterator[list[Cell]]:
    """Yield a row for each model and each policy."""
    for key, kind in (("models", "model"), ("others", "policy")):
        for name, value in (prints.get(key) or {}).items():
            yield [Cell(name), Cell(kind), Cell(value)]
