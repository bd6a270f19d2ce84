"""`salsa dashboard`: the project's workspace on Weights & Biases, made by a command rather than by hand."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from salsa.dashboard.layout import LAYOUT
from salsa.dashboard.panels import Cloud, Family, Layout, Lines, Panel, Table, specification

if TYPE_CHECKING:
    from rich.tree import Tree

DONE, ERROR = 0, 1
"""Exit codes."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the subparsers of `salsa`."""
    parser = subparsers.add_parser(
        "dashboard",
        help="make the project's workspace on Weights & Biases",
        description="Saves a new workspace in a project on W&B: reward, gold, KL, replies, losses, win rates, tables "
        "and samples, by sweep or study, kind of stage and arm. It needs `wandb login` and pip install "
        "'salsa[dashboard]'; with --dry-run or --json neither, and nothing is sent.",
    )
    parser.add_argument("--project", default="salsa", help="the project, logger.project of the runs (default: salsa)")
    parser.add_argument("--entity", metavar="NAME", help="user or team that owns it (default: that of the login)")
    parser.add_argument("--dry-run", action="store_true", help="show sections, panels and keys; send nothing")
    parser.add_argument("--json", action="store_true", help="print the specification as JSON; send nothing")


def run(args: argparse.Namespace) -> int:
    """Show the layout or save it as a workspace; return 0, or 1 with a sentence on stderr if it cannot be saved."""
    if args.json:
        print(json.dumps(specification(LAYOUT), indent=1, ensure_ascii=False))
        return DONE
    if args.dry_run:
        _show(LAYOUT)
        return DONE
    from salsa.dashboard.workspace import DashboardError, save

    try:
        address = save(LAYOUT, args.project, args.entity)
    except DashboardError as error:
        print(f"error {error}", file=sys.stderr)
        return ERROR
    print(f"workspace: {address}")
    return DONE


def _show(layout: Layout) -> None:
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(_tree(layout))


def _tree(layout: Layout) -> "Tree":
    from rich.markup import escape
    from rich.tree import Tree

    tree = Tree(f"[bold]{escape(layout.title)}[/], runs grouped by {', '.join(layout.grouping)}")
    for section in layout.sections:
        branch = tree.add(f"[bold]{escape(section.title)}[/]" + ("" if section.shown else " (closed)"))
        for panel in section.panels:
            branch.add(f"{escape(panel.title)} [dim]{escape(_told(panel))}[/]")
    return tree


def _told(panel: Panel) -> str:
    """Return the keys of a panel and the units of its axes."""
    if isinstance(panel, Lines):
        return f"{', '.join(panel.keys)} [{panel.unit}] over {panel.over.key}"
    if isinstance(panel, Family):
        return f"{panel.prefix}<model> [{panel.unit}] over {panel.over.key}"
    if isinstance(panel, Cloud):
        return f"{panel.y.key} [{panel.y.label}] against {panel.x.key} [{panel.x.label}]"
    if isinstance(panel, Table):
        return f"table {panel.key}"
    unit = getattr(panel, "unit", None)
    return ", ".join(panel.keys) + (f" [{unit}]" if unit else "")
