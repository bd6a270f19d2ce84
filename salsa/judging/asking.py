"""How a command asks a judge: the plan, the bar, the outcome, and the errors that are told in a line."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from salsa.ending import answering
from salsa.judging.arguments import UsageError
from salsa.report.markup import visible

if TYPE_CHECKING:
    from salsa.judging.endpoint import Endpoint
    from salsa.judging.functions import Function
    from salsa.judging.judgment import Outcome
    from salsa.judging.request import Request

FAILED, MISUSED = 1, 2
"""Exit codes: what was asked for is not complete, or cannot be asked for."""


def carried_out(name: str, work: Callable[[], int]) -> int:
    """Do the work of a command and return its exit code, telling what people can mend in a line."""
    try:
        with answering():
            return work()
    except UsageError as error:
        print(f"{name}: {visible(str(error))}", file=sys.stderr)
        return MISUSED
    except BrokenPipeError:
        raise  # no failure of the judge: whoever read the output has seen enough
    except _failures() as error:
        text = str(error)
        if isinstance(error, OSError) and error.filename and error.strerror:
            text = f"{error.filename}: {error.strerror}"
        print(f"{name}: {visible(text)}", file=sys.stderr)
        return FAILED


def asked(
    args: argparse.Namespace, requests: "Sequence[Request]", judge: "Endpoint | Function", report: bool = True
) -> "Outcome | None":
    """Show the plan, ask, show the outcome and return it; None for a dry run.

    With `report` the outcome is all that there is to show: as JSON where that is asked for, or with how to read it.

    Raises:
        UsageError: for options that do not make sense.
        JudgeError, LogError, OSError, VerdictError: as judging does.
    """
    from salsa.judging import display, options
    from salsa.judging.cost import estimate
    from salsa.judging.judgment import distinct, waiting
    from salsa.judging.judgment import judge as ask
    from salsa.judging.log import VerdictLog, known

    limits, spending = options.limits(args), options.spending(args)
    longest = options.longest(args, judge)
    if args.dry_run:
        before = known(args.out) if args.out is not None else {}
        left = waiting(requests, before, args.ask_again)
        guess = estimate(distinct(left, before, args.ask_again), longest, spending.prices)
        _show_plan(args, requests, left, guess, whole=True)
        return None
    if args.out is None:
        raise UsageError("--out is missing: name the file that verdicts go to")
    with VerdictLog(args.out) as log:
        left = waiting(requests, log.verdicts, args.ask_again)
        guess = estimate(distinct(left, log.verdicts, args.ask_again), longest, spending.prices)
        _show_plan(args, requests, left, guess)
        with display.bar(len(left), args.quiet) as (watch, troubled):
            outcome = ask(requests, judge, log, limits, spending, watch, troubled, args.ask_again)
    if args.json and report:
        print_json(display.outcome_json(outcome, guess, args.out))
    elif not args.quiet and not args.json:
        display.show_outcome(outcome, guess, args.out, read=report)
    if outcome.stopped and (args.quiet or args.json):
        print(f"stopped: {display.plain(outcome.stopped)}", file=sys.stderr)
    return outcome


def print_json(value: dict[str, Any]) -> None:
    """Print an object for programs."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def _show_plan(
    args: argparse.Namespace,
    requests: "Sequence[Request]",
    left: "Sequence[Request]",
    guess: Any,
    whole: bool = False,
) -> None:
    from salsa.judging import display

    count = len({request.key for request in requests})
    if args.json and whole:
        before = count - len(left)
        print_json({"dry_run": True, "requests": count, "before": before, "estimate": display.estimate_json(guess)})
    elif not args.json and not args.quiet:
        display.show_plan(count, count - len(left), guess)


def _failures() -> tuple[type[Exception], ...]:
    """Return the errors that are told in a line; imported where there is one."""
    from salsa.data.rows import DataError
    from salsa.judging.client import JudgeError
    from salsa.judging.log import LogError
    from salsa.judging.prompts import PromptError
    from salsa.judging.verdict import VerdictError

    return (OSError, DataError, JudgeError, LogError, PromptError, VerdictError)
