"""The tables of a study as LaTeX (booktabs): floats and small print that a paper takes with one \\input."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any
from unicodedata import lookup

from salsa.report.grid import Cell
from salsa.report.study import arms, claims, gaps, reading, tables
from salsa.report.study.schema import leading, others
from salsa.report.study.tables import Table

PACKAGES = ("booktabs", "graphicx")
ALONE = (
    r"pdflatex -jobname table '\documentclass{article}\usepackage[a4paper,margin=2.5cm]{geometry}"
    rf"\usepackage{{{','.join(PACKAGES)}}}\begin{{document}}\input{{table}}\end{{document}}'"
)
"""The command that sets the file by itself, where it is called table.tex."""
# With pdfTeX a letter beyond Latin script has no glyph, and would stop the run: it is named by its number there.
_LETTER = r"\providecommand{\anyletter}[2]{\ifdefined\Umathcode #1\else U+#2\fi}"
FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""What makes a table that is wider than the line narrower; closed by a brace."""
_WIDEST = 130
"""Letters of a line of a table about, an interval's counted as less: of more, columns go on in another table."""
_SMALLER, _BETWEEN = 0.75, 2.5
"""Of a letter: how wide one of an interval is; and what stands between columns, in letters."""
_SHORT = 400
"""Letters of the notes of a table that stand in its float; longer ones follow it."""
_NARROWEST = 16
"""Letters of a line of the heading of a group."""
_HERE, _CLAIM, _WORD = 0.36, 0.36, 0.18
"""Of the line: the columns of the paper's claims."""
_GREEK = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu"),
    *("xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"),
    *("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"),
)
"""Names of letters that LaTeX has in mathematics."""


def _greek(name: str) -> str:
    case = "CAPITAL" if name[0].isupper() else "SMALL"
    return lookup(f"GREEK {case} LETTER {name.upper().replace('LAMBDA', 'LAMDA')}")


_SPECIAL: Mapping[str, str] = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\ttfamily\char34}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "\u00a0": "~",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "−": r"\ensuremath{-}",
    "±": r"\ensuremath{\pm}",
    "·": r"\ensuremath{\cdot}",
    "×": r"\ensuremath{\times}",
    "√": r"\ensuremath{\surd}",
    "≤": r"\ensuremath{\leq}",
    "≥": r"\ensuremath{\geq}",
    "→": r"\ensuremath{\rightarrow}",
    "▲": r"\ensuremath{\triangle}",
    "▼": r"\ensuremath{\nabla}",
    "…": r"\ldots{}",
    **{mark: rf"\textsuperscript{{{digit}}}" for digit, mark in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{_greek(name): rf"\ensuremath{{\{name}}}" for name in _GREEK},
}
_LETTERS = frozenset(map(chr, (*range(0x20, 0x7F), *range(0xC0, 0x17F)))) - {"\u00d7", "\u00f7", "\u0149", "\u017f"}
"""What T1 fonts have besides: ASCII, and the Latin letters with accents."""


def document(study: Mapping[str, Any]) -> str:
    """Return all tables of a study as floats, for pdfTeX, XeTeX and LuaTeX; all text is escaped.

    What follows a table is text that breaks over pages, because a float larger than one cannot be set; notes of a line
    or two stay with their table. A comment says which packages are needed, and how the file is set by itself.
    """
    shown, chosen = tables.tables(study), tables.selection(study)
    main, rest = shown[:1], [*shown[1:], *([chosen] if chosen else [])]
    parts = [
        f"% {_comment(study['title'])}; study {_comment(study['fingerprint'])}",
        rf"% In a paper: \usepackage{{{','.join(PACKAGES)}}}, and \input this file. Letters such as \dj need T1 fonts.",
        f"% By itself: {ALONE}",
        _LETTER,
    ]
    for table in main:
        parts += _floats(table)
    parts += _notes(study["title"], _said(study, shown))
    parts += _paper(study)
    for table in rest:
        parts += _floats(table)
    return "\n".join(parts) + "\n"


