"""Draws a grid in the terminal: headings that span their group, and blocks side by side that fit any width."""

import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from salsa.report.grid import Cell, Grid, caption
from salsa.report.markup import one_line

_GAP = "  "
_NARROWEST_KEY = 12
_STYLES: Mapping[str, str] = {"better": "green", "worse": "red", "missing": "dim italic", "blank": "dim", "own": "cyan"}


class TerminalTable:
    """A grid that rich can print. Where it is too wide, names wrap first; then the columns go on in another block."""

    def __init__(self, grid: Grid) -> None:
        self.grid = _on_lines(grid)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.grid.title, "bold")
        for number, columns in enumerate(self._blocks(options.max_width)):
            if number:
                yield Text("")
            yield from self._block(columns, options.max_width)
        below = caption(self.grid, half_widths=True, coloured=True)
        if below:
            yield Text(below, "dim")
        yield from (Text(note) for note in self.grid.notes)
        yield Text("")

    def _blocks(self, width: int) -> list[list[int]]:
        """Return the column numbers of each block; every block begins with the key columns (the models' names)."""
        keys, rest = list(range(self.grid.keys)), list(range(self.grid.keys, len(self.grid.columns)))
        blocks = [[*keys]]
        for column in rest:
            if len(blocks[-1]) > len(keys) and self._narrowest([*blocks[-1], column]) > width:
                blocks.append([*keys])
            blocks[-1].append(column)
        return blocks

    def _narrowest(self, columns: Sequence[int]) -> int:
        """Return the least width of a block, with its widest key column wrapped as narrow as it may be."""
        widths = self._widths(columns)
        key = self._widest_key(widths)
        return _total(widths.values()) - (widths[key] - self._least(key))

    def _widest_key(self, widths: Mapping[int, int]) -> int:
        return max(range(self.grid.keys), key=lambda column: widths[column])

    def _least(self, key: int) -> int:
        texts = [self.grid.columns[key].heading, *(row[key].text for row in self.grid.rows)]
        longest_word = max(cell_len(word) for text in texts for word in text.split() or [""])
        return min(max(longest_word, _NARROWEST_KEY), max(cell_len(text) for text in texts))

    def _widths(self, columns: Sequence[int]) -> dict[int, int]:
        widths = {}
        for column in columns:
            cells = [cell_len(_content(row[column]).plain) for row in self.grid.rows]
            widths[column] = max([cell_len(self.grid.columns[column].heading), *cells])
        for group, span in self._spans(columns):
            # A group's heading that is longer than its columns widens the last of them.
            widths[span[-1]] += max(0, cell_len(group) - _total([widths[column] for column in span]))
        return widths

    def _spans(self, columns: Sequence[int]) -> list[tuple[str, list[int]]]:
        spans: list[tuple[str, list[int]]] = []
        for column in columns:
            group = self.grid.columns[column].group
            if spans and spans[-1][0] == group:
                spans[-1][1].append(column)
            else:
                spans.append((group, [column]))
        return spans

    def _block(self, columns: Sequence[int], width: int) -> Iterator[Text]:
        widths = self._widths(columns)
        key = self._widest_key(widths)
        overflow = max(0, _total(widths.values()) - width)
        widths[key] = max(self._least(key), widths[key] - overflow)
        if any(self.grid.columns[column].group for column in columns):
            yield self._group_headings(columns, widths)
        yield _line(self._aligned(Text(self.grid.columns[column].heading), column, widths) for column in columns)
        rule = Text("─" * _total(widths.values()), "dim", no_wrap=True, overflow="crop")
        yield rule
        for index, row in enumerate(self.grid.rows):
            yield from self._row(row, columns, key, widths)
            if index in self.grid.sections:
                yield rule

    def _group_headings(self, columns: Sequence[int], widths: Mapping[int, int]) -> Text:
        parts = []
        for group, span in self._spans(columns):
            width = _total([widths[column] for column in span])
            ruled = bool(group) and cell_len(group) + 4 <= width
            parts.append(Text(f" {group} ".center(width, "─") if ruled else group.center(width), "dim"))
        return _line(parts)

    def _row(self, row: Sequence[Cell], columns: Sequence[int], key: int, widths: Mapping[int, int]) -> Iterator[Text]:
        """Yield the lines of one row: its cells stand beside the first line of its wrapped name."""
        names = textwrap.wrap(row[key].text, widths[key]) or [""]
        cells = {column: _content(row[column]) for column in columns}
        style = cells[key].style
        cells[key] = Text(names[0], style)
        yield _line(self._aligned(cells[column], column, widths) for column in columns)
        for name in names[1:]:
            parts = [Text(name, style) if column == key else Text("") for column in columns[: key + 1]]
            yield _line(self._aligned(part, column, widths) for part, column in zip(parts, columns, strict=False))

    def _aligned(self, text: Text, column: int, widths: Mapping[int, int]) -> Text:
        space = " " * (widths[column] - cell_len(text.plain))
        return Text.assemble(text, space) if self.grid.columns[column].left else Text.assemble(space, text)


def _on_lines(grid: Grid) -> Grid:
    """Return the grid with every text of the table itself on one line: a line break in a name would tear its row."""
    columns = [replace(each, heading=one_line(each.heading), group=one_line(each.group)) for each in grid.columns]
    rows = [[replace(cell, text=one_line(cell.text)) for cell in row] for row in grid.rows]
    return replace(grid, title=one_line(grid.title), columns=columns, rows=rows)


def _content(cell: Cell) -> Text:
    style = _STYLES.get(cell.tone, "")
    text = Text(cell.text, style=f"{style} bold".strip() if cell.best else style)
    # The half-width loses its leading zero: it is read as the decimals of the number before it.
    return Text.assemble(text, (f" {cell.spread.replace('±0.', '±.')}", "dim")) if cell.spread else text


def _line(parts: Iterable[Text]) -> Text:
    line = Text(_GAP).join(parts)
    line.no_wrap, line.overflow = True, "crop"
    line.rstrip()
    return line


def _total(widths: Collection[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)
