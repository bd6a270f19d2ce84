"""`salsa store`: looking at a store, checking it and tidying it. Imports nothing that takes long."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from salsa.store import format as store_format
from salsa.store.artifact import Store
from salsa.store.export import ExportError
from salsa.store.garbage import GarbageError
from salsa.store.manifest import ManifestError
from salsa.store.quantities import parsed_duration
from salsa.store.removal import RemovalError
from salsa.store.selection import SelectionError

SORT_NAMES = ("kind", "age", "size")
FAILED, MISUSED = 1, 2
"""Exit codes: what was asked for went wrong, or cannot be asked for."""
_FAILURES = (OSError, ManifestError, RemovalError, GarbageError, ExportError)


def add_parser(subparsers: Any) -> None:
    """Add `store` and its actions to the command line."""
    text = "Look at the artifacts in a store, check them, and remove what is not needed."
    parser = subparsers.add_parser("store", help="artifacts: list, show, verify, remove, gc, export", description=text)
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    for add in (_add_list, _add_show, _add_verify, _add_remove, _add_gc, _add_export):
        added = add(actions)
        added.add_argument("--outputs", type=Path, default=Path("outputs"), metavar="DIR", help="default: outputs")
        added.add_argument("--json", action="store_true", help="print JSON for programs, and nothing else")


def run(args: argparse.Namespace) -> int:
    """Carry out an action and return the exit code: 0, 1 for a failure, 2 for something that cannot be asked for."""
    try:
        if not args.outputs.is_dir():
            raise SelectionError(f"--outputs {args.outputs}: there is no such folder; give the outputs.dir of the runs")
        store = Store(args.outputs)
        store_format.check(store.root)
        result: int = args.act(args, store)
        return result
    except SelectionError as error:
        return _give_up(args, error, MISUSED)
    except BrokenPipeError:
        raise  # no failure of the store: whoever read the output has seen enough
    except _FAILURES as error:
        return _give_up(args, error, FAILED)


def emit(value: Any) -> None:
    """Print a value as JSON."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def _give_up(args: argparse.Namespace, error: Exception, code: int) -> int:
    text = str(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    print(f"salsa store {args.action}: {text}", file=sys.stderr)
    return code


def _duration(text: str) -> float:
    try:
        return parsed_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _parser(actions: Any, name: str, text: str, act: str) -> argparse.ArgumentParser:
    """Return the parser of an action; `act` names its function in `salsa.store.actions`, imported when it runs."""

    def later(args: argparse.Namespace, store: Store) -> int:
        from salsa.store import actions as functions

        result: int = getattr(functions, act)(args, store)
        return result

    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(act=later)
    return parser


def _add_list(actions: Any) -> argparse.ArgumentParser:
    parser = _parser(actions, "list", "list artifacts with their age, size and seconds of work", "show_list")
    parser.add_argument("--kind", help="of this kind only: base, sft, align, ...")
    parser.add_argument("--model", metavar="FAMILY", help="of this model family only: llama2, mistral, gemma")
    parser.add_argument("--older-than", type=_duration, metavar="AGE", help="published longer ago than 30d, 12h, ...")
    text = "kind (default): by kind and name; age: oldest first; size: largest first"
    parser.add_argument("--sort", choices=SORT_NAMES, default="kind", help=text)
    return parser


def _add_show(actions: Any) -> argparse.ArgumentParser:
    text = "show an artifact's manifest, what it was made from and what was made from it"
    parser = _parser(actions, "show", text, "show_one")
    parser.add_argument("prefix", metavar="FINGERPRINT", help="the beginning of a fingerprint")
    return parser


def _add_verify(actions: Any) -> argparse.ArgumentParser:
    text = "compare artifacts with the digests in their manifests; exit code 1 if one is damaged"
    parser = _parser(actions, "verify", text, "verify")
    parser.add_argument("prefixes", nargs="*", metavar="FINGERPRINT", help="beginnings of fingerprints (default: all)")
    text = "move what is damaged to broken/, so that the next run computes it again; nothing is deleted"
    parser.add_argument("--set-aside", action="store_true", help=text)
    return parser


def _add_remove(actions: Any) -> argparse.ArgumentParser:
    text = "remove artifacts that no other one was made from; shows what would go unless --yes is given"
    parser = _parser(actions, "remove", text, "remove")
    parser.add_argument("prefixes", nargs="+", metavar="FINGERPRINT", help="beginnings of fingerprints")
    parser.add_argument("--with-dependents", action="store_true", help="also remove everything made from them")
    parser.add_argument("--yes", action="store_true", help="remove; without it nothing is changed")
    return parser


def _add_gc(actions: Any) -> argparse.ArgumentParser:
    text = "remove what no kept result needs, and leftovers of killed runs; shows what would go unless --yes is given"
    parser = _parser(actions, "gc", text, "collect_garbage")
    parser.description = (
        f"{text[0].upper()}{text[1:]}. Kept results are those whose folder in experiments/ or landscapes/ is there: "
        "delete that folder to give a result up. What unfinished stages read is kept, too."
    )
    help_ = "the beginning of another artifact's fingerprint to keep, with what it needs; may be given more than once"
    parser.add_argument("--keep", action="append", default=[], metavar="FINGERPRINT", help=help_)
    help_ = "keep what was published less than 7d, 12h, ... ago, with what it needs"
    parser.add_argument("--keep-newer-than", type=_duration, metavar="AGE", help=help_)
    help_ = "also remove checkpoints of unfinished stages that nobody has touched for 7d, ... (default: none)"
    parser.add_argument("--unfinished-older-than", type=_duration, metavar="AGE", help=help_)
    parser.add_argument("--yes", action="store_true", help="remove; without it nothing is changed")
    return parser


def _add_export(actions: Any) -> argparse.ArgumentParser:
    text = "copy an artifact's model (weights, configuration, tokenizer) to a new folder that from_pretrained reads"
    parser = _parser(actions, "export", text, "export")
    parser.add_argument("prefix", metavar="FINGERPRINT", help="the beginning of a fingerprint")
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new or empty folder")
    parser.add_argument("--with-manifest", action="store_true", help="put manifest.json beside the model")
    return parser
