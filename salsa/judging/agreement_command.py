"""`salsa judge-agreement`: how well a judge agrees with people, before its verdicts are believed."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salsa.judging.arguments import UsageError, add_judge, add_output
from salsa.judging.asking import asked, carried_out, print_json
from salsa.report.markup import visible

if TYPE_CHECKING:
    from salsa.judging.agreement import Agreement, Share

_DESCRIPTION = """\
Ask a judge about pairs of replies of which people have said which one is better, in both orders, and measure how
often it agrees with them and with itself. Pairs are in LLMBar's form: instruction (or input), output_1, output_2 and
label (1 or 2), as JSON or JSON lines.
"""
_ROWS = {
    "first_order": "right, output_1 shown first",
    "second_order": "right, output_2 shown first",
    "both_orders": "right, all verdicts",
    "both_right": "right in both orders",
    "consistent": "the same in both orders",
    "shown_first": "the one shown first wins",
}


def add_parser(subparsers: Any) -> None:
    """Add `judge-agreement` to the command line."""
    parser = subparsers.add_parser(
        "judge-agreement",
        help="measure a judge on pairs with a gold label",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    text = "labelled pairs; each file is a row of its own"
    parser.add_argument("--pairs", nargs="+", type=Path, required=True, metavar="FILE", help=text)
    add_judge(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; return 0, 1 if a verdict is missing at the end, 2 for something that cannot be asked for."""
    return carried_out("salsa judge-agreement", lambda: _measure(args))


def _measure(args: argparse.Namespace) -> int:
    from salsa.judging import agreement, options
    from salsa.judging.matches import Asked, pairs

    name, judge, settings = options.judge(args)
    how = Asked(name, options.prompts(args), settings)
    files = {labelled.questions.suite: labelled for labelled in map(agreement.read, args.pairs)}
    if len(files) < len(args.pairs):
        raise UsageError("--pairs names two files of the same name, and their rows could not be told apart")
    requests = {
        suite: pairs(labelled.questions, labelled.first, labelled.second, how) for suite, labelled in files.items()
    }
    outcome = asked(args, [request for each in requests.values() for request in each], judge, report=False)
    if outcome is None:
        return 0
    verdicts = {found.key: found for found in outcome.verdicts}
    measured = {
        suite: agreement.measure(
            files[suite].labels, [verdicts[request.key] for request in each if request.key in verdicts]
        )
        for suite, each in requests.items()
    }
    if args.json:
        print_json(
            {"judge": name, "complete": outcome.complete, "calls": outcome.calls, "cost": outcome.cost}
            | {"suites": {suite: asdict(found) for suite, found in measured.items()}}
        )
    elif not args.quiet:
        _show(name, measured)
    return 0 if outcome.complete else 1


def _show(judge: str, measured: "Mapping[str, Agreement]") -> None:
    from rich.markup import escape
    from rich.table import Table

    from salsa.store.display import console

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(f"{escape(visible(judge))}, % and interval of 95 %")
    for suite in measured:
        table.add_column(escape(visible(suite)), justify="right")
    for row, text in _ROWS.items():
        table.add_row(text, *(_cell(getattr(found, row)) for found in measured.values()))
    table.add_row("ties, which are never right", *(str(found.ties) for found in measured.values()))
    for count in ("sent", "judged", "unparsed", "failed"):
        table.add_row(count, *(str(getattr(found, count)) for found in measured.values()))
    console().print(table)


def _cell(share: "Share") -> str:
    if share.value is None or share.low is None or share.high is None:
        return "-"
    return f"{100 * share.value:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f}), {share.hits} of {share.n}"
