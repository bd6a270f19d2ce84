"""The folder of a sweep: what it is made of, written when it starts, and its tables and figures, made at any time."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from salsa.report import combined
from salsa.report.sweep import summary, table
from salsa.report.sweep.cells import Cell, distinct, numeric, shown
from salsa.report.sweep.outcome import Outcomes
from salsa.store.artifact import Store
from salsa.store.lock import this_process

RECORD = "sweep.json"
FOLDERS = "sweeps"
"""Where sweeps have their folders, under the outputs."""
_FORM = 1


def begin(
    folder: Path,
    title: str,
    cells: Sequence[Cell],
    outputs: Path,
    stages: Mapping[str, Mapping[str, Any]],
    command: Sequence[str] = (),
) -> None:
    """Write down what a sweep is made of, so that it can be collected while it runs and after it was killed.

    `stages` maps the fingerprint of each stage of any cell to its `kind`, `name` and `inputs` (fingerprints): with it
    the reason of a missing report is found where it lies, in a stage before it.
    """
    record = {
        "title": title,
        "command": list(command),
        "started": time.time(),
        "outputs": os.path.relpath(outputs, folder),
    }
    _write_record(folder, record | {"stages": dict(stages)}, cells)


def load(folder: Path) -> list[Cell]:
    """Return the cells of a sweep as they are now, whether it is finished or not.

    An experiment is held without its curves and samples, which no table of a sweep shows. Raises FileNotFoundError
    where the folder is no sweep's, and ValueError where its `sweep.json` is malformed.
    """
    record = read(folder)
    if record["outputs"] is None:
        raise ValueError(f"{folder / RECORD}: outputs is null, so its results cannot be looked up; run the sweep again")
    outcomes = Outcomes(Store((folder / record["outputs"]).resolve()), record["stages"])
    return [
        Cell(
            job=entry["job"],
            keys=entry["keys"],
            fingerprint=entry["fingerprint"],
            overrides=tuple(entry["overrides"]),
            **outcomes.of(entry["fingerprint"]),
        )
        for entry in record["cells"]
    ]


def read(folder: Path) -> dict[str, Any]:
    """Return what `begin` wrote; raises FileNotFoundError or ValueError as `load` does."""
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["form"] != _FORM:
            raise ValueError(f"form is {record['form']!r}, this version reads {_FORM}")
        known = {"title": record["title"], "command": record["command"], "started": record["started"]}
        known |= {"outputs": record["outputs"], "stages": dict(record["stages"])}
        entries = [
            {name: entry[name] for name in ("job", "keys", "fingerprint", "overrides")} for entry in record["cells"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"{path} is not the record of a sweep ({reason}); run the sweep again to write it anew"
        ) from error
    return known | {"cells": entries}


def newest(outputs: Path) -> Path:
    """Return the folder of the sweep that was started last; raises FileNotFoundError if there is none."""
    folders = sorted(path.parent for path in (outputs / FOLDERS).glob(f"*/{RECORD}"))
    if not folders:
        raise FileNotFoundError(
            f"no sweep under {outputs / FOLDERS}; `python run.py -m` makes one, --outputs names another place"
        )
    return max(folders, key=lambda folder: read(folder)["started"])


def write(cells: Sequence[Cell], folder: Path, title: str) -> list[Path]:
    """Write the tables and figures of a sweep and return their paths; equal cells give equal bytes.

    `table` has a row an experiment (.md) or one for each of its suites (.csv, .parquet), `models` a row a model of each
    experiment, `over_<key>` is the figure over a swept key. Each file is replaced in one step, so that processes of the
    same sweep may write the same folder.
    """
    known = (
        read(folder) if (folder / RECORD).is_file() else {"command": [], "started": 0.0, "outputs": None, "stages": {}}
    )
    _write_record(folder, {**known, "title": title}, cells)
    figures = dict(_figures(cells))
    pictures = [name for name in figures if name.endswith(".svg")]
    files = {
        "table.md": summary.markdown(cells, title, pictures).encode(),
        "table.csv": table.to_csv(cells).encode(),
        "table.parquet": table.to_parquet(cells, title),
        **figures,
    }
    experiments = [
        {**cell.experiment, "overrides": [f"{key}={shown(value)}" for key, value in cell.keys.items()]}
        for cell, _ in distinct(cells)
        if cell.experiment is not None
    ]
    if experiments:
        files["models.md"] = combined.markdown(experiments).encode()
        files["models.csv"] = combined.to_csv(experiments).encode()
    for name, data in files.items():
        _replace(folder / name, data)
    return [folder / RECORD, *(folder / name for name in files)]


def _figures(cells: Sequence[Cell]) -> Iterator[tuple[str, bytes]]:
    keys = numeric(cells)
    if not keys:
        return
    # Imported here: drawing is not needed to look at a sweep.
    from salsa.report.figures import to_png, to_svg
    from salsa.report.sweep.figures import over

    for key in keys:
        figure = over(cells, key)
        if figure is not None:
            name = "over_" + "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in key)
            yield f"{name}.png", to_png(figure)
            yield f"{name}.svg", to_svg(figure).encode()


def _write_record(folder: Path, record: Mapping[str, Any], cells: Sequence[Cell]) -> None:
    names = ("job", "keys", "overrides", "fingerprint", "state", "reason")
    entries = [{name: getattr(cell, name) for name in names} for cell in cells]
    text = json.dumps({"form": _FORM, **record, "cells": entries}, indent=1, ensure_ascii=False, default=dict)
    _replace(folder / RECORD, f"{text}\n".encode())


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that whoever reads it finds all of the old bytes or all of the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    process = this_process()
    draft = path.with_name(f".{path.name}-{process['host']}-{process['pid']}-{os.urandom(4).hex()}")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
