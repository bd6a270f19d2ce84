"""The tables of a landscape as data, and everything that was found about it as one Markdown page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from salsa.report.grid import BLANK, MISSING, Cell, Column, Grid, mark_best, measured, number, to_markdown
from salsa.report.landscape.findings import BARYCENTRE, MIDPOINT, PLACES, VERTEX, spot
from salsa.report.markup import escape
from salsa.report.schema import Metric

_MOST_LAYERS = 8
_DISTANCE = Metric("distance", "", 3)
_SHARE = Metric("share", "%", 0, 100.0)
_COSINE = Metric("cosine", "", 3)

def markdown(landscape: Mapping[str, Any]) -> str:
    """Return the page: what was measured, what it shows in sentences, the tables, how to read them, where it is from.

    What a caller has added to the landscape is shown: `title`, `suite`, `fingerprint`, `seed`, `replicate`, `soup`,
    and the `fingerprints` of `models` and `others` by their names.
    """
    title = f": {landscape['title']}" if landscape.get("title") else ""
    parts = [
        f"# Landscape between {escape(_listed(landscape['models']) + title)}\n",
        _measured(landscape),
        _verdicts(landscape),
    ]
    parts += [to_markdown(grid) for grid in grids(landscape)]
    parts.append(reading.notes(landscape))
    return "\n".join([*parts, *_origin(landscape)])


def grids(landscape: Mapping[str, Any]) -> Iterator[Grid]:
    """Yield every table that there is data for: line, plane, policies, distances, task vectors."""
    yield along_line(landscape)
    yield of_centre(landscape, "line")
    if landscape["plane"]:
        yield on_plane(landscape)
        yield of_centre(landscape, "plane")
    if landscape["others"]:
        yield projections(landscape)
    yield distances(landscape)
    if landscape["geometry"] and landscape["geometry"]["names"]:
        yield task_vectors(landscape["geometry"])
        yield layers(landscape["geometry"], landscape["models"])


def _metrics(landscape: Mapping[str, Any]) -> dict[str, Metric]:
    return {key: Metric(**metric) for key, metric in landscape["quantities"].items()}


def _columns(landscape: Mapping[str, Any], group: str = "") -> list[Column]:
    found = _metrics(landscape).values()
    return [Column(f"{metric.label}, {metric.unit}" if metric.unit else metric.label, group) for metric in found]


def _values(landscape: Mapping[str, Any], values: Mapping[str, Any] | None) -> list[Cell]:
    """Return a cell for each quantity, missing where it was not measured."""
    return [measured((values or {}).get(key), metric) for key, metric in _metrics(landscape).items()]


def along_line(landscape: Mapping[str, Any]) -> Grid:
    """Return every point of the line, with its values and the share of resamples in which it is the best."""
    line, competing = landscape["line"], list(landscape["line"]["findings"])
    columns = [Column("alpha"), Column("", left=True), *_columns(landscape)]
    columns += [Column(landscape["quantities"][key]["label"], "best point, % of resamples") for key in competing]
    rows = []
    for point in line["points"]:
        name = _named(line["models"], point["weights"], MIDPOINT)
        shares = [measured(point["best_share"][key], _SHARE) for key in competing]
        rows.append([Cell(f"{point['weights'][1]:.6g}"), Cell(name), *_values(landscape, point["values"]), *shares])
    metrics = [None, None, *_metrics(landscape).values(), *(replace(_SHARE, better="high") for _ in competing)]
    return Grid(f"On the line from {line['models'][0]} to {line['models'][1]}", "", columns, mark_best(rows, metrics))


def _named(models: Sequence[str], weights: Sequence[float], centre: str) -> str:
    if len(set(weights)) == 1:
        return centre
    return spot(models, weights) if max(weights) == 1 and min(weights) == 0 else ""


def of_centre(landscape: Mapping[str, Any], kind: str) -> Grid:
    """Return the soup with equal weights against its ingredients, and the best point, for each quantity."""
    place = landscape[kind]
    centre = MIDPOINT if kind == "line" else BARYCENTRE
    found = place["findings"]
    metrics = {key: metric for key, metric in _metrics(landscape).items() if key in found}
    columns = [Column("", left=True), *(Column(f"{metric.label}, {metric.unit}") for metric in metrics.values())]
    first = next(iter(found.values()))

    def row(title: str, pick: Any) -> list[Cell]:
        return [Cell(title), *(measured(pick(found[key]), metric) for key, metric in metrics.items())]

    rows = [
        row(f"{centre} − {name}", lambda each, name=name: each["differences"][name]) for name in first["differences"]
    ]
    own = Cell("itself")
    best = [
        own if found[key]["best"]["is_centre"] else measured(found[key]["best"]["difference"], metrics[key])
        for key in metrics
    ]
    rows.append([Cell(f"{centre} − best of the grid"), *best])
    if kind == "line":
        rows.append(row("barrier", lambda each: each["barrier"]))
    else:
        against = first["interior"]["differences"]
        rows += [
            row(
                f"mean of the {first['interior']['points']} points inside − {name}",
                lambda each, name=name: each["interior"]["differences"][name],
            )
            for name in against
        ]
    rows.append(
        [Cell("best of the grid"), *(Cell(spot(place["models"], found[key]["best"]["weights"])) for key in metrics)]
    )
    rows += _sureness(found, list(metrics), kind)
    return Grid(f"The {centre} on the {kind}, and the best point", "", columns, rows)


def _sureness(found: Mapping[str, Any], keys: Sequence[str], kind: str) -> Iterator[list[Cell]]:
    """Yield rows on how sure the place of the best point is."""
    if any(found[key]["best"]["share"] is None for key in keys):
        return
    if kind == "line":
        ranges = (found[key]["best"]["alphas"] for key in keys)
        yield [Cell("alpha of the best point"), *(Cell(f"{low:.4g} to {high:.4g}") for low, high in ranges)]
    for place in PLACES:
        shares = [found[key]["best"]["places"][place] for key in keys]
        if any(shares):
            yield [Cell(f"best point {place}, % of resamples"), *(measured(share, _SHARE) for share in shares)]


def on_plane(landscape: Mapping[str, Any]) -> Grid:
    """Return the plane's key points: the models, midpoints of edges, barycentre, and the best of each quantity."""
    plane = landscape["plane"]
    best = {tuple(found["best"]["weights"]) for found in plane["findings"].values()}
    shown = [point for point in plane["points"] if _key(point) or tuple(point["weights"]) in best]
    columns = [Column("", left=True), *(Column(f"weight of {name}") for name in plane["models"])]
    columns += [Column("x"), Column("y"), *_columns(landscape)]
    rows = []
    for point in sorted(shown, key=_order):
        weights = [Cell(f"{weight:.4g}") for weight in point["weights"]]
        place = [Cell(number(each, 3)) for each in point["coordinates"]]
        name = _named(plane["models"], point["weights"], BARYCENTRE)
        rows.append([Cell(name), *weights, *place, *_values(landscape, point["values"])])
    metrics: list[Metric | None] = [None] * 6
    title = f"On the plane through {_listed(plane['models'])}"
    caption = f"Key points of {len(plane['points'])}; all are in plane.csv. x and y: coordinates, in weight distance."
    return Grid(title, caption, columns, mark_best(rows, [*metrics, *_metrics(landscape).values()]))


