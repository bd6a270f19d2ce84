"""The tables of a landscape as data."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from salsa.report.grid import BLANK, MISSING, Cell, Column, Grid, mark_best, measured, number
from salsa.report.landscape.findings import BARYCENTRE, MIDPOINT, PLACES, VERTEX, precise, spot
from salsa.report.schema import Metric

_MOST_LAYERS = 8
_DISTANCE = Metric("distance", "", 3)
_SHARE = Metric("share", "%", 0, 100.0)
_COSINE = Metric("cosine", "", 3)


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
        picked = [(pick(found[key]), metric) for key, metric in metrics.items()]
        return [Cell(title), *(measured(estimate, precise(estimate, metric)) for estimate, metric in picked)]

    rows = [
        row(f"{centre} − {name}", lambda each, name=name: each["differences"][name]) for name in first["differences"]
    ]
    rows.append(row(f"{centre} − best other point", lambda each: each["best"]["difference"]))
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
    for title, key in (("best of the grid", "weights"), ("best other point", "rival")):
        rows.append([Cell(title), *(Cell(spot(place["models"], found[name]["best"][key])) for name in metrics)])
    rows += _sureness(found, list(metrics), kind, landscape["level"])
    return Grid(f"The {centre} on the {kind}, and the best point", "", columns, rows)


def _sureness(found: Mapping[str, Any], keys: Sequence[str], kind: str, level: float) -> Iterator[list[Cell]]:
    """Yield rows on where the best point is in resamples, and what would be so by chance."""
    if any(found[key]["best"]["share"] is None for key in keys):
        return
    for title, name in (("share of the best point", "share"), ("such a share by chance", "chance_share")):
        yield [Cell(f"{title}, % of resamples"), *(measured(found[key]["best"][name], _SHARE) for key in keys)]
    if kind == "line":
        ranges = (found[key]["best"]["alphas"] for key in keys)
        title = f"alpha of the best point, {level:.0%} of resamples"
        yield [Cell(title), *(Cell(f"{low:.4g} to {high:.4g}") for low, high in ranges)]
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
    title = f"On the plane through {listed(plane['models'])}"
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


def listed(names: Sequence[str]) -> str:
    """Return names in words."""
    return f"{', '.join(names[:-1])} and {names[-1]}"
