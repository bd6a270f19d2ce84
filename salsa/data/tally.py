"""Counts what is wrong with rows, keeps the places of the first ones, and says when it is too much."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from salsa.data.forms import MalformedRowError, WrongColumnsError
from salsa.data.rows import DataError, Table

T = TypeVar("T")

Progress = Callable[[int, int, str], None]

_EXAMPLES = 5  # places kept for each reason
_PATIENCE = 200  # rows without any accepted form after which a table is refused without reading on
_REPORT_ROWS = 5000  # rows between two reports of progress


@dataclass(frozen=True)
class Form:
    """A kind of record: what it is called, how a row becomes one, and the columns and layouts that are accepted."""

    what: str
    parse: Callable[[Mapping[str, Any]], Any]
    columns: frozenset[str]
    accepted: tuple[str, ...]


@dataclass
class TableTally:
    """What was found in one table."""

    name: str
    what: str
    rows: int = 0
    used: int = 0
    malformed: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, place: str) -> None:
        """Count one malformed row."""
        self.malformed[reason] = self.malformed.get(reason, 0) + 1
        places = self.examples.setdefault(reason, [])
        if len(places) < _EXAMPLES:
            places.append(place)

    def as_record(self) -> dict[str, Any]:
        """Return the tally as a JSON object."""
        return {
            "name": self.name,
            "what": self.what,
            "rows": self.rows,
            "used": self.used,
            "malformed": {
                reason: {"count": count, "first": self.examples[reason]}
                for reason, count in sorted(self.malformed.items(), key=lambda item: (-item[1], item[0]))
            },
        }

    def lines(self) -> list[str]:
        """Return one line a reason, with the places of the first rows."""
        record = self.as_record()["malformed"]
        return [f"  {entry['count']} x {reason}: {'; '.join(entry['first'])}" for reason, entry in record.items()]


class Reader:
    """Reads tables into records, one tally a table."""

    def __init__(self, max_malformed: float, tables: int, progress: Progress | None = None) -> None:
        self.max_malformed = max_malformed
        self.tables = tables
        self.progress = progress
        self.tallies: list[TableTally] = []

    def read(self, table: Table, form: Form) -> Iterator[Any]:
        """Yield the records of a table in order; malformed rows are counted and left out.

        Raises DataError for a table without rows, without accepted columns, or with more than the accepted share of
        malformed rows (told after the last row).
        """
        tally = TableTally(table.name, form.what)
        self.tallies.append(tally)
        foreign = 0
        for row in table.rows(form.columns):
            tally.rows += 1
            if row.values is None:
                tally.add(row.problem, row.place)
            else:
                try:
                    record = form.parse(row.values)
                except MalformedRowError as error:
                    tally.add(str(error), row.place)
                except WrongColumnsError:
                    foreign += 1
                    tally.add("none of the accepted columns", row.place)
                else:
                    tally.used += 1
                    yield record
            if foreign == tally.rows == _PATIENCE:
                break
            if tally.rows % _REPORT_ROWS == 0:
                self._report(tally)
        self._report(tally)
        self._check(table, form, tally, foreign)

    def _report(self, tally: TableTally) -> None:
        if self.progress:
            self.progress(len(self.tallies), self.tables, f"{tally.what}: {tally.rows} rows of {tally.name}")

    def _check(self, table: Table, form: Form, tally: TableTally, foreign: int) -> None:
        if tally.rows == 0:
            raise DataError(f"{table.name} holds no rows; fetch or write it again, or name another file")
        if foreign and not tally.used and foreign + tally.malformed.get("not JSON", 0) == tally.rows:
            found = ", ".join(table.columns()) or "none"
            raise DataError(
                f"{table.name} has the wrong columns for {form.what}; rename them, or name another file\n"
                f"  found: {found}\n  accepted: " + "\n         or ".join(form.accepted)
            )
        bad = tally.rows - tally.used
        if bad > self.max_malformed * tally.rows or not tally.used:
            raise DataError(
                f"{table.name}: {bad} of {tally.rows} rows are malformed ({bad / tally.rows:.1%}; at most "
                f"{self.max_malformed:.1%} are accepted); correct them, or raise data.max_malformed\n"
                + "\n".join(tally.lines())
            )
