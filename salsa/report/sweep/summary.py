"""A sweep at a glance: a row an experiment, for the terminal and as Markdown. No NumPy: it must be fast."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Group
from rich.text import Text

from salsa.report.grid import Cell as Entry
from salsa.report.grid import Column, Grid, mark_best, to_markdown
from salsa.report.judging import over_any, ties
from salsa.report.markup import escape, shorten, visible
from salsa.report.sweep import repeats
from salsa.report.sweep.cells import Cell, count, distinct, numeric, shown, swept
from salsa.report.sweep.quantities import DASH, everything, judge, one_judge, principal, rate, scores_there
from salsa.report.terminal import TerminalTable

SCREEN = 20
"""Most experiments that the terminal shows; of more, the best."""
_BEST = 12
_LINES = 5
"""Most reasons, and most warnings, that the terminal shows."""
_KEY_COLUMNS = 4
"""Of more swept keys, all stand in one column."""
_HEAT = 12
"""Most values of a key in a table of key by key."""
_REASON = 300


def terminal(cells: Sequence[Cell]) -> Group:
    """Return what the terminal shows: about a screen, with the state of what is missing and the notes on the rest.

    Of many experiments it shows the means over repeats if there are, because the best one of many trainings is the
    luckiest; else those with the best judge scores, or win rates where the judge gives no scores.
    """
    missing = [cell for cell, _ in distinct(cells) if cell.state != "done"]
    parts = _tables(cells)
    parts += [Text.assemble((cell.state, "bold red"), f" {cell.label}: {_reason(cell)}") for cell in missing[:_LINES]]
    parts += _more(len(missing) - _LINES, "more without a result")
    parts += [Text(note, "yellow") for note in _notes(cells)]
    warnings = _warnings(cells)
    parts += [Text(f"Warning: {warning}", "red") for warning in warnings[:_LINES]]
    return Group(*parts, *_more(len(warnings) - _LINES, "more warnings"))


def _tables(cells: Sequence[Cell]) -> list[Any]:
    once = [cell for cell, _ in distinct(cells)]
    means = repeats.grid(cells)
    if len(once) <= SCREEN:
        tables = [_grid(count(cells), once, cells, details=False), *([] if means is None else [means])]
        return [TerminalTable(table) for table in tables]
    if means is not None:
        best = replace(means, rows=means.rows[:SCREEN])
        left_out = _more(len(means.rows) - len(best.rows), "more means")
        return [Text(count(cells), "bold"), TerminalTable(best), *left_out, *_more(len(once), "experiments")]
    chosen = _best(once)
    title = f"{count(cells)}{f'; the {len(chosen)} best by the judge' if chosen else ''}"
    return [TerminalTable(_grid(title, chosen, cells, details=False)), *_more(len(once) - len(chosen), "more")]


def _more(number: int, what: str) -> list[Text]:
    return [Text(f"… {number} {what} in table.md", "dim")] if number > 0 else []


def _best(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells with the highest judge scores (or win rates without these), in the order of these."""
    done = [cell.experiment for cell in cells if cell.experiment is not None]
    score = (judge("policy") if scores_there(done) else rate("opponent")).of
    scores = [(score(cell.experiment).value, cell) for cell in cells if cell.experiment is not None]
    known = [(value, cell) for value, cell in scores if value is not None]
    return [cell for _, cell in sorted(known, key=lambda pair: -pair[0])[:_BEST]]


def markdown(cells: Sequence[Cell], title: str, figures: Sequence[str] = ()) -> str:
    """Return the table as Markdown, with the reasons of what is missing, the `figures` beside it, and fingerprints."""
    main = _grid("Experiments", cells, cells, details=True)
    missing = [cell for cell, _ in distinct(cells) if cell.state != "done"]
    parts = [f"# {escape(title)}", f"{count(cells)}.", to_markdown(main).rstrip()]
    if missing:
        lines = [f"- {escape(cell.label)}: {cell.state}. {escape(_reason(cell))}".rstrip() for cell in missing]
        parts += ["## Without a result", "\n".join(lines)]
    parts += _repeated(cells)
    parts += list(_notes(cells)) + [f"Warning: {escape(text)}" for text in _warnings(cells)]
    means = repeats.grid(cells)
    parts += [] if means is None else [to_markdown(means).rstrip()]
    parts += [to_markdown(heat).rstrip() for heat in heats(cells)]
    parts += [f"![{escape(name)}]({name})" for name in figures]
    parts.append(to_markdown(_fingerprints(cells)).rstrip())
    return "\n\n".join(parts) + "\n"


