"""A sweep at a glance: a row an experiment, for the terminal and as Markdown. No NumPy: it must be fast."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.text import Text

from salsa.report.grid import Cell as Entry
from salsa.report.grid import Column, Grid, mark_best, measured, to_markdown
from salsa.report.markup import escape, shorten, visible
from salsa.report.schema import METRICS, POOLED, Metric
from salsa.report.sweep.cells import Cell, count, distinct, numeric, rate_columns, row_of, shown, swept, union
from salsa.report.tables import kl_cell, suite_cell, win_cell
from salsa.report.terminal import TerminalTable

SCREEN = 20
"""Most experiments that the terminal shows; of more, the best."""
_BEST = 12
_SENTENCES = 5
"""Most reasons, and most warnings, that the terminal shows."""
_KEY_COLUMNS = 4
"""Of more swept keys, all stand in one column."""
_HEAT = 12
"""Most values of a key in a table of key by key."""
_REASON = 300
_DASH = Entry("–", tone="missing")


@dataclass(frozen=True)
class Quantity:
    """A column of the table: its heading, what makes a value the best (None: nothing), and where a value is found."""

    column: Column
    better: Metric | None
    of: Callable[[Mapping[str, Any]], Entry]


def judge(role: str, heading: str, group: str) -> Quantity:
    """Return the judge's score of the policy or the opponent over all suites."""
    return Quantity(
        Column(heading, group),
        METRICS["judge"] if role == "policy" else None,
        lambda experiment: _of_role(experiment, role, lambda row: suite_cell(row, POOLED, "judge")),
    )


def rate(name: str) -> Quantity:
    """Return the policy's win rate over all suites against the opponent, or against the model of that name."""

    def of(experiment: Mapping[str, Any]) -> Entry:
        against = next((model for model, column in rate_columns(experiment).items() if column == name), None)
        return _DASH if against is None else _of_policy(experiment, lambda row: win_cell(row, POOLED, against))

    return Quantity(Column(f"vs {name}", "policy's win rate, %"), METRICS["win_rate"], of)


def terminal(cells: Sequence[Cell]) -> Group:
    """Return what the terminal shows: at most a screen, with the state of what is missing and the notes on the rest."""
    shown_cells, left_out = _screenful(cells)
    selected = f"; the {len(shown_cells)} best by the judge" if left_out else ""
    parts: list[Any] = [TerminalTable(_grid(f"{count(cells)}{selected}", shown_cells, cells, details=False))]
    if left_out:
        parts.append(Text(f"… {left_out} more in table.md", "dim"))
    missing = [cell for cell, _ in distinct(cells) if cell.state != "done"]
    parts += [
        Text.assemble((cell.state, "bold red"), f" {cell.label}: {_reason(cell)}") for cell in missing[:_SENTENCES]
    ]
    if len(missing) > _SENTENCES:
        parts.append(Text(f"… {len(missing) - _SENTENCES} more without a result in table.md", "dim"))
    parts += [Text(note, "yellow") for note in _notes(cells)]
    warnings = _warnings(cells)
    parts += [Text(f"Warning: {warning}", "red") for warning in warnings[:_SENTENCES]]
    if len(warnings) > _SENTENCES:
        parts.append(Text(f"… {len(warnings) - _SENTENCES} more warnings in table.md", "dim"))
    return Group(*parts)


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
    for title, quantity in (
        ("Judge score of the policy", judge("policy", "", "")),
        ("Policy's win rate against the opponent, %", rate("opponent")),
    ):
        rows = []
        for value in down:
            entries = [quantity.of(found[value, other]) if (value, other) in found else _DASH for other in across]
            rows.append([Entry(shown(value), tone="name"), *entries])
        result.append(Grid(f"{title}: {keys[0]} by {keys[1]}", "", columns, rows))
    return result


def _screenful(cells: Sequence[Cell]) -> tuple[list[Cell], int]:
    """Return the cells that the terminal shows, and how many experiments it does not."""
    once = [cell for cell, _ in distinct(cells)]
    if len(once) <= SCREEN:
        return once, 0
    quantity = judge("policy", "", "")
    scores = [(quantity.of(cell.experiment).value, cell) for cell in once if cell.experiment is not None]
    known = [(score, cell) for score, cell in scores if score is not None]
    best = [cell for _, cell in sorted(known, key=lambda pair: -pair[0])[:_BEST]]
    return best, len(once) - len(best)


