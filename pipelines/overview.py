"""What `plan=true` and `why=` show: the stages of an experiment or a sweep, what they cost, why they would run."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from pipelines.configuration import ConfigurationError
from pipelines.expense import expenses
from pipelines.forecast import Outlook, State, disk_bytes, survey, unknown_kinds, wall_seconds, work_seconds
from pipelines.plan import Plan, Stage
from salsa.store.artifact import Store
from salsa.store.comparison import nearest
from salsa.store.quantities import shown_duration, shown_size

SHOWN_CHARACTERS = 60
"""Of a value that differs: longer ones are cut in the middle of a sentence."""


def show_plan(plan: Plan, store: Store, workers: int, console: Console) -> None:
    """Print each stage of one experiment, then what is left to do."""
    outlooks = survey(plan, store)
    table = Table("stage", "state", "usual time", "size", "fingerprint", box=None, header_style="bold")
    for each in outlooks:
        stored = each.state is State.stored
        table.add_row(
            escape(each.stage.name),
            f"{each.state.value}{f' ({escape(each.note)})' if each.note else ''}",
            "" if stored or each.seconds is None else shown_duration(each.seconds),
            "" if stored or each.size is None else shown_size(each.size),
            each.stage.fingerprint[:16],
        )
    console.print(table)
    console.print(_summary(outlooks, workers))
    show_expenses(plan, store, console)


def show_expenses(plan: Plan, store: Store, console: Console) -> None:
    """Print what judges will be asked for, and what that costs."""
    for expense in expenses(plan, store):
        console.print(escape(str(expense)), soft_wrap=True)


def show_sweep(plans: Sequence[Plan], store: Store, workers: int, console: Console) -> None:
    """Print the stages of all jobs together, each once, by kind; then what is left to do."""
    merged = Plan.merged(plans)
    outlooks = survey(merged, store)
    asked: dict[str, int] = {}
    for plan in plans:
        for stage in plan:
            asked[stage.kind] = asked.get(stage.kind, 0) + 1
    table = Table(box=None, header_style="bold")
    table.add_column("stage")
    for heading in ("asked for", "distinct", *(state.value for state in State), "work", "disk"):
        table.add_column(heading, justify="right")
    for kind in dict.fromkeys(stage.kind for stage in merged):
        of_kind = [each for each in outlooks if each.stage.kind == kind]
        counts = [sum(each.state is state for each in of_kind) for state in State]
        work, disk = work_seconds(of_kind), disk_bytes(of_kind)
        table.add_row(
            kind,
            str(asked[kind]),
            str(len(of_kind)),
            *(str(count) if count else "" for count in counts),
            shown_duration(work) if work else "",
            shown_size(disk) if disk else "",
        )
    console.print(table)
    for each in outlooks:
        if each.state in (State.running, State.failed):
            console.print(f"[dim]{each.state.value}:[/] {escape(each.stage.name)} {escape(each.note)}", soft_wrap=True)
    if len(plans) > 1:
        console.print(f"{len(plans)} jobs ask for {sum(asked.values())} stages, {len(merged)} of them distinct")
    console.print(_summary(outlooks, workers))
    show_expenses(merged, store, console)


def show_why(plan: Plan, store: Store, asked: str, console: Console) -> None:
    """Print, for each stage of that name, kind or fingerprint, how it differs from the nearest artifact there is.

    Raises ConfigurationError if the plan has no such stage.
    """
    stages = [
        stage for stage in plan if asked in (stage.name, stage.kind) or stage.fingerprint.startswith(asked.lower())
    ]
    if not stages:
        names = ", ".join(stage.name for stage in plan)
        raise ConfigurationError(f"why={asked}: no such stage; give a kind, a fingerprint or one of: {names}")
    for stage in stages:
        console.print(_explained(stage, plan, store))


def _explained(stage: Stage, plan: Plan, store: Store, seen: frozenset[str] = frozenset()) -> Tree:
    """Return a tree: the stage, what differs from the nearest artifact, and why the inputs that differ do."""
    title = f"[bold]{escape(stage.name)}[/] [dim]{stage.fingerprint[:16]}[/]"
    if store.find(stage.kind, stage.fingerprint) is not None:
        return Tree(f"{title}: in the store")
    found = nearest(store.artifacts(stage.kind), stage.config, stage.inputs)
    if found is None:
        return Tree(f"{title}: to run; no {stage.kind} has been made yet")
    artifact, differences = found
    tree = Tree(f"{title}: to run; the nearest artifact, {artifact.fingerprint[:16]}, differs in")
    if not differences:
        tree.add(f"version: {artifact.manifest.get('version')} there")
    for difference in differences:
        branch = tree.add(
            f"[yellow]{escape(difference.key)}[/]: {_shown(difference.ours)} here, {_shown(difference.theirs)} there"
        )
        role = difference.key.removeprefix("inputs.")
        identity = stage.inputs.get(role) if role != difference.key else None
        if identity is not None and identity not in seen:
            seen |= {identity}
            branch.add(_explained(plan[identity], plan, store, seen))
    return tree


def _summary(outlooks: Sequence[Outlook], workers: int) -> str:
    counts = {state: sum(each.state is state for each in outlooks) for state in State}
    text = ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
    if counts[State.stored] == len(outlooks):
        return text
    work, wall = work_seconds(outlooks), wall_seconds(outlooks, workers)
    known = f"about {shown_duration(work)} of work, {shown_duration(wall)} with {workers} worker{'s' * (workers != 1)}"
    text += f"; {known}, {shown_size(disk_bytes(outlooks))} of disk" if work else ""
    unknown = unknown_kinds(outlooks)
    return text + (f"; nothing is known yet of the time of: {', '.join(unknown)}" if unknown else "")


def _shown(value: Any) -> str:
    text = str(value)
    return escape(text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}...")
