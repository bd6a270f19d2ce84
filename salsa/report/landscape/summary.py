"""A landscape as one JSON-able dictionary: every point with its intervals, what the line and the plane show."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from salsa.evaluation.statistics import LEVEL, ROUNDS
from salsa.report.landscape import findings
from salsa.report.landscape.distribution import Array, Distribution, Resamples
from salsa.report.landscape.evidence import Evidence, Geometry, Judge, Table, Vectors
from salsa.report.schema import METRICS, Metric
from salsa.soup.landscape import Frame, Weights, frame

SCHEMA = 2
LOSS = Metric("SFT loss", "nats a token", 3, better="low")


@dataclass(frozen=True)
class _Measured:
    """Every quantity that was measured, over all points: its metric and its distribution."""

    metrics: Mapping[str, Metric]
    values: Mapping[str, Distribution]
    level: float


def assemble(
    evidence: Evidence, rng: np.random.Generator, rounds: int = ROUNDS, level: float = LEVEL
) -> dict[str, Any]:
    """Return the landscape: plain Python values, no NaN; the same evidence and generator give the same values.

    Intervals are percentile intervals from resampling clusters of prompts (of documents, for the loss), with the same
    resamples at every point. Raises ValueError, naming the point, where evaluations do not share their prompts or
    documents, or lack an end of the line, its midpoint, a corner of the triangle or its barycentre; and naming the
    model, where two models are equal or three on one line.
    """
    models, line, plane = list(evidence.models), list(evidence.line), list(evidence.plane or {})
    if len(models) != (2 if evidence.plane is None else 3):
        raise ValueError(f"models are {models}; a line runs through two, a plane through three")
    findings.check(models[:2], line, "line")
    points = [(f"the line's point {weights}", each) for weights, each in evidence.line.items()]
    points += [(f"the plane's point {weights}", each) for weights, each in (evidence.plane or {}).items()]
    table = Table([*points, *evidence.measured.items()])
    measured, groups = _measured(table, evidence.judge, rng, rounds, level)
    gram = np.asarray(evidence.gram, dtype=np.float64)
    _check_gram(gram, len(models) - 1 + len(evidence.others))
    line_frame = frame(gram[:1, :1], models[:2])
    order = sorted(range(len(line)), key=lambda index: line[index][1])
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "models": models,
        "level": level,
        "rounds": rounds,
        "replies": len(table.clusters),
        "clusters": groups[0],
        "documents": len(table.documents),
        "document_clusters": groups[1],
        "tokens": int(table.tokens.sum()),
        "quantities": {key: asdict(metric) for key, metric in measured.metrics.items()},
        "line": _landscape(measured, models[:2], [line[index] for index in order], order, line_frame),
        "plane": None,
    }
    frames = [line_frame]
    if plane:
        findings.check(models, plane, "plane")
        frames.append(frame(gram[:2, :2], models))
        columns = range(len(line), len(line) + len(plane))
        result["plane"] = _landscape(measured, models, plane, columns, frames[1])
    result["others"] = _others(evidence, gram, frames, measured, len(line) + len(plane))
    result["distances"] = {"names": [*models, *evidence.others], "table": _distances(gram)}
    result["geometry"] = None if evidence.geometry is None else _geometry(evidence.geometry)
    return result


def _measured(
    table: Table, judge: Judge, rng: np.random.Generator, rounds: int, level: float
) -> tuple[_Measured, tuple[int, int]]:
    """Return the distribution of every quantity, and the numbers of clusters of prompts and of documents."""
    metrics = {
        "judge": Metric(judge.name, judge.unit, 2, better="high"),
        "reward": METRICS["reward"],
        "loss": LOSS,
        "length": METRICS["length"],
        "unfinished": METRICS["unfinished"],
    }
    metrics = {key: metric for key, metric in metrics.items() if key in table.columns}
    prompts = Resamples(table.clusters, rng, rounds)
    values = {key: prompts.ratios(table.columns[key]) for key in metrics if key != "loss"}
    groups = 0
    if "loss" in metrics:
        documents = Resamples(table.documents, rng, rounds)
        values["loss"] = documents.ratios(table.columns["loss"], table.tokens)
        groups = documents.groups
    return _Measured(metrics, values, level), (prompts.groups, groups)


def _landscape(
    measured: _Measured, models: Sequence[str], grid: Sequence[Weights], columns: Sequence[int], axes: Frame
) -> dict[str, Any]:
    """Return one line or plane: its models' coordinates, its points with all values, its findings and verdicts."""
    places = axes.coordinates(np.array(grid)).tolist()
    points = [
        {"weights": list(weights), "coordinates": at, "place": findings.place(weights), "values": {}, "best_share": {}}
        for weights, at in zip(grid, places, strict=True)
    ]
    found: dict[str, Any] = {"models": list(models), "coordinates": axes.models.tolist(), "points": points}
    found |= {"findings": {}, "verdicts": {}}
    for key, metric in measured.metrics.items():
        own = measured.values[key].select(columns)
        band = own.band(measured.level)
        for index, (point, estimate) in enumerate(zip(points, own.estimates(measured.level), strict=True)):
            low, high = (None, None) if band is None else band[index]
            point["values"][key] = asdict(estimate) | {"band_low": low, "band_high": high}
        # Length and endings are shown beside the rewards, but no point is the best of them.
        if key not in ("length", "unfinished"):
            field = findings.Field(models, grid, own, metric, measured.level)
            shares = own.best_shares(field.sign)
            for index, point in enumerate(points):
                point["best_share"][key] = None if shares is None else shares[index]
            found["findings"][key] = findings.of_line(field) if len(models) == 2 else findings.of_plane(field)
            found["verdicts"][key] = findings.verdict(field, found["findings"][key])
    return found


