"""The tables of a study as LaTeX (booktabs): one document that compiles, from which each table can be taken."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any
from unicodedata import lookup

from salsa.report.grid import Cell, Column
from salsa.report.study import reading, tables
from salsa.report.study.tables import Table

# With pdfTeX a letter beyond Latin script has no glyph, and would stop the run: it is named by its number there.
_PREAMBLE = r"""\documentclass{article}
\usepackage[a4paper,landscape,margin=2cm]{geometry}
\usepackage{iftex}
\ifPDFTeX
  \usepackage[T1]{fontenc}
  \usepackage[utf8]{inputenc}
  \usepackage{lmodern}
\else
  \usepackage{fontspec}
\fi
\usepackage{textcomp}
\usepackage{booktabs}
\usepackage{graphicx}
\newcommand{\anyletter}[2]{\ifPDFTeX U+#2\else #1\fi}
\begin{document}
"""
FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""What makes a table that is wider than the page narrower; closed by a brace."""
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
    '"': r"\textquotedbl{}",
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
    """Return all tables of a study as one LaTeX document for pdfTeX, XeTeX and LuaTeX; all text is escaped."""
    shown = tables.tables(study)
    chosen = tables.selection(study)
    every = [*shown, *([chosen] if chosen else [])]
    parts = [
        f"% {_comment(study['title'])}; study {_comment(study['fingerprint'])}",
        "% Needs booktabs, graphicx, iftex and textcomp; a table can be taken with the definition of \\anyletter.",
        _PREAMBLE.rstrip(),
        rf"\section*{{{escape(study['title'])}}}",
        escape(study["question"]),
    ]
    parts += [rf"\par {escape(verdict['sentence'])}" for verdict in study["verdicts"]]
    for table in every:
        parts += [f"\n% table {_comment(table.name)}", *_table(table)]
    how = [*reading.sentences(study, shown), *reading.marks(study, shown, coloured=False)]
    parts += [rf"\par {escape(sentence)}" for sentence in how]
    return "\n".join([*parts, r"\end{document}"]) + "\n"


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


def _table(table: Table) -> Iterator[str]:
    grid = table.grid
    names = 1 if table.grouped else 0
    yield r"\begin{table}[htbp]"
    yield r"\centering\small"
    yield rf"\caption{{{escape(grid.title)}. {escape(grid.caption)}}}"
    columns = grid.columns[names:]
    yield FIT
    yield rf"\begin{{tabular}}{{{''.join('l' if column.left else 'r' for column in columns)}}}"
    yield r"\toprule"
    yield from _headings(columns)
    yield r"\midrule"
    yield from _rows(table, names, len(columns))
    yield r"\bottomrule"
    yield r"\end{tabular}}"
    yield from (rf"\par {{\footnotesize {escape(note)}}}" for note in grid.notes)
    yield r"\end{table}"


def _headings(columns: Sequence[Column]) -> Iterator[str]:
    if any(column.group for column in columns):
        groups, rules, start = [], "", 1
        for group, span in groupby(columns, key=lambda column: column.group):
            count = len(list(span))
            groups.append(rf"\multicolumn{{{count}}}{{c}}{{{escape(group)}}}")
            rules += rf"\cmidrule(lr){{{start}-{start + count - 1}}}" if group else ""
            start += count
        yield f"{' & '.join(groups)} \\\\"
        yield rules
    yield f"{{}}{' & '.join(escape(column.heading) for column in columns)} \\\\"


def _rows(table: Table, names: int, width: int) -> Iterator[str]:
    """Yield the rows; a group's name stands on a line of its own above them."""
    grid, above = table.grid, None
    for index, row in enumerate(grid.rows):
        if table.grouped and row[0].text != above:
            above = row[0].text
            yield rf"\multicolumn{{{width}}}{{l}}{{\textit{{{escape(above)}}}}} \\"
        # A bracket or a star at the start would be read as an argument of the end of the row above.
        yield f"{{}}{' & '.join(_cell(cell) for cell in row[names:])} \\\\"
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
