"""The console script `salsa`, for people who need one piece of it only; imports no torch by itself."""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any, Protocol

COMMANDS = {
    "dashboard": "salsa.dashboard.command",
    "judge": "salsa.judging.command",
    "judge-agreement": "salsa.judging.agreement_command",
    "report": "salsa.report.compendium.command",
    "soup": "salsa.soup.command",
    "store": "salsa.store.command",
    "sweep": "salsa.report.sweep.command",
    "winrate": "salsa.evaluation.winrate.command",
}
"""Each command and the module that knows it. All are imported for `--help`: they import what takes long in `run`."""


class Command(Protocol):
    """What the module of a command offers."""

    def add_parser(self, subparsers: Any) -> None:
        """Add the command's parser to argparse's subparsers."""

    def run(self, args: argparse.Namespace) -> int:
        """Carry the command out and return the exit code: 0, 1 for a failure, 2 for wrong usage."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `salsa` with these arguments (the command line's, if None) and return the exit code."""
    parser = argparse.ArgumentParser(prog="salsa", description="Single pieces of salsa; experiments run with run.py.")
    parser.add_argument("--version", action="version", version=f"salsa {_version()}")
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    commands: dict[str, Any] = {name: importlib.import_module(module) for name, module in COMMANDS.items()}
    for module in commands.values():
        module.add_parser(subparsers)
    args = parser.parse_args(argv)
    command: Command = commands[args.command]
    try:
        code = command.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python would complain once more when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1  # as rich does


def _version() -> str:
    try:
        return metadata.version("salsa")
    except metadata.PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