def _key(point: Mapping[str, Any]) -> bool:
    """Return whether a point is a model, the midpoint of an edge, or the barycentre."""
    weights = point["weights"]
    return point["place"] == VERTEX or len({weight for weight in weights if weight}) == 1


def _order(point: Mapping[str, Any]) -> tuple[float, ...]:
    """Return what sorts the models first, in their order, and the barycentre late."""
    return -max(point["weights"]), *(-weight for weight in point["weights"])


def projections(landscape: Mapping[str, Any]) -> Grid:
    """Return where policies project on line and plane, how far off they lie, and their own values."""
    models, plane = landscape["models"], landscape["plane"] is not None
    columns = [Column("policy", left=True), *(Column(name, "distance to") for name in models)]
    columns += [Column("alpha of its foot", "line"), Column("off the line", "line")]
    if plane:
        columns += [Column("weights of its foot", "plane"), Column("x", "plane"), Column("y", "plane")]
        columns += [Column("off the plane", "plane")]
    columns += _columns(landscape)
    rows = []
    for other in landscape["others"]:
        rows.append([Cell(other["name"]), *_place(other, models, plane), *_values(landscape, other["values"])])
    return Grid("Policies", "Their values are their own, not those of their foot.", columns, rows)


def _place(other: Mapping[str, Any], models: Sequence[str], plane: bool) -> list[Cell]:
    line, flat = other["line"], other["plane"]
    if line is None:
        return [BLANK] * (len(models) + 2 + 4 * plane)
    cells = [Cell(number(each, 3)) for each in (flat or line)["distances"]]
    cells += [Cell(number(line["weights"][1], 3)), Cell(number(line["off"], 3))]
    if flat:
        cells.append(Cell(", ".join(number(weight, 3) for weight in flat["weights"])))
        cells += [Cell(number(each, 3)) for each in (*flat["coordinates"], flat["off"])]
    return cells