def _said(study: Mapping[str, Any], shown: list[Table]) -> list[str]:
    """Return what follows the main table: the verdicts, what is missing, and how to read it."""
    said = [f"Missing: {gap}" for gap in gaps.sentences(study)]
    said += [f"{verdict['sentence']}." for verdict in [*leading(study), *others(study)]]
    said += [*reading.decided(study), *(f"Warning: {warning}" for warning in study["warnings"])]
    said += [f"{study['question']} {reading.about(study)}."]
    said += [f"{arm}: {'; '.join(part.text for part in parts)}." for arm, parts in arms.arms(study).items()]
    return [*said, *reading.sentences(study, shown), *reading.marks(study, shown, coloured=False)]


def _notes(about: str, said: Sequence[str]) -> Iterator[str]:
    """Yield small print below what it is about, outside of any float; nothing without any."""
    if said:
        yield rf"\par\smallskip{{\footnotesize\raggedright\textit{{{escape(about)}}}\par}}"
    yield from _lines(said)


def _lines(said: Sequence[str]) -> Iterator[str]:
    yield from (rf"\par\smallskip{{\footnotesize\raggedright {escape(each)}\par}}" for each in said)


def _comment(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def escape(text: str) -> str:
    """Return text that LaTeX sets as itself."""
    # Two hyphens, commas, or question or exclamation marks before a grave accent would become one letter.
    return re.sub(r"(?<=([-,]))(?=\1)", "{}", "".join(_escaped(letter) for letter in text))


def _escaped(letter: str) -> str:
    if letter in _SPECIAL:
        return _SPECIAL[letter]
    if letter in _LETTERS:
        return letter
    return rf"\anyletter{{{letter}}}{{{ord(letter):04X}}}"


def _floats(table: Table) -> Iterator[str]:
    """Yield a table, or several where its columns have no room beside each other, with its notes at the last.

    The paper's columns are the last, and so together.
    """
    grid, names = table.grid, 1 if table.grouped else 0
    blocks = _blocks(table, names)
    short = sum(map(len, grid.notes)) <= _SHORT
    for number, block in enumerate(blocks, 1):
        part = f" ({number} of {len(blocks)})" if len(blocks) > 1 else ""
        yield f"\n% table {_comment(table.name)}{part}"
        yield from (r"\begin{table}[htbp]", r"\centering\small")
        yield rf"\caption{{{escape(f'{grid.title}{part}. {grid.caption}')}}}"
        yield FIT
        columns = [grid.columns[place] for place in block]
        yield rf"\begin{{tabular}}{{{''.join('l' if column.left else 'r' for column in columns)}}}"
        yield r"\toprule"
        yield from _headings(table, block)
        yield r"\midrule"
        yield from _rows(table, names, block)
        yield r"\bottomrule"
        yield r"\end{tabular}}"
        yield from _lines(grid.notes if short and number == len(blocks) else ())
        yield r"\end{table}"
    yield from _notes(grid.title, () if short else grid.notes)


def _blocks(table: Table, names: int) -> list[list[int]]:
    """Return the columns of each table that a line has room for, evenly filled; each begins with the row's name."""
    widths = _widths(table)
    rest = list(range(names + 1, len(widths)))
    room = _WIDEST - widths[names]
    count = -(-int(sum(widths[place] for place in rest)) // max(1, int(room))) if rest else 1
    while True:
        blocks = _filled(rest, widths, sum(widths[place] for place in rest) / count)
        if all(_together(table, block) <= room or len(block) == 1 for block in blocks):
            return [[names, *block] for block in blocks]
        count += 1


def _widths(table: Table) -> list[float]:
    """Return the width of each column in letters, about, each with its share of the heading of its group."""
    widths: list[float] = []
    for lines, inside in _groups(table, range(len(table.grid.columns))):
        shared = (_longest(lines) + _BETWEEN) / len(inside)
        widths += [max(_width(table, place), shared) for place in inside]
    return widths


def _together(table: Table, block: Sequence[int]) -> float:
    """Return how wide columns are beside each other: a group's heading stands over those of it that are there."""
    return sum(
        max(sum(_width(table, place) for place in inside), _longest(lines) + _BETWEEN)
        for lines, inside in _groups(table, block)
    )


def _groups(table: Table, block: Sequence[int]) -> Iterator[tuple[list[str], list[int]]]:
    """Yield the heading of each group of columns, in lines that are about as wide as those, and its columns."""
    columns = table.grid.columns
    for group, span in groupby(block, key=lambda place: columns[place].group):
        inside = list(span)
        width = int(sum(_width(table, place) for place in inside))
        yield textwrap.wrap(group, max(_NARROWEST, width), break_long_words=False), inside


def _longest(lines: Sequence[str]) -> int:
    return max(map(len, lines), default=0)


def _filled(places: Sequence[int], widths: Sequence[float], least: float) -> list[list[int]]:
    """Return places in blocks that are about as wide as `least`."""
    blocks: list[list[int]] = [[]]
    for place in places:
        before = sum(widths[each] for each in blocks[-1])
        if blocks[-1] and before + widths[place] / 2 > least:
            blocks.append([])
        blocks[-1].append(place)
    return blocks


def _width(table: Table, place: int) -> float:
    """Return the width of a column in letters, about, without the heading of its group."""
    column = table.grid.columns[place]
    cells = (row[place] for row in table.grid.rows)
    inside = max((len(cell.text) + _SMALLER * len(cell.interval) for cell in cells), default=0.0)
    return max(inside, len(column.heading)) + _BETWEEN


def _paper(study: Mapping[str, Any]) -> Iterator[str]:
    """Yield the box of what the paper reports, beside what came out here."""
    if study["paper"] is None:
        return
    yield "\n% what the paper reports"
    yield from (r"\begin{table}[htbp]", r"\centering\small")
    yield rf"\caption{{{escape(f'{claims.TITLE}. {claims.about(study)}')}}}"
    widths = "".join(rf"p{{{share}\linewidth}}" for share in (_CLAIM, _HERE, _WORD))
    yield rf"\begin{{tabular}}{{@{{}}{widths}@{{}}}}"
    yield from (r"\toprule", r"{}The paper & Here & \\", r"\midrule")
    for each in claims.claims(study):
        cells = (rf"\raggedright {escape(text)}" for text in (each.claim, each.here, each.verdict))
        yield rf"{{}}{' & '.join(cells)} \tabularnewline\addlinespace"
    yield from (r"\bottomrule", r"\end{tabular}", r"\end{table}")


def _headings(table: Table, block: Sequence[int]) -> Iterator[str]:
    columns = [table.grid.columns[place] for place in block]
    if any(column.group for column in columns):
        groups, rules, start = [], "", 1
        for lines, inside in _groups(table, block):
            count, heading = len(inside), r"\\".join(map(escape, lines))
            heading = rf"\shortstack{{{heading}}}" if len(lines) > 1 else heading
            groups.append(rf"\multicolumn{{{count}}}{{c}}{{{heading}}}")
            rules += rf"\cmidrule(lr){{{start}-{start + count - 1}}}" if lines else ""
            start += count
        yield f"{' & '.join(groups)} \\\\"
        yield rules
    yield f"{{}}{' & '.join(escape(column.heading) for column in columns)} \\\\"


def _rows(table: Table, names: int, block: Sequence[int]) -> Iterator[str]:
    """Yield the rows; a group's name stands on a line of its own above them."""
    grid, above = table.grid, None
    for index, row in enumerate(grid.rows):
        if table.grouped and row[0].text != above:
            above = row[0].text
            yield rf"\multicolumn{{{len(block)}}}{{l}}{{\textit{{{escape(above)}}}}} \\"
        # A bracket or a star at the start would be read as an argument of the end of the row above.
        yield f"{{}}{' & '.join(_cell(row[place]) for place in block)} \\\\"
        if index in grid.sections:
            yield r"\midrule" if _ends(table, index) else r"\addlinespace"


def _ends(table: Table, index: int) -> bool:
    """Return whether a row is the last one of its group (or, without groups, of a section)."""
    rows = table.grid.rows
    return not table.grouped or rows[index][0].text != rows[index + 1][0].text


def _cell(cell: Cell) -> str:
    text = rf"\textbf{{{escape(cell.text)}}}" if cell.best else escape(cell.text)
    text = rf"\textit{{{text}}}" if cell.tone == "missing" else text
    return rf"{text} {{\scriptsize {escape(cell.interval)}}}" if cell.interval else text
