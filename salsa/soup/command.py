"""`salsa soup`: merging models on any Hugging Face checkpoints, for people who need nothing else of this project."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salsa.ending import answering
from salsa.soup.request import MERGES, RECIPES, UsageError, checked

if TYPE_CHECKING:
    from salsa.soup.merge import Made
    from salsa.soup.plan import Plan

FAILED, MISUSED = 1, 2
"""Exit codes: what was asked for went wrong, or cannot be asked for."""
_DESCRIPTION = """\
Merge models into a new model folder, which from_pretrained reads: full models, reward models, or LoRA adapters
(safetensors) that all come from one pre-trained model. Several numbers are separated by spaces or commas; where the
first one begins with a minus, write --weights=-.5,1.5 or --alpha=-.5.
"""
_EXAMPLES = """\
examples
  the mean of three models
    salsa soup sft_1 sft_2 sft_3 --out soup
  with a weight each; first see what would be done
    salsa soup sft_1 sft_2 --weights .7 .3 --out soup --dry-run
  the task vectors of two models on the arc between them (WARP), part of the way back to their base
    salsa soup sft_1 sft_2 --recipe liti --eta .3 --base owner/model@main --out soup
  the models that lower the loss on held-out conversations
    salsa soup sft_1 sft_2 sft_3 --recipe greedy --validation heldout.jsonl --out soup
  how far models are from their base, and in which directions
    salsa soup sft_1 sft_2 --geometry --base base
"""


def add_parser(subparsers: Any) -> None:
    """Add `soup` to the command line."""
    parser = subparsers.add_parser(
        "soup",
        help="average or merge models into a new one",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    text = "a model's folder, or its name on the hub (owner/model or owner/model@revision)"
    parser.add_argument("models", nargs="+", metavar="MODEL", help=text)
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder to make")
    _add_recipe(parser)
    _add_work(parser)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("recipe")
    text = "default: weighted with --weights, else uniform"
    group.add_argument("--recipe", choices=tuple(RECIPES), help=text)
    text = "weighted: the weight of each model; they sum to 1"
    group.add_argument("--weights", nargs="+", metavar="W", help=text)
    group.add_argument("--any-sum", action="store_const", const=True, help="weighted: take weights of any sum")
    text = "line: weight of the second of two models, beyond 0 and 1 extrapolation (default: .5)"
    group.add_argument("--alpha", metavar="A", help=text)
    text = "slerp, liti, task_arithmetic, --geometry: the model that all were trained from (adapters name theirs)"
    group.add_argument("--base", metavar="MODEL", help=text)
    text = "slerp, liti: place on the arc, 0 the first model, 1 the second (default: .5)"
    group.add_argument("--share", metavar="S", help=text)
    text = "liti: part of the way from the base to the merge (default: .3)"
    group.add_argument("--eta", metavar="E", help=text)
    group.add_argument("--merge", choices=MERGES, help="liti: how the models are merged (default: slerp)")
    text = "task_arithmetic: the factor of each task vector"
    group.add_argument("--scales", nargs="+", metavar="S", help=text)
    text = 'greedy: held-out rows, JSON lines with "messages" or "text"; the loss on them decides'
    group.add_argument("--validation", type=Path, metavar="FILE", help=text)


def _add_work(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("work")
    group.add_argument("--dry-run", action="store_true", help="check all that needs no weights, and show the plan")
    text = "show norms, cosines and distances of task vectors by layer; without --out nothing is made"
    group.add_argument("--geometry", action="store_true", help=text)
    group.add_argument("--force", action="store_true", help="replace the model in DIR, once the new one is whole")
    group.add_argument("--shard-size", metavar="SIZE", help="most bytes of one file, such as 4GB (default: 4GiB)")
    group.add_argument("--threads", type=int, metavar="N", help="default: one for each processor, at most 4")
    group.add_argument("--json", action="store_true", help="print JSON for programs, and nothing else")
    group.add_argument("--quiet", action="store_true", help="print nothing but errors and what --json asks for")


def run(args: argparse.Namespace) -> int:
    """Make a soup, or show what would be made; return 0, 1 for a failure, 2 for something that cannot be asked for."""
    try:
        request = checked(args)
        # From here on it takes a moment.
        from salsa.soup import display
        from salsa.soup.plan import planned

        begun = time.monotonic()
        with answering():
            plan = planned(request)
            made = None if request.dry_run else _make(plan, args)
        seconds = time.monotonic() - begun
        if args.json:
            json.dump(display.as_json(plan, made, seconds), sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
            sys.stdout.write("\n")
        elif not args.quiet:
            display.show(plan, made, seconds)
        return 0
    except UsageError as error:
        print(f"salsa soup: {error}", file=sys.stderr)
        return MISUSED
    except BrokenPipeError:
        raise  # no failure of the soup: whoever read the output has seen enough
    except _failures() as error:
        text = str(error)
        if isinstance(error, OSError) and error.filename and error.strerror:
            text = f"{error.filename}: {error.strerror}"
        print(f"salsa soup: {text}", file=sys.stderr)
        return FAILED


def _make(plan: "Plan", args: argparse.Namespace) -> "Made":
    from salsa.soup.display import Screen
    from salsa.soup.merge import make

    return make(plan, Screen(bars=not args.quiet, lines=not (args.quiet or args.json)))


def _failures() -> tuple[type[Exception], ...]:
    """Return the errors that are told in a line; imported where there is one."""
    from salsa.data.rows import DataError
    from salsa.models.source import UnavailableModelError
    from salsa.soup.checkpoint import SoupError
    from salsa.soup.draft import DraftError
    from salsa.soup.ingredients import IngredientError
    from salsa.soup.trials import TrialError

    return (OSError, SoupError, DraftError, IngredientError, UnavailableModelError, DataError, TrialError)