def _grid(title: str, shown_cells: Sequence[Cell], cells: Sequence[Cell], *, details: bool) -> Grid:
    """Return the table of some of a sweep's cells.

    `details` adds what the terminal has no room for: opponent, anchors, reward-model score, replies, alignment tax.
    """
    keys = swept(cells)
    apart = 0 < len(keys) <= _KEY_COLUMNS
    done = [cell.experiment for cell in cells if cell.experiment is not None]
    quantities = _quantities(done, details)
    incomplete = any(cell.state != "done" for cell in shown_cells)
    rows = []
    for cell, _ in distinct(shown_cells):
        names = [shown(cell.keys[key]) if key in cell.keys else "–" for key in keys] if apart else [cell.label]
        row = [Entry(name, tone="name", source=cell.fingerprint) for name in names]
        row += [_DASH if cell.experiment is None else _dashed(each.of(cell.experiment)) for each in quantities]
        if incomplete:
            row.append(Entry(cell.state, tone="" if cell.state == "done" else "missing"))
        rows.append(row)
    columns = [Column(key, left=True) for key in (keys if apart else ["settings"])]
    columns += [quantity.column for quantity in quantities]
    columns += [Column("state", left=True)] if incomplete else []
    one_judge = len({each["judge"]["name"] for each in done}) == 1
    better = [quantity.better if one_judge else None for quantity in quantities]
    named = len(columns) - len(quantities) - incomplete
    marked = mark_best(rows, [*[None] * named, *better, *[None] * incomplete])
    return Grid(title, _caption(done), columns, marked, keys=named)


def _quantities(done: Sequence[Mapping[str, Any]], details: bool) -> list[Quantity]:
    judges = " / ".join(dict.fromkeys(f"{each['judge']['name']}, {each['judge']['unit']}" for each in done)) or "judge"
    rates = dict.fromkeys(name for each in done for name in rate_columns(each).values()) or {"opponent": None}
    anchors = union(done, "anchors")
    found = [judge("policy", "policy", judges)]
    if details:
        found.append(judge("opponent", "opponent", judges))
    found += [rate(name) for name in rates]
    if not details:
        return found + [_divergence(anchor, short=True) for anchor in anchors[:1]]
    found += [_divergence(anchor, short=False) for anchor in anchors]
    found += [_reply(name) for name in ("reward", "length", "unfinished")]
    return found + [_tax(name) for name in ("recall", "perplexity")]


def _divergence(anchor: str, *, short: bool) -> Quantity:
    def of(row: Mapping[str, Any]) -> Entry:
        if not short:
            return kl_cell(row, anchor)
        return measured(row["kl"].get(anchor, {}).get("k1"), METRICS["k1"])

    heading = f"KL to {anchor}" if short else f"KL to {anchor}, k1 (k3)"
    return Quantity(Column(heading), None, lambda experiment: _of_policy(experiment, of))


def _reply(name: str) -> Quantity:
    metric = METRICS[name]
    return Quantity(
        Column(f"{metric.label}, {metric.unit}"),
        metric,
        lambda experiment: _of_policy(experiment, lambda row: suite_cell(row, POOLED, name)),
    )


def _tax(name: str) -> Quantity:
    metric = METRICS[name]
    return Quantity(
        Column(", ".join(filter(None, (metric.label, metric.unit)))),
        metric,
        lambda experiment: _of_policy(experiment, lambda row: measured((row["tax"] or {}).get(name), metric)),
    )


def _of_policy(experiment: Mapping[str, Any], of: Callable[[Mapping[str, Any]], Entry]) -> Entry:
    return _of_role(experiment, "policy", of)


def _of_role(experiment: Mapping[str, Any], role: str, of: Callable[[Mapping[str, Any]], Entry]) -> Entry:
    row = row_of(experiment, role)
    return _DASH if row is None else of(row)


def _dashed(entry: Entry) -> Entry:
    return _DASH if entry.tone == "missing" else entry


def _caption(done: Sequence[Mapping[str, Any]]) -> str:
    if not done:
        return ""
    levels = " / ".join(f"{level:.0%}" for level in dict.fromkeys(each["level"] for each in done))
    margins = " / ".join(f"{margin:g}" for margin in dict.fromkeys(each["judge"]["tie_margin"] for each in done))
    return (
        f"Over all suites of an experiment, with {levels} intervals (questions resampled by cluster); bold: best of "
        f"the column. Win rate: win + tie / 2; scores within {margins} are a tie. KL: nats a reply, estimator k1."
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
