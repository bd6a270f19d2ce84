"""Shows a study in the terminal: the verdict first, then the tables. No NumPy: it must be fast."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from salsa.report.study import arms, claims, gaps, reading, tables
from salsa.report.study.schema import leading, others, printable
from salsa.report.terminal import TerminalTable

_WIDTH = 120
_DECIDED, _OPEN = "cyan", "yellow"
_OF_CLAIMS = {"yes": "green", "no": "red", "open": "yellow"}


def show(study: Mapping[str, Any], console: Console | None = None) -> None:
    """Print a study so that a person grasps it at once; made for 120 columns, which files and pipes get."""
    if console is None:
        console = Console() if Console().is_terminal else Console(width=_WIDTH)
    console.print(terminal(study))


def terminal(study: Mapping[str, Any]) -> Group:
    """Return everything that the terminal shows of a study, as one thing that rich can print."""
    study = printable(study)
    parts: list[Any] = [Text.assemble((study["title"], "bold"), (f"  {study['study']}", "dim")), Text("")]
    for verdict in leading(study):
        parts += [Padding(_verdict(verdict, bold=True), (0, 0, 0, 2)), Text("")]
    parts += [Text(study["question"]), Text(reading.about(study), "dim")]
    parts += [Text(f"Missing: {gap}", "bold red") for gap in gaps.sentences(study)]
    parts += [*_arms(study), Text("")]
    parts += [Padding(_verdict(verdict), (0, 0, 0, 2)) for verdict in others(study)]
    parts += [Text(sentence, "dim") for sentence in reading.decided(study)]
    parts += [Text(f"Warning: {warning}", "red") for warning in study["warnings"]]
    parts += [Text("")] if study["verdicts"] or study["warnings"] else []
    shown, chosen = tables.tables(study), tables.selection(study)
    parts += [TerminalTable(grid) for table in shown[:1] for grid in table.blocks()]
    parts += [_paper(study), Text("")] if study["paper"] is not None else []
    rest = [*shown[1:], *([chosen] if chosen else [])]
    parts += [TerminalTable(grid) for table in rest for grid in table.blocks()]
    parts += [Text(sentence, "dim") for sentence in reading.sentences(study, shown)]
    parts += [Text(f"Note: {note}") for note in study["notes"]]
    took = reading.cost(study)
    parts += [Text(f"{took}.", "dim")] if took else []
    return Group(*parts)


def _verdict(verdict: Mapping[str, Any], bold: bool = False) -> Text:
    """Return a verdict behind a mark that tells by its form, too, whether it is decided."""
    decided = verdict["decided"] is not None
    style = f"{_DECIDED if decided else _OPEN}{' bold' if bold else ''}"
    return Text.assemble(("● " if decided else "○ ", style), (verdict["sentence"], style if bold else ""))


def _arms(study: Mapping[str, Any]) -> Iterator[Any]:
    """Yield what the arms are, a line each, where the study tells."""
    told = arms.arms(study)
    if told:
        yield Text(arms.TITLE, "dim")
    for arm, parts in told.items():
        what = "; ".join(part.text for part in parts)
        yield Padding(Text.assemble((arm, "bold"), f": {what}"), (0, 0, 0, 2))


def _paper(study: Mapping[str, Any]) -> Panel:
    """Return the box of what the paper reports, with what came out here under each sentence."""
    lines: list[Any] = [Text(claims.about(study), "dim")]
    for each in claims.claims(study):
        here = f"{each.here} ({each.verdict})" if each.here else each.verdict
        lines += [Text(f"Paper: {each.claim}"), Padding(Text(f"Here: {here}", _OF_CLAIMS[each.mark]), (0, 0, 0, 2))]
    return Panel(Group(*lines), title=claims.TITLE, title_align="left", border_style="dim")
