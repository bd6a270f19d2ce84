"""`salsa report`: one page over everything in an outputs folder. Imports nothing that takes long."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DONE, ERROR, MISUSED = 0, 1, 2
"""Exit codes."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the subparsers of `salsa`."""
    parser = subparsers.add_parser(
        "report",
        help="one HTML page over studies, experiments, samples and lineage",
        description="Writes one self-contained HTML page over everything in an outputs folder: verdicts of studies, "
        "tables and figures, curves of training, samples side by side, landscapes, and what each was made from. "
        "Works while runs go on; nothing of the store is changed.",
    )
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), metavar="DIR", help="default: outputs")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page (default: report.html in the outputs folder)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the page and print its path; return 0, 1 where there is nothing to report, 2 where there is no folder."""
    from salsa.report.compendium.folder import EmptyError, write

    if not args.outputs.is_dir():
        print(
            f"salsa report: --outputs {args.outputs}: there is no such folder; give the outputs.dir of the runs",
            file=sys.stderr,
        )
        return MISUSED
    try:
        with _bar() as advance:
            path = write(args.outputs, args.out, advance)
    except (OSError, EmptyError) as error:
        print(f"salsa report: {_reason(error)}", file=sys.stderr)
        return ERROR
    print(path)
    return DONE


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar on standard error where that is a terminal, and give what moves it on."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("reading", total=None)

        def advance(what: str, done: int, total: int) -> None:
            bars.update(task, description=what, completed=done, total=total)

        yield advance
