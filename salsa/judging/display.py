"""What `salsa judge` shows: a bar while it works, a few lines for people, one object for programs."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from salsa.judging.cost import Estimate
from salsa.judging.judgment import Outcome
from salsa.judging.verdict import Verdict
from salsa.report.markup import visible
from salsa.store.quantities import shown_duration

_REASONS = 5  # of failures that are shown
Watching = tuple[Callable[[Verdict], None], Callable[[str], None]]


def counted(count: int, noun: str) -> str:
    """Return a number with its noun in singular or plural."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def money(amount: float) -> str:
    """Return an amount with enough digits to tell small ones apart."""
    return f"{amount:.2f}" if amount >= 10 else f"{amount:.4f}"


def plain(text: str) -> str:
    """Return text of another's making as one line that no terminal obeys."""
    return " ".join(visible(text).split())


def show_plan(requests: int, before: int, estimate: Estimate) -> None:
    """Print what is to be asked, and about what it costs."""
    there = f", {before:,} of them answered before" if before else ""
    print(f"{counted(requests, 'request')}{there}; {estimate.requests:,} to ask")
    if not estimate.requests:
        return
    print(
        f"estimated from the length of the text (4 bytes a token): {estimate.tokens_in:,} tokens in, "
        f"{estimate.tokens_out:,} out"
    )
    if estimate.price is not None:
        most = "" if estimate.highest is None else f", {money(estimate.highest)} if every verdict is as long as it may"
        print(f"estimated cost {money(estimate.price)}{most or '; nothing limits the length of a verdict'}")
    sys.stdout.flush()


def show_outcome(outcome: Outcome, estimate: Estimate, out: Path, read: bool = True) -> None:
    """Print how many were sent, judged, unparsed and failed, what it cost, and (if `read`) how to read the result."""
    counts = outcome.counts
    line = ", ".join(f"{counts[name]:,} {name}" for name in ("sent", "judged", "unparsed", "failed"))
    left = f", {counts['left']:,} left" if counts["left"] else ""
    print(f"{line}{left} of {counted(outcome.requests, 'request')} ({outcome.before:,} answered before)")
    _show_errors(outcome)
    print(f"{counted(outcome.calls, 'call')} in {shown_duration(outcome.seconds)}{_cost(outcome, estimate)}")
    if outcome.stopped:
        print(f"stopped: {plain(outcome.stopped)}")
    if counts["left"] or counts["failed"]:
        print(f"the verdicts so far are in {out}; the same command asks for the rest")
    elif counts["judged"] and read:
        print(f"read it: salsa winrate --format verdicts {out}")
    if outcome.others:
        print(f"note: {out} also holds {counted(outcome.others, 'verdict')} on other questions, replies or prompts")


def outcome_json(outcome: Outcome, estimate: Estimate, out: Path) -> dict[str, Any]:
    """Return the same for programs."""
    return {
        "out": str(out),
        "requests": outcome.requests,
        "before": outcome.before,
        **outcome.counts,
        "others": outcome.others,
        "calls": outcome.calls,
        "cost": outcome.cost,
        "cost_guessed_for": outcome.guessed,
        "estimate": estimate_json(estimate),
        "stopped": outcome.stopped,
        "seconds": round(outcome.seconds, 3),
    }


def estimate_json(estimate: Estimate) -> dict[str, Any]:
    """Return an estimate for programs."""
    return {
        "requests": estimate.requests,
        "tokens_in": estimate.tokens_in,
        "tokens_out": estimate.tokens_out,
        "cost": estimate.price,
        "highest_cost": estimate.highest,
    }


@contextmanager
def bar(total: int, quiet: bool) -> Iterator[Watching]:
    """Show a bar of requests on standard error where that is a terminal, and give what moves it on.

    The first failures are said at once, each reason once, wherever standard error goes.
    """
    said: set[str] = set()

    def say(found: Verdict) -> None:
        if found.status == "failed" and found.error not in said and len(said) < _REASONS and not quiet:
            said.add(found.error)
            print(plain(f"failed: question {found.question}: {found.error}"), file=sys.stderr)

    if quiet or not sys.stderr.isatty():
        yield say, lambda text: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("judging"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    fields = (TextColumn("{task.fields[counts]}"), TextColumn("[dim]{task.fields[trouble]}[/]"))
    counts = {"unparsed": 0, "failed": 0}
    with Progress(*columns, *fields, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total, counts="", trouble="")

        def watch(found: Verdict) -> None:
            say(found)
            if found.status in counts:
                counts[found.status] += 1
            shown = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
            progress.update(task, advance=1, counts=shown)

        yield watch, lambda text: progress.update(task, trouble=escape(plain(text)[:60]))


def _cost(outcome: Outcome, estimate: Estimate) -> str:
    new = [found for found in outcome.verdicts if found.tokens_in is not None and found.tokens_out is not None]
    tokens = ""
    if new:
        read, written = (sum(getattr(found, name) or 0 for found in new) for name in ("tokens_in", "tokens_out"))
        tokens = f"; all verdicts together: {read:,} tokens in, {written:,} out"
    if outcome.cost is None:
        return f"{tokens}; no prices given, so no cost"
    before = f", estimated {money(estimate.price)}" if estimate.price is not None else ""
    guessed = f" ({outcome.guessed} of them estimated: the endpoint counted no tokens)" if outcome.guessed else ""
    return f"; cost {money(outcome.cost)}{before}{guessed}{tokens}"


def _show_errors(outcome: Outcome) -> None:
    """Print each reason for a failure once, with how often it came."""
    reasons: dict[str, int] = {}
    for found in outcome.verdicts:
        if found.status == "failed":
            reasons[found.error] = reasons.get(found.error, 0) + 1
    for reason, count in sorted(reasons.items(), key=lambda item: -item[1])[:_REASONS]:
        print(f"  failed, {count:,} times: {plain(reason)}")