def _others(
    evidence: Evidence, gram: Array, frames: Sequence[Frame], measured: _Measured, first: int
) -> list[dict[str, Any]]:
    """Return every model beside the spanning ones: where it projects, and its own values."""
    span, found = len(evidence.models) - 1, []
    columns = {name: first + index for index, name in enumerate(evidence.measured)}
    for name in [*evidence.others, *(name for name in columns if name not in evidence.others)]:
        row: dict[str, Any] = {"name": name, "line": None, "plane": None, "values": None}
        if name in evidence.others:
            index = span + list(evidence.others).index(name)
            square = float(gram[index, index])
            for kind, axes in zip(("line", "plane"), frames, strict=False):
                foot = axes.project(gram[index, : axes.models.shape[1]], square)
                row[kind] = {
                    key: list(value) if isinstance(value, tuple) else value for key, value in asdict(foot).items()
                }
        if name in columns:
            row["values"] = {
                key: asdict(measured.values[key].select([columns[name]]).estimates(measured.level)[0])
                for key in measured.metrics
            }
        found.append(row)
    return found


def _check_gram(gram: Array, count: int) -> None:
    if gram.shape != (count, count):
        raise ValueError(f"gram has shape {gram.shape}; {count} models beside the first need {(count, count)}")
    if not np.isfinite(gram).all():
        raise ValueError("gram holds NaN or infinity: a model's weights do; train that model again")


def _distances(gram: Array) -> list[list[float]]:
    """Return the distances between all models, the first of which is the origin of `gram`."""
    whole = np.pad(gram, ((1, 0), (1, 0)))
    squares = np.diagonal(whole)
    table: list[list[float]] = np.sqrt(np.maximum(squares[:, None] + squares - 2 * whole, 0.0)).tolist()
    return table


def _geometry(geometry: Geometry) -> dict[str, Any]:
    return {
        "base": geometry.base,
        "names": list(geometry.names),
        "total": _vectors(geometry.total),
        "layers": [{"name": name, **_vectors(vectors)} for name, vectors in geometry.layers.items()],
    }


def _vectors(vectors: Vectors) -> dict[str, Any]:
    return {
        "norms": list(vectors.norms),
        "cosines": [list(row) for row in vectors.cosines],
        "distances": [list(row) for row in vectors.distances],
    }