def distances(landscape: Mapping[str, Any]) -> Grid:
    """Return the Euclidean distances between all models, in weight space."""
    names, table = landscape["distances"]["names"], landscape["distances"]["table"]
    rows = [
        [Cell(name), *(BLANK if own == other else measured(apart, _DISTANCE) for other, apart in enumerate(row))]
        for own, (name, row) in enumerate(zip(names, table, strict=True))
    ]
    return Grid("Distances in weight space", "Euclidean.", [Column("", left=True), *map(Column, names)], rows)


def task_vectors(geometry: Mapping[str, Any]) -> Grid:
    """Return norms of the task vectors and the cosines of the angles between them, over all layers."""
    names, total = geometry["names"], geometry["total"]
    columns = [Column("", left=True), Column("norm"), *(Column(name, "cosine with") for name in names)]
    rows = []
    for own, name in enumerate(names):
        cosines = [
            BLANK if own == other else measured(cosine, _COSINE) for other, cosine in enumerate(total["cosines"][own])
        ]
        rows.append([Cell(name), measured(total["norms"][own], _DISTANCE), *cosines])
    return Grid(f"Task vectors from {geometry['base']}", "A task vector: weights minus the base's.", columns, rows)


def layers(geometry: Mapping[str, Any], models: Sequence[str]) -> Grid:
    """Return norms, cosines and distances of the models, layer by layer; of many layers some, evenly spaced."""
    found = geometry["layers"]
    models = [name for name in models if name in geometry["names"]]
    places = [geometry["names"].index(name) for name in models]
    pairs = [(i, j) for number, i in enumerate(places) for j in places[number + 1 :]]
    titles = [f"{geometry['names'][i]}, {geometry['names'][j]}" for i, j in pairs]
    columns = [Column("layer", left=True), *(Column(name, "norm") for name in models)]
    columns += [*(Column(title, "cosine") for title in titles), *(Column(title, "distance") for title in titles)]
    count = min(len(found), _MOST_LAYERS)
    chosen = sorted({round(step * (len(found) - 1) / max(1, count - 1)) for step in range(count)})
    rows = []
    for layer in (found[index] for index in chosen):
        norms = [measured(layer["norms"][place], _DISTANCE) for place in places]
        cosines = [measured(layer["cosines"][i][j], _COSINE) for i, j in pairs]
        apart = [measured(layer["distances"][i][j], _DISTANCE) for i, j in pairs]
        rows.append([Cell(layer["name"]), *norms, *(BLANK if cell is MISSING else cell for cell in cosines), *apart])
    caption = f"{len(chosen)} of {len(found)} layers; all are in layers.csv." if len(chosen) < len(found) else ""
    return Grid("Task vectors by layer", caption, columns, rows)


def _measured(landscape: Mapping[str, Any]) -> str:
    """Return a paragraph on the points and the data."""
    line, plane, models = landscape["line"], landscape["plane"], landscape["models"]
    alphas = [point["weights"][1] for point in line["points"]]
    text = (
        f"Each point is one soup, weights w_1 theta_1 + w_2 theta_2 (+ w_3 theta_3) with sum 1 of {_listed(models)}. "
        f"Line: (1 - alpha) {models[0]} + alpha {models[1]}, {len(alphas)} points from alpha = {alphas[0]:.4g} to "
        f"{alphas[-1]:.4g}. "
    )
    if plane:
        weights = [weight for point in plane["points"] for weight in point["weights"]]
        text += (
            f"Plane: {len(plane['points'])} points, a lattice with every weight from {min(weights):.4g} to "
            f"{max(weights):.4g}, so inside and outside the triangle. Its origin is {models[0]}; the first axis is "
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


def _origin(landscape: Mapping[str, Any]) -> Iterator[str]:
    """Yield a last section on where the landscape comes from, if a caller has added that."""
    if not landscape.get("fingerprint"):
        return
    said = [f"landscape {landscape['fingerprint'][:_SHORT]}"]
    said += [f"{key} {landscape[key]}" for key in ("seed", "replicate") if landscape.get(key) is not None]
    said += [f"soup of the policies: {landscape['soup']}"] if landscape.get("soup") else []
    text = ", ".join(said)
    caption = f"{text[0].upper()}{text[1:]}."
    prints = landscape.get("fingerprints") or {}
    rows = [
        [Cell(name), Cell(kind), Cell(value)]
        for key, kind in (("models", "model"), ("others", "policy"))
        for name, value in (prints.get(key) or {}).items()
    ]
    columns = [Column("", left=True), Column("", left=True), Column("fingerprint", left=True)]
    if rows:
        yield to_markdown(Grid("Fingerprints", f"{caption} Those of the points are in the CSV files.", columns, rows))
    else:
        yield f"## Fingerprints\n\n{escape(caption)}\n"


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
