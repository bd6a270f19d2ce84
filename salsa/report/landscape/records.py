"""A landscape as tidy CSV: one figure a line, with its interval."""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from salsa.report.landscape.findings import BARYCENTRE, MIDPOINT, spot

_ESTIMATE = ("value", "low", "high", "band_low", "band_high", "n")
LINE_HEADER = ("point", "alpha", "off", "quantity", "unit", *_ESTIMATE, "best_share", "fingerprint")
PLANE_HEADER = (
    *("point", "place", "weight_1", "weight_2", "weight_3", "x", "y", "off"),
    *("quantity", "unit", *_ESTIMATE, "best_share", "fingerprint"),
)
LAYERS_HEADER = ("layer", "quantity", "model", "other", "value")
ALL_LAYERS = "all"
"""The name under which layers.csv holds the geometry over all layers."""


def line_csv(landscape: Mapping[str, Any]) -> str:
    """Return the points of the line, then the policies, which lie `off` it; alpha is the weight of the second model.

    Raises ValueError where a caller has added other than one fingerprint a point.
    """
    return _csv(LINE_HEADER, _points(landscape, "line", lambda place: {"alpha": place["weights"][1]}))


def plane_csv(landscape: Mapping[str, Any]) -> str:
    """Return the points of the plane, then the policies, which lie `off` it; x and y are in weight distance.

    Raises ValueError where a caller has added other than one fingerprint a point.
    """

    def located(place: Mapping[str, Any]) -> dict[str, Any]:
        weights = {f"weight_{number}": weight for number, weight in enumerate(place["weights"], 1)}
        return {"place": place.get("place", ""), **weights, "x": place["coordinates"][0], "y": place["coordinates"][1]}

    return _csv(PLANE_HEADER, _points(landscape, "plane", located))


def layers_csv(landscape: Mapping[str, Any]) -> str:
    """Return norms of task vectors, cosines and distances of each two models, for each layer and over all."""
    geometry = landscape["geometry"]
    parts = [{"name": ALL_LAYERS, **geometry["total"]}, *geometry["layers"]]
    return _csv(LAYERS_HEADER, itertools.chain.from_iterable(_layer(geometry["names"], part) for part in parts))


def _layer(names: Sequence[str], part: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, norm in zip(names, part["norms"], strict=True):
        yield {"layer": part["name"], "quantity": "norm", "model": name, "other": "", "value": norm}
    for i, j in itertools.combinations(range(len(names)), 2):
        for quantity in ("cosine", "distance"):
            pair = {"model": names[i], "other": names[j], "value": part[f"{quantity}s"][i][j]}
            yield {"layer": part["name"], "quantity": quantity, **pair}


def _points(landscape: Mapping[str, Any], kind: str, located: Any) -> Iterator[dict[str, Any]]:
    """Yield a record for each quantity of each point and policy, with the point's or the policy's fingerprint."""
    own, prints = landscape[kind], landscape.get("fingerprints") or {}
    centre = MIDPOINT if kind == "line" else BARYCENTRE
    for point, fingerprint in zip(own["points"], _prints(landscape, kind), strict=True):
        weights = point["weights"]
        corner = spot(own["models"], weights) if max(weights) == 1 and min(weights) == 0 else ""
        name = centre if len(set(weights)) == 1 else corner
        for key, estimate in point["values"].items():
            record = {"point": name, **located(point), "off": 0.0, **estimate, "fingerprint": fingerprint}
            yield record | {"quantity": key, "best_share": point["best_share"].get(key)} | _unit(landscape, key)
    for other in landscape["others"]:
        if other[kind] and other["values"]:
            fingerprint = (prints.get("others") or {}).get(other["name"], "")
            for key, estimate in other["values"].items():
                record = {"point": other["name"], **located(other[kind]), "off": other[kind]["off"], **estimate}
                yield record | {"quantity": key, "fingerprint": fingerprint} | _unit(landscape, key)


def _prints(landscape: Mapping[str, Any], kind: str) -> Sequence[str]:
    """Return the fingerprint of each point, empty where a caller has added none."""
    count = len(landscape[kind]["points"])
    found = ((landscape.get("fingerprints") or {}).get("points") or {}).get(kind) or [""] * count
    if len(found) != count:
        raise ValueError(f"fingerprints.points.{kind} has {len(found)} entries; the {kind} has {count} points")
    return list(found)


def _unit(landscape: Mapping[str, Any], key: str) -> dict[str, str]:
    """Return the unit of a value in the files, where shares run from 0 to 1 whatever a table shows."""
    quantity = landscape["quantities"][key]
    return {"unit": "share" if quantity["unit"] == "%" else quantity["unit"]}


def _csv(header: Sequence[str], records: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, header, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
