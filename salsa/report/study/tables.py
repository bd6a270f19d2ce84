"""The tables of a study as grids, which the terminal, Markdown, HTML and LaTeX all show; no NumPy: it must be fast."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from salsa.report.grid import BLANK, MISSING, Cell, Column, Grid, mark_best, measured
from salsa.report.judging import toned
from salsa.report.schema import METRICS, Metric
from salsa.report.study import gaps, minus
from salsa.report.study.schema import full_name, replicates

UNKNOWN = "not known to us"
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_EVEN = 0.5
_AT_EDGE = "at the end of the grid: a better coefficient may lie beyond it"
_ALIKE = "the same in all replicates, so the interval has no width and says nothing"
_NO_WIDTH = 1e-9
"""Of an interval, below which its ends differ by rounding alone."""


@dataclass(frozen=True)
class Table:
    """A table: its grid, the role of each row, and how many of its last columns are the paper's.

    Where rows have groups, the grid's first key column is the group; else a row has one key, its label.
    """

    name: str
    grid: Grid
    roles: Sequence[str]
    paper: int = 0

    @property
    def grouped(self) -> bool:
        """Whether the first column is the group of a row."""
        return self.grid.keys == 2

    def blocks(self) -> list[Grid]:
        """Return what a narrow medium shows below each other: our columns, then the paper's for the rows that it has.

        A group's name stands in the first of its rows alone, and lines are drawn between groups alone.
        """
        width = len(self.grid.columns) - self.paper
        own = replace(self.grid, columns=self.grid.columns[:width], rows=[row[:width] for row in self.grid.rows])
        found = [self._without_repeats(own)]
        if self.paper:
            keys, grid = range(self.grid.keys), self.grid
            places = [*keys, *range(width, len(grid.columns))]
            rows = [[row[place] for place in places] for row in grid.rows if set(row[width:]) != {BLANK}]
            columns = [grid.columns[place] for place in places]
            found.append(Grid(f"{grid.title}: the paper", "", columns, rows, keys=grid.keys))
        return found

    def _without_repeats(self, grid: Grid) -> Grid:
        if not self.grouped:
            return grid
        names = [row[0].text for row in grid.rows]
        rows = [list(row) for row in grid.rows]
        for row, (before, own) in zip(rows[1:], pairwise(names), strict=True):
            row[0] = Cell("") if own == before else row[0]
        breaks = frozenset(index for index, (own, after) in enumerate(pairwise(names)) if own != after)
        return replace(grid, rows=rows, sections=breaks)


def tables(study: Mapping[str, Any]) -> list[Table]:
    """Return the tables of a study, the main one first; the selection of KL coefficients is not among them."""
    return [_table(study, table) for table in study["tables"]]


def _table(study: Mapping[str, Any], table: Mapping[str, Any]) -> Table:
    groups = any(row.get("group") for row in table["rows"])
    columns, keys = [*_key_columns(table, groups), *_columns(table["columns"])], 1 + groups
    rows = _best([[*_keys(row, groups), *_cells(row, table["columns"])] for row in table["rows"]], table, keys)
    said = [[note(study, row, column) for column in table["columns"]] for row in table["rows"]]
    notes = _numbered(said)
    rows = [_marked(cells, own, notes, keys) for cells, own in zip(rows, said, strict=True)]
    theirs = _paper_columns(table)
    columns += [Column(column["label"], table["paper"]["label"]) for column in theirs]
    rows = [[*cells, *_paper(row, theirs, table)] for cells, row in zip(rows, table["rows"], strict=True)]
    below = [f"{_mark(number)} {text}" for text, number in notes.items()]
    grid = Grid(title(table), _caption(study, table, rows), columns, rows, _sections(table["rows"]), keys, below)
    return Table(table["name"], grid, [row["role"] for row in table["rows"]], len(theirs))


def _caption(study: Mapping[str, Any], table: Mapping[str, Any], rows: Sequence[Sequence[Cell]]) -> str:
    """Return the caption with what bold marks, and in the main table on how much the numbers rest."""
    parts = [table["caption"]] if table["caption"] else []
    if any(cell.best for row in rows for cell in row) and "bold" not in table["caption"].lower():
        of = (
            f" in each {table.get('group_header') or 'group'}" if any(row.get("group") for row in table["rows"]) else ""
        )
        even = any(column.get("even") is not None and column.get("better") for column in table["columns"])
        parts.append(f"Bold: best of the column{of}{', where it is not below even' if even else ''}.")
    prompts = study["settings"].get("prompts")
    if prompts and table is study["tables"][0]:
        alike = len(set(prompts.values())) == 1
        counts = (f"{count:,} ({suite})" for suite, count in prompts.items())
        each = f"{next(iter(prompts.values())):,} prompts of each suite" if alike else f"prompts: {', '.join(counts)}"
        parts.append(f"n: {replicates(study)} × {each}.")
    return " ".join(parts)


def title(table: Mapping[str, Any]) -> str:
    """Return a table's title: the one given, else its name in words."""
    words = str(table.get("title") or table["name"].replace("_", " "))
    return f"{words[:1].upper()}{words[1:]}"