def heats(cells: Sequence[Cell]) -> list[Grid]:
    """Return tables of key by key where exactly two keys are swept, both numbers with few values; else none."""
    keys = numeric(cells)
    if len(keys) != 2 or swept(cells) != keys:
        return []
    down, across = (sorted({cell.keys[key] for cell in cells if key in cell.keys}) for key in keys)
    if max(len(down), len(across)) > _HEAT:
        return []
    found = {
        tuple(cell.keys.get(key) for key in keys): cell.experiment for cell in cells if cell.experiment is not None
    }
    columns = [Column(keys[0], left=True), *(Column(shown(value), keys[1]) for value in across)]
    result = []
    told = [("Judge score of the policy", judge("policy"))] if scores_there(list(found.values())) else []
    for title, quantity in [*told, ("Policy's win rate against the opponent, %", rate("opponent"))]:
        rows = []
        for value in down:
            entries = [quantity.of(found[value, other]) if (value, other) in found else DASH for other in across]
            rows.append([Entry(shown(value), tone="name"), *entries])
        result.append(Grid(f"{title}: {keys[0]} by {keys[1]}", "", columns, rows))
    return result


def _grid(title: str, shown_cells: Sequence[Cell], cells: Sequence[Cell], *, details: bool) -> Grid:
    """Return the table of some of a sweep's cells.

    `details` adds what the terminal has no room for: opponent, anchors, reward-model score, replies, alignment tax.
    """
    keys = swept(cells)
    apart = 0 < len(keys) <= _KEY_COLUMNS
    done = [cell.experiment for cell in cells if cell.experiment is not None]
    quantities = everything(done) if details else principal(done)
    incomplete = any(cell.state != "done" for cell in shown_cells)
    rows = []
    for cell, _ in distinct(shown_cells):
        names = [shown(cell.keys[key]) if key in cell.keys else "–" for key in keys] if apart else [cell.label]
        row = [Entry(name, tone="name", source=cell.fingerprint) for name in names]
        row += [DASH if cell.experiment is None else each.of(cell.experiment) for each in quantities]
        if incomplete:
            row.append(Entry(cell.state, tone="" if cell.state == "done" else "missing"))
        rows.append(row)
    columns = [Column(key, left=True) for key in (keys if apart else ["settings"])]
    columns += [quantity.column for quantity in quantities]
    columns += [Column("state", left=True)] if incomplete else []
    better = [quantity.metric if quantity.competing and one_judge(done) else None for quantity in quantities]
    named = len(columns) - len(quantities) - incomplete
    marked = mark_best(rows, [*[None] * named, *better, *[None] * incomplete])
    return Grid(title, _caption(done), columns, marked, keys=named)


def _caption(done: Sequence[Mapping[str, Any]]) -> str:
    if not done:
        return ""
    levels = " / ".join(f"{level:.0%}" for level in dict.fromkeys(each["level"] for each in done))
    return (
        f"Means over the suites of an experiment, with {levels} intervals (questions resampled by cluster); bold: best "
        f"of the column. Win rate over {over_any(done)}: win + tie / 2; {ties(done)}. KL: nats a reply, estimator k1."
    )


def _repeated(cells: Sequence[Cell]) -> list[str]:
    """Return a sentence on each experiment that several different settings led to."""
    by_job = {cell.job: cell for cell in cells}
    sentences = []
    for first, jobs in distinct(cells):
        others = dict.fromkeys(by_job[job].label for job in jobs if by_job[job].keys != first.keys)
        if others:
            sentences.append(escape(f"The same experiment as {first.label}: {'; '.join(others)}."))
    return sentences


def _notes(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.experiment["note"] for cell in cells if cell.experiment is not None))


def _warnings(cells: Sequence[Cell]) -> list[str]:
    found = [(cell.label, cell.experiment["warnings"]) for cell, _ in distinct(cells) if cell.experiment is not None]
    return [f"{label}: {warning}" for label, warnings in found for warning in warnings]


def _reason(cell: Cell) -> str:
    return shorten(visible(" ".join(cell.reason.split())), _REASON) or "nothing is known about why"


def _fingerprints(cells: Sequence[Cell]) -> Grid:
    rows = [
        [Entry(" ".join(str(job) for job in jobs)), Entry(cell.label, tone="name"), Entry(cell.fingerprint or "–")]
        for cell, jobs in distinct(cells)
    ]
    columns = [Column(heading, left=True) for heading in ("jobs", "settings", "experiment's fingerprint")]
    return Grid("Fingerprints", "experiments/<the first 16 digits>/ has everything on one experiment.", columns, rows)
