"""What `salsa soup` shows: bars while it works, lines for people, one object for programs."""

import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from salsa.soup.draft import Draft
from salsa.soup.geometry import TaskVectors
from salsa.soup.greedy import Selection
from salsa.soup.merge import Advance, Made, record
from salsa.soup.plan import Plan, Size, free_bytes
from salsa.store.quantities import shown_duration, shown_size


@dataclass(frozen=True)
class Screen:
    """Shows the work: `bars` on standard error where that is a terminal, `lines` on standard output."""

    bars: bool
    lines: bool

    @contextmanager
    def bytes(self, what: str) -> Iterator[Advance | None]:
        """Show a bar of bytes, with rate and time left."""
        from rich.progress import DownloadColumn, TransferSpeedColumn

        with self._bar(what, (DownloadColumn(), TransferSpeedColumn())) as advance:
            yield advance

    @contextmanager
    def rows(self, what: str) -> Iterator[Advance | None]:
        """Show a bar of rows, with the time left."""
        from rich.progress import MofNCompleteColumn

        with self._bar(what, (MofNCompleteColumn(),)) as advance:
            yield advance

    def say(self, text: str) -> None:
        """Print a line."""
        if self.lines:
            print(text, flush=True)

    @contextmanager
    def _bar(self, what: str, columns: Sequence[Any]) -> Iterator[Advance | None]:
        if not self.bars or not sys.stderr.isatty():
            yield None
            return
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        shown = (TextColumn("{task.description}"), BarColumn(), *columns, TimeRemainingColumn())
        with Progress(*shown, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(escape(what), total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)


def as_json(plan: Plan, made: Made | None, seconds: float) -> dict[str, Any]:
    """Return all that is known of a soup that is made (or planned), for programs."""
    request = plan.request
    found = {"dry_run": request.dry_run} | record(plan, made.selection if made else None)
    if request.out is None:
        found = {"dry_run": request.dry_run, "models": [{"name": model.name} for model in plan.models]}
    else:
        found |= {"out": str(request.out)} | asdict(made.size if made and made.size else plan.size)
    if made is not None and made.geometry is not None:
        found["geometry"] = {layer: _vectors(plan, vectors) for layer, vectors in made.geometry.items()}
    return found | {"seconds": round(seconds, 3)}


def show(plan: Plan, made: Made | None, seconds: float) -> None:
    """Print a plan, or what was made."""
    request = plan.request
    if made is None:
        _show_plan(plan)
        return
    if made.geometry is not None:
        _show_geometry(plan, made.geometry)
    if made.selection is not None:
        _show_selection(made.selection)
    if made.size is not None:
        what = f"{request.recipe} of {_counted(len(plan.models), 'model')}, {_sized(made.size)}"
        print(f"wrote {request.out}: {what}, in {shown_duration(seconds)}")


def _show_plan(plan: Plan) -> None:
    request = plan.request
    weights: Sequence[float | None] = plan.weights or [None] * len(plan.models)
    for model, weight in zip(plan.models, weights, strict=False):
        print(f"{'' if weight is None else f'{weight:<8.4g} '}{model.name}")
    base = plan.models[0].base or plan.base
    if base is not None:
        print(f"over the base {base.name}")
    if request.out is None:
        print("would measure them and make nothing: there is no --out")
        return
    settings = ", ".join(f"{name} {value}" for name, value in request.settings().items())
    print(f"recipe {request.recipe}{f' ({settings})' if settings else ''}")
    if plan.heldout is not None:
        print(f"by the loss on {_counted(len(plan.heldout), 'held-out row')}")
    free = free_bytes(Draft(request.out, replace=request.force))
    print(f"would write {request.out}: {_sized(plan.size)}; {shown_size(free)} are free there")


def _show_selection(selection: Selection) -> None:
    for decision in selection.decisions:
        if decision.best is None:
            print(f"best alone: {decision.name}, {decision.score:.4f} nats a token")
        elif decision.taken:
            print(f"taken: {decision.name}, {decision.score:.4f} with it, {decision.best:.4f} without")
        else:
            print(f"left out: {decision.name}, {decision.score:.4f} with it, {decision.best:.4f} without")


def _show_geometry(plan: Plan, geometry: dict[str, TaskVectors]) -> None:
    """Print a table: a row for each layer, columns for the models and for every two of them."""
    for number, model in enumerate(plan.models, start=1):
        print(f"{number}: {model.name}")
    pairs = list(itertools.combinations(range(len(plan.models)), 2))
    heads = [f"cos {i + 1},{j + 1}" for i, j in pairs] if _has_base(plan) else []
    heads = [f"norm {index + 1}" for index in range(len(plan.models)) if _has_base(plan)] + heads
    rows = [["", *heads, *(f"dist {i + 1},{j + 1}" for i, j in pairs)]]
    for layer, vectors in geometry.items():
        figures: list[float | None] = []
        if _has_base(plan):
            figures += [*vectors.norms, *(vectors.cosines[i][j] for i, j in pairs)]
        figures += [vectors.distances[i][j] for i, j in pairs]
        rows.append([layer, *("-" if figure is None else f"{figure:.4g}" for figure in figures)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *cells in rows:
        shown = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))]
        print("  ".join(shown).rstrip())


def _vectors(plan: Plan, vectors: TaskVectors) -> dict[str, Any]:
    """Return what can be said of a layer; without a base there are no task vectors, only distances."""
    found = asdict(vectors)
    return found if _has_base(plan) else {"distances": found["distances"]}


def _has_base(plan: Plan) -> bool:
    return plan.adapters or plan.base is not None


def _sized(size: Size) -> str:
    return f"{_counted(size.tensors, 'tensor')}, {shown_size(size.bytes)} in {_counted(size.files, 'file')}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