def _key_columns(table: Mapping[str, Any], groups: bool) -> list[Column]:
    named = Column(table["row_header"], left=True)
    return [Column(table.get("group_header") or "", left=True), named] if groups else [named]


def _keys(row: Mapping[str, Any], groups: bool) -> list[Cell]:
    named = Cell(row["label"], tone="own" if row["role"] == "salsa" else "name")
    return [Cell(row.get("group") or "", tone="name"), named] if groups else [named]


def _columns(columns: Sequence[Mapping[str, Any]]) -> Iterator[Column]:
    """Yield headings with the unit: once for a group whose columns share it, else for each column."""
    for column in columns:
        alike = [other for other in columns if other.get("group") == column.get("group")]
        shared = column.get("group") and len({other["unit"] for other in alike}) == 1
        if shared:
            yield Column(column["label"], _with_unit(column["group"], column["unit"]))
        else:
            yield Column(_with_unit(column["label"], column["unit"]), column.get("group") or "")


def _with_unit(text: str, unit: str | None) -> str:
    return f"{text}, {unit}" if unit else text


def metric(column: Mapping[str, Any]) -> Metric:
    """Return how the figures of a column are shown."""
    scale = 1.0 if column["scale"] is None else float(column["scale"])
    return Metric(column["label"], column["unit"] or "", column["digits"], scale, column.get("better") or "")


def _cells(row: Mapping[str, Any], columns: Sequence[Mapping[str, Any]]) -> Iterator[Cell]:
    """Yield the cells of a row; a key that the row lacks has no meaning for it, and None is missing."""
    for column in columns:
        estimate = row["cells"].get(column["key"])
        if estimate is None:
            yield MISSING if column["key"] in row["cells"] else BLANK
            continue
        cell = replace(minus.cell(measured(estimate, metric(column))), source=_source(estimate))
        decides = column.get("even") == _EVEN and estimate["value"] is not None and not _alike(estimate)
        yield toned(cell, estimate) if decides else cell


def _alike(estimate: Mapping[str, Any]) -> bool:
    """Return whether an interval has no width: where all replicates are equal, that shows nothing of others."""
    low, high = estimate["low"], estimate["high"]
    return low is not None and high is not None and abs(high - low) < _NO_WIDTH


def _source(estimate: Mapping[str, Any]) -> str:
    """Return what the tip of a cell says: how many values, and how many artifacts are behind it."""
    count = len(estimate.get("fingerprints") or [])
    parts = [f"n = {estimate['n']:,}"] if estimate.get("n") is not None else []
    parts += [f"from {count:,} {'artifact' if count == 1 else 'artifacts'}"] if count else []
    return ", ".join(parts)


def note(study: Mapping[str, Any], row: Mapping[str, Any], column: Mapping[str, Any]) -> str | None:
    """Return what is said of a cell: its own note, why it is missing, or why it decides nothing; else nothing."""
    if column["key"] not in row["cells"]:
        return None
    cell = row["cells"][column["key"]]
    if cell is None or cell["value"] is None:
        return (cell or {}).get("note") or gaps.reason(study, row)
    return cell.get("note") or (_ALIKE if column.get("even") is not None and _alike(cell) else None)


def _numbered(said: Sequence[Sequence[str | None]]) -> dict[str, int]:
    """Return the number of each note, in the order in which a reader meets them."""
    met = (text for row in said for text in row if text)
    return {text: number for number, text in enumerate(dict.fromkeys(met), 1)}


def _marked(cells: Sequence[Cell], said: Sequence[str | None], notes: Mapping[str, int], keys: int) -> list[Cell]:
    """Return the cells of a row with the marks of their notes."""
    own = zip(cells[keys:], said, strict=True)
    marked = (replace(cell, text=f"{cell.text}{_mark(notes[text])}") if text else cell for cell, text in own)
    return [*cells[:keys], *marked]


def _mark(number: int) -> str:
    return str(number).translate(_SUPERSCRIPTS)


