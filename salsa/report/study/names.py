"""The names of the files of a study's figures; no matplotlib, because pages that hold many studies ask for them."""

import re
from collections.abc import Mapping
from typing import Any

from salsa.report.markup import one_line


def named(study: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the figures that have a value, by file name without suffix: each safe on any file system, and its own."""
    found: dict[str, Mapping[str, Any]] = {}
    for figure in study["figures"]:
        if not valued(figure):
            continue
        name = re.sub(r"[^\w-]+", "_", one_line(str(figure["name"]))).strip("_") or "figure"
        taken, number = {each.lower() for each in found}, 1
        unique = name
        while unique.lower() in taken:
            number += 1
            unique = f"{name}_{number}"
        found[unique] = figure
    return found


def valued(figure: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the points of a figure that have a place and a value."""
    points = (point for series in figure["series"] for point in series["points"])
    return [point for point in points if point["value"] is not None and point["x"] is not None]
