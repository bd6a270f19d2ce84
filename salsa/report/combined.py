"""One table over several experiments, such as one a model family: a sweep is read at once, not file by file."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.text import Text

from salsa.report import judging
from salsa.report.grid import MISSING, Cell, Column, Grid, mark_best, measured, to_markdown
from salsa.report.schema import METRICS, POOLED, Metric, flatten
from salsa.report.tables import CSV_HEADER, named, suite_cell, tidy, win_cell
from salsa.report.terminal import TerminalTable

# More differing settings than this do not fit beside a table; the experiments' fingerprints stand in for them.
_MOST_SETTINGS = 3


def combine(experiments: Sequence[Mapping[str, Any]]) -> Grid:
    """Return one table with a row for each model of each experiment; the best of a column is marked per experiment.

    Judge scores on each suite, then the win rates over an experiment's suites and the KL (k1) to the first anchor.
    What one experiment has and another has not is shown as missing. Raises ValueError without experiments.
    """
    if not experiments:
        raise ValueError("no experiments to combine: give at least one experiment.json")
    suites = list(dict.fromkeys(suite for experiment in experiments for suite in judging.scored(experiment)))
    opponents = _union(experiments, "opponents")
    anchors = _union(experiments, "anchors")[:1]
    pooled = [POOLED] if len(suites) > 1 else []
    columns = [Column("experiment", left=True), Column("model", left=True)]
    columns += [Column(suite, _judges(experiments)) for suite in [*suites, *pooled]]
    columns += [Column(f"vs {opponent}", "win rate, %") for opponent in opponents]
    columns += [Column(f"KL to {anchor}") for anchor in anchors]
    judge, rate = METRICS["judge"], METRICS["win_rate"]
    metrics: list[Metric | None] = [None, None, *(judge for _ in [*suites, *pooled]), *(rate for _ in opponents)]
    metrics += [None for _ in anchors]
    rows: list[list[Cell]] = []
    ends = []
    for label, experiment in zip(labels(experiments), experiments, strict=True):
        group: list[list[Cell]] = []
        for row in experiment["rows"]:
            # The label stands once; a reader sees the group by the line under it.
            cells = [Cell("" if group else label, tone="name", source=experiment["fingerprint"]), named(row)]
            cells += [suite_cell(row, suite, "judge") for suite in [*suites, *pooled]]
            cells += [_overall_win(row, experiment, opponent) for opponent in opponents]
            cells += [_kl_cell(row, anchor) for anchor in anchors]
            group.append(cells)
        rows += mark_best(group, metrics)
        ends.append(len(rows) - 1)
    return Grid(f"{len(experiments)} experiments", _caption(experiments), columns, rows, frozenset(ends[:-1]), keys=2)


def terminal(experiments: Sequence[Mapping[str, Any]]) -> Group:
    """Return what the terminal shows of several experiments: the table, then each different note once."""
    notes = dict.fromkeys(experiment["note"] for experiment in experiments)
    warnings = [
        Text(f"Warning: {label}: {warning}", "red")
        for label, experiment in zip(labels(experiments), experiments, strict=True)
        for warning in experiment["warnings"]
    ]
    return Group(TerminalTable(combine(experiments)), *(Text(note, "yellow") for note in notes), *warnings)


def markdown(experiments: Sequence[Mapping[str, Any]]) -> str:
    """Return the table as Markdown, with the notes and the fingerprint of each experiment."""
    notes = dict.fromkeys(experiment["note"] for experiment in experiments)
    prints = [
        [Cell(label, tone="name"), Cell(experiment["fingerprint"])]
        for label, experiment in zip(labels(experiments), experiments, strict=True)
    ]
    columns = [Column("experiment", left=True), Column("fingerprint", left=True)]
    fingerprints = to_markdown(Grid("Fingerprints", "", columns, prints))
    return "\n".join([to_markdown(combine(experiments)), *(f"{note}\n" for note in notes), fingerprints])


def to_csv(experiments: Sequence[Mapping[str, Any]]) -> str:
    """Return the figures of all experiments as tidy CSV: the columns of one experiment after its label."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ("experiment", *CSV_HEADER), lineterminator="\n")
    writer.writeheader()
    for label, experiment in zip(labels(experiments), experiments, strict=True):
        writer.writerows({"experiment": label, **record} for record in tidy(experiment))
    return text.getvalue()


def labels(experiments: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a different label for each experiment, so that a reader of a sweep sees what was varied.

    The first of these that tells all experiments apart: the model; the `overrides` of the command line (a list of
    texts, where a sweep has added them) that are not common to all; the settings that differ, if few; the title;
    title and fingerprint. The same experiment given twice is numbered.
    """
    titles = [experiment["title"] for experiment in experiments]
    starts = [experiment["fingerprint"][:8] for experiment in experiments]
    candidates = [[experiment["model"] for experiment in experiments]]
    overrides = [list(experiment.get("overrides", ())) for experiment in experiments]
    common = set.intersection(*(set(each) for each in overrides))
    candidates.append([" ".join(text for text in each if text not in common) for each in overrides])
    settings = [dict(flatten(experiment["settings"])) for experiment in experiments]
    differing = [
        key
        for key in dict.fromkeys(key for each in settings for key in each)
        if len({repr(each.get(key)) for each in settings}) > 1
    ]
    if len(differing) <= _MOST_SETTINGS:
        candidates.append([" ".join(f"{key}={each.get(key)}" for key in differing) for each in settings])
    candidates.append(titles)
    candidates.append([f"{title} {start}" for title, start in zip(titles, starts, strict=True)])
    for candidate in candidates:
        if len(set(candidate)) == len(candidate) and all(candidate):
            return candidate
    return [f"{title} ({number})" for number, title in enumerate(titles, start=1)]


def _overall_win(row: Mapping[str, Any], experiment: Mapping[str, Any], opponent: str) -> Cell:
    if opponent not in experiment["opponents"]:
        return MISSING
    return win_cell(row, POOLED, opponent)


def _kl_cell(row: Mapping[str, Any], anchor: str) -> Cell:
    estimate = row["kl"].get(anchor, {})
    return measured(estimate.get("k1"), METRICS["k1"], estimate.get("fingerprint", ""))


def _union(experiments: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(name for experiment in experiments for name in experiment[key]))


def _judges(experiments: Sequence[Mapping[str, Any]]) -> str:
    names = dict.fromkeys(f"{e['judge']['name']}, {e['judge']['unit']}" for e in experiments)
    return " / ".join(names)


def _caption(experiments: Sequence[Mapping[str, Any]]) -> str:
    levels = " / ".join(f"{level:.0%}" for level in dict.fromkeys(experiment["level"] for experiment in experiments))
    return (
        f"With {levels} intervals (questions resampled by cluster); bold: best of the column in its experiment. "
        f"Win rate over {judging.over_any(experiments)}: win + tie / 2; {judging.ties(experiments)}. "
        f"{f'{judging.NOT_ASKED[0].upper()}{judging.NOT_ASKED[1:]}. ' if any(map(judging.reads, experiments)) else ''}"
        "KL: nats a reply, estimator k1."
    )