def _best(rows: list[list[Cell]], table: Mapping[str, Any], keys: int) -> list[list[Cell]]:
    """Return the rows with the best of each column marked, in each group by itself.

    Where a column has an even value, nothing on its wrong side is marked: what is compared with is better there.
    """
    metrics: list[Metric | None] = [None] * keys
    metrics += [metric(column) for column in table["columns"]]
    result = list(rows)
    for group in dict.fromkeys(row.get("group") for row in table["rows"]):
        places = [index for index, row in enumerate(table["rows"]) if row.get("group") == group]
        for index, marked in zip(places, mark_best([rows[index] for index in places], metrics), strict=True):
            own = zip(marked[keys:], table["columns"], strict=True)
            result[index] = [*marked[:keys], *(replace(cell, best=_deserved(cell, column)) for cell, column in own)]
    return result


def _deserved(cell: Cell, column: Mapping[str, Any]) -> bool:
    if not cell.best or cell.value is None or column.get("even") is None:
        return cell.best
    above = cell.value - column["even"] * metric(column).scale
    return above >= 0 if column["better"] == "high" else above <= 0


def _sections(rows: Sequence[Mapping[str, Any]]) -> frozenset[int]:
    """Return the rows after which a line is drawn: between groups, and before the controls that end one."""
    found = set()
    for index, (before, after) in enumerate(pairwise(rows)):
        rest = [row["role"] for row in rows[index + 1 :] if row.get("group") == before.get("group")]
        controls = set(rest) == {"control"} and before["role"] != "control"
        if controls or before.get("group") != after.get("group"):
            found.add(index)
    return frozenset(found)


def _paper_columns(table: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the columns for which the paper has a figure, known or not."""
    found = {key for cells in (table["paper"] or {"cells": {}})["cells"].values() for key in cells}
    return [column for column in table["columns"] if column["key"] in found]


def _paper(row: Mapping[str, Any], columns: Sequence[Mapping[str, Any]], table: Mapping[str, Any]) -> Iterator[Cell]:
    for column in columns:
        text = paper(row, column["key"], table)
        yield BLANK if text is None else Cell(text, tone="missing" if text == UNKNOWN else "")


def paper(row: Mapping[str, Any], key: str, table: Mapping[str, Any]) -> str | None:
    """Return the paper's figure of a row as it is given there, or None where the paper has no such cell."""
    cells = (table["paper"] or {"cells": {}})["cells"]
    found = cells.get(full_name(row), cells.get(row["label"], {})).get(key)
    return None if found is None else str(found)


def selection(study: Mapping[str, Any]) -> Table | None:
    """Return how the KL coefficients were chosen: win rates over the grid, the chosen one in bold; None without it."""
    chosen = study["selection"]
    if chosen is None:
        return None
    group = f"win rate on {chosen['suite']}, %, at KL coefficient"
    families = any(each.get("family") for each in chosen["chosen"])
    columns = [Column("arm", left=True), *(Column(f"{value:g}", group) for value in chosen["grid"]), Column("chosen")]
    rows = []
    for each in chosen["chosen"]:
        rates = {entry["coefficient"]: entry["rate"] for entry in each["curve"]}
        cells = [minus.cell(measured(rates.get(value), METRICS["win_rate"])) for value in chosen["grid"]]
        cells = [
            replace(cell, best=value == each["coefficient"]) for cell, value in zip(cells, chosen["grid"], strict=True)
        ]
        picked = BLANK if each["coefficient"] is None else Cell(f"{each['coefficient']:g}{_mark(1) * each['edge']}")
        keys = [Cell(each.get("family") or "", tone="name")] * families + [Cell(each["arm"], tone="name")]
        rows.append([*keys, *cells, picked])
    caption = (
        f"Bold: chosen. Rule: {chosen['rule']}. {chosen['replicates']:,} "
        f"{'replicate' if chosen['replicates'] == 1 else 'replicates'}, {chosen['prompts']:,} prompts."
    )
    notes = [f"{_mark(1)} {_AT_EDGE}"] if any(each["edge"] for each in chosen["chosen"]) else []
    names = [each.get("family") for each in chosen["chosen"]]
    breaks = frozenset(index for index, (before, after) in enumerate(pairwise(names)) if before != after)
    columns = [Column("family", left=True), *columns] if families else columns
    grid = Grid("How the KL coefficients were chosen", caption, columns, rows, breaks, 1 + families, notes)
    return Table("selection", grid, [each.get("role", "other") for each in chosen["chosen"]])
