"""The pieces of `study.json`: tables with their cells, figures with their series."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from salsa.evaluation.statistics import Estimate
from salsa.studies.settings import SFT, SOUP, Settings


def table(
    name: str, title: str, caption: str, columns: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a table whose rows are models, in groups of families."""
    return {
        "name": name,
        "title": title,
        "group_header": "family",
        "caption": caption,
        "row_header": "model",
        "columns": list(columns),
        "rows": list(rows),
        "paper": None,
    }


def column(
    key: str,
    group: str,
    unit: str,
    digits: int,
    scale: float = 1,
    label: str = "",
    better: str | None = None,
    even: float | None = None,
) -> dict[str, Any]:
    """Return a column; `scale` is what its values are multiplied by to have the unit.

    `better` ("high" or "low") marks the best, `even` the value that an interval has to leave out to decide something.
    """
    told = {"key": key, "label": label or key, "group": group, "unit": unit, "digits": digits, "scale": scale}
    return told | ({"better": better} if better else {}) | ({"even": even} if even is not None else {})


def row(arm: str, group: str | None, cells: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the row of an arm; a key without a cell has no meaning there."""
    return {"label": arm, "role": role(arm, settings), "group": group, "cells": dict(cells)}


def role(arm: str, settings: Settings) -> str:
    """Return what an arm is, which gives it its colour."""
    return {SFT: "sft", SOUP: "soup"}.get(arm) or settings.roles.get(arm, "other")


def cell(estimate: Estimate, prints: Sequence[str], note: str | None = None) -> dict[str, Any]:
    """Return a cell with the fingerprints that it comes from."""
    return {**asdict(estimate), "note": note, "fingerprints": list(dict.fromkeys(prints))}


def point(x: float | str, estimate: Estimate, scale: float = 1) -> dict[str, Any]:
    """Return a point of a series, with its interval."""
    values = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {"x": x, **{key: None if value is None else scale * value for key, value in values.items()}}


def series(label: str, arm_role: str, points: Sequence[Mapping[str, Any]], panel: str | None = None) -> dict[str, Any]:
    """Return a series of a figure; those of one `panel` are drawn together."""
    return {"label": label, "role": arm_role, "points": list(points)} | ({"panel": panel} if panel else {})


def figure(
    name: str,
    title: str,
    kind: str,
    axes: tuple[str, str],
    drawn: Sequence[Mapping[str, Any]],
    *,
    line: float | None = None,
    log: bool = False,
) -> dict[str, Any]:
    """Return a figure; `axes` are the labels of x and y, `line` a value to compare with, `log` the scale of x."""
    return {
        "name": name,
        "title": title,
        "kind": kind,
        "x": {"label": axes[0], "log": log},
        "y": {"label": axes[1]},
        "line": line,
        "series": list(drawn),
    }
