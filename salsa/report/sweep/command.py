"""`salsa sweep`: the table of a sweep, finished or not, collected from the store."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COMPLETE, ERROR, INCOMPLETE = 0, 1, 3
"""Exit codes."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the subparsers of `salsa`."""
    parser = subparsers.add_parser(
        "sweep",
        help="collect a sweep into one table, also while it runs",
        description="Collects a sweep (python run.py -m ...) from the store: prints its table, and writes tables and "
        "figures into its folder. Ends with 0 if every cell has a result, with 3 if some are missing.",
    )
    parser.add_argument("folder", nargs="?", type=Path, help="the sweep's folder (default: of the sweep started last)")
    parser.add_argument(
        "--outputs", type=Path, default=Path("outputs"), help="where sweeps are looked for (default: outputs)"
    )
    parser.add_argument("--json", action="store_true", help="print the tidy table as JSON instead")


def run(args: argparse.Namespace) -> int:
    """Collect a sweep, show it and write its tables; return 0 if it is complete, 3 if cells are missing, else 1."""
    from salsa.report.sweep import folder as sweeps

    try:
        place = args.folder or sweeps.newest(args.outputs)
        if not (place / sweeps.RECORD).is_file():
            raise FileNotFoundError(f"{place} has no {sweeps.RECORD}: it is not the folder of a sweep")
        title = sweeps.read(place)["title"]
        cells = sweeps.load(place)
    except (OSError, ValueError) as error:
        print(f"error {error}", file=sys.stderr)
        return ERROR
    try:
        sweeps.write(cells, place, title)
        written = True
    except OSError as error:
        # A sweep of somebody else can still be looked at.
        print(f"warning: the tables could not be written: {error}", file=sys.stderr)
        written = False
    if args.json:
        print(_as_json(cells, place, title))
    else:
        _show(cells, place, title, written)
    return COMPLETE if all(cell.state == "done" for cell in cells) else INCOMPLETE


def _as_json(cells: Sequence[Any], place: Path, title: str) -> str:
    from salsa.report.sweep.table import rows

    names = ("job", "keys", "fingerprint", "state", "reason")
    listed = [{name: getattr(cell, name) for name in names} for cell in cells]
    complete = all(cell.state == "done" for cell in cells)
    result = {"title": title, "folder": str(place), "complete": complete, "cells": listed, "rows": rows(cells)}
    return json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)


def _show(cells: Sequence[Any], place: Path, title: str, written: bool) -> None:
    from rich.console import Console
    from rich.markup import escape

    from salsa.report.sweep.summary import terminal

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(f"[bold]{escape(title)}[/]")
    console.print(terminal(cells))
    if written:
        console.print(f"tables and figures: [bold]{escape(str(place))}[/]", soft_wrap=True)
