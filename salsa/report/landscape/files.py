"""The files of a landscape, and how `landscape.json` is read again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from salsa.report.landscape import page, records
from salsa.report.landscape.summary import SCHEMA

NAME = "landscape.json"


def write_all(landscape: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write landscape.json, landscape.md and line.csv, and plane.csv and layers.csv where there is data for them.

    The folder must exist. Figures are written by `figures.write_all`, so that a reader of numbers needs no matplotlib.
    """
    texts = {
        NAME: json.dumps(landscape, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "landscape.md": page.markdown(landscape),
        "line.csv": records.line_csv(landscape),
    }
    if landscape["plane"]:
        texts["plane.csv"] = records.plane_csv(landscape)
    if landscape["geometry"]:
        texts["layers.csv"] = records.layers_csv(landscape)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return [folder / name for name in texts]


def read(path: Path) -> dict[str, Any]:
    """Read a landscape. Raises ValueError naming the file if it is not one, or is of another schema version."""
    try:
        landscape = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}); delete it and run the landscape again") from error
    found = landscape.get("schema") if isinstance(landscape, dict) else None
    if found != SCHEMA:
        raise ValueError(f"{path}: schema is {found!r}, this version reads {SCHEMA}; run the landscape again")
    return landscape
