"""What `salsa store` prints for people."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from salsa.store.artifact import Artifact
from salsa.store.comparison import leaves
from salsa.store.garbage import Garbage, warnings
from salsa.store.inspection import Finding
from salsa.store.leftovers import Leftover
from salsa.store.lineage import Lineage
from salsa.store.listing import Row, total
from salsa.store.quantities import shown_duration, shown_size
from salsa.store.selection import SHORT, title
from salsa.store.verification import Advance

PIPE_COLUMNS = 200
"""Where the output goes to a file or a program there is no terminal's width, and nothing should be cut."""


def console() -> Console:
    """Return a console on standard output."""
    return Console(
        highlight=False, soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else PIPE_COLUMNS
    )


@contextmanager
def progress(what: str, total_bytes: int) -> Iterator[Advance]:
    """Show a bar of bytes on standard error where that is a terminal, and give what moves it on."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    target = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=target, transient=True, disable=not target.is_terminal) as bars:
        task = bars.add_task(what, total=total_bytes)
        yield lambda count: bars.advance(task, count)


def show_rows(rows: Sequence[Row], out: Console) -> None:
    """Print the table of artifacts, and what they are together."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("kind", "name", "model"):
        table.add_column(heading, overflow="fold")
    for heading in ("age", "size", "work"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("fingerprint", no_wrap=True)
    now = time.time()
    for row in rows:
        table.add_row(
            escape(row.kind),
            escape(row.name or "") if row.readable else "[red](its manifest is unreadable)[/]",
            escape(row.model or ""),
            "" if row.published is None else shown_duration(max(0.0, now - row.published)),
            "" if row.bytes is None else shown_size(row.bytes),
            "" if row.seconds is None else shown_duration(row.seconds),
            row.fingerprint[:SHORT],
        )
    if rows:
        out.print(table)
    size, seconds = total(rows)
    out.print(f"{counted(len(rows), 'artifact')}, {shown_size(size)}, {shown_duration(seconds)} of work")


def show_manifest(artifact: Artifact, out: Console) -> None:
    """Print what an artifact's manifest says, in the order in which people ask for it."""
    manifest = artifact.manifest
    out.print(f"[bold]{escape(title(artifact))}[/] {artifact.fingerprint}")
    if manifest.get("says"):
        out.print(escape(str(manifest["says"])))
    out.print(f"[dim]{escape(str(artifact.path))}[/]")
    facts = {
        "published": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(artifact.published)),
        "work": f"{_seconds(manifest.get('seconds'))}, {_seconds(manifest.get('cpu_seconds'))} of CPU",
        "memory": _memory(manifest.get("worker_peak_memory_mib")),
        "version": str(manifest.get("version", "")),
    }
    _show_pairs("", [(key, value) for key, value in facts.items() if value], out)
    for heading in ("metrics", "config", "made_by"):
        _show_pairs(heading, [(key, _figure(value)) for key, value in leaves(manifest.get(heading) or {}) if key], out)
    _show_pairs("files", [(name, shown_size(entry["bytes"])) for name, entry in manifest["files"].items()], out)


def lineage_tree(lineage: Lineage, fingerprint: str) -> Tree:
    """Return the tree of what an artifact was made from; what was shown above is not unfolded again."""
    seen: set[str] = set()

    def grow(tree: Tree, identity: str) -> None:
        seen.add(identity)
        for role, other in lineage.inputs(identity).items():
            label = f"[dim]{escape(role)}:[/] "
            artifact = lineage.artifacts.get(other)
            if artifact is None:
                tree.add(f"{label}[red]{other[:SHORT]} is not in the store[/]")
            elif other in seen:
                tree.add(
                    f"{label}{_short(artifact)} [dim](above)[/]" if lineage.inputs(other) else label + _short(artifact)
                )
            else:
                grow(tree.add(label + _short(artifact)), other)

    root = Tree(_short(lineage.artifacts[fingerprint]))
    grow(root, fingerprint)
    return root


def show_dependents(lineage: Lineage, fingerprint: str, out: Console) -> None:
    """Print which artifacts were made from this one."""
    dependents = [lineage.artifacts[identity] for identity in lineage.dependents(fingerprint)]
    out.print("[bold]made from it[/]" if dependents else "nothing was made from it")
    for artifact in dependents:
        out.print(f"  {_short(artifact)}")


def show_finding(finding: Finding, place: str | None, out: Console) -> None:
    """Print what is wrong with an artifact, and where it was moved; nothing if nothing is wrong."""
    name = _short(finding.artifact)
    if finding.unjudged is not None:
        out.print(f"[yellow]unknown[/] {name}: {escape(finding.unjudged)}")
    if finding.damaged:
        out.print(f"[bold red]damaged[/] {name}: {escape(', '.join(finding.damaged))}")
    if place is not None:
        out.print(f"  {escape(place)}")
    if finding.extra:
        out.print(f"[dim]more than was published in {name}: {escape(', '.join(finding.extra))}[/]")


def show_removal(artifacts: Iterable[Artifact], sizes: dict[str, int], out: Console) -> None:
    """Print which artifacts go."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for artifact in artifacts:
        size = sizes.get(artifact.fingerprint)
        table.add_row(escape(title(artifact)), artifact.fingerprint[:SHORT], "" if size is None else shown_size(size))
    if table.row_count:
        out.print(table)


def show_garbage(garbage: Garbage, sizes: dict[str, int], out: Console) -> None:
    """Print what goes, what stays and what to know before."""
    show_removal(garbage.removed, sizes, out)
    show_leftovers(garbage.leftovers, out)
    for warning in warnings(garbage):
        out.print(f"[yellow]note[/] {escape(warning)}")
    out.print(
        f"kept: {counted(len(garbage.roots), 'result')}, {counted(len(garbage.kept), 'artifact')} with what they need"
    )


def show_leftovers(leftovers: Iterable[Leftover], out: Console) -> None:
    """Print each leftover with its size."""
    for leftover in leftovers:
        out.print(f"{escape(leftover.what)}: {escape(str(leftover.path))}, {shown_size(leftover.bytes)}")


def counted(count: int, noun: str) -> str:
    """Return a number with its noun in singular or plural."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _short(artifact: Artifact) -> str:
    return f"{escape(title(artifact))} [cyan]{artifact.fingerprint[:SHORT]}[/]"


def _show_pairs(heading: str, pairs: Sequence[tuple[str, str]], out: Console) -> None:
    if not pairs:
        return
    if heading:
        out.print(f"[bold]{heading}[/]")
    table = Table(box=None, show_header=False)
    for key, value in pairs:
        table.add_row(escape(key), escape(value))
    out.print(table)


def _seconds(value: Any) -> str:
    return shown_duration(value) if isinstance(value, int | float) else "unknown"


def _memory(mebibytes: Any) -> str:
    return shown_size(mebibytes * 2**20) if isinstance(mebibytes, int | float) else ""


def _figure(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
