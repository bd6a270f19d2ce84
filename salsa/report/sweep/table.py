"""The tidy table of a sweep, a row an experiment and suite, as plain rows, CSV and Parquet."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from salsa.report.markup import visible
from salsa.report.schema import POOLED
from salsa.report.sweep.cells import Cell, distinct, is_number, rate_columns, row_of, shown, swept, union

_FORM = 1
"""Version of the columns, kept in the Parquet file."""
_NOTE = (
    f"One row an experiment and suite; suite '{POOLED}' is the mean over suites. KL, recall and perplexity belong to "
    "the experiment and are the same in each of its rows. Shares and win rates from 0 to 1, a tie counts one half; "
    "KL in nats a reply at temperature 1; length in tokens. *_low and *_high: the interval at `level`. Empty: missing."
)
_OF_SUITE = ("reward", "length", "unfinished")
_INTERVAL = ("", "_low", "_high")
_TAKEN = {"job", "jobs", "state", "suite", "policy", "opponent", "level", "judge", "recall", "perplexity", "reason"}
_TAKEN |= {f"{name}{end}" for name in _OF_SUITE for end in _INTERVAL} | {"fingerprint", "policy_fingerprint"}
_TAKEN_STARTS = ("kl_", "win_rate_", "judge_", "opponent_")
_WHOLE = 2**63


def rows(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return the table: a row for each experiment and suite, the mean over suites last; what is missing is None.

    An experiment that several jobs led to is there once, `jobs` names them all. One without a result has a row for
    each suite that the others have, with its state and the reason.
    """
    done = [cell.experiment for cell in cells if cell.experiment is not None]
    known = [*union(done, "suites"), POOLED]
    types = columns(cells)
    result = []
    for cell, jobs in distinct(cells):
        suites = known if cell.experiment is None else [*cell.experiment["suites"], POOLED]
        for suite in suites:
            found = _identity(cell, jobs) | {"suite": suite}
            if cell.experiment is not None:
                found |= dict(_figures(cell.experiment, suite))
            result.append({name: _typed(found.get(name), kind) for name, kind in types.items()})
    return result


def columns(cells: Sequence[Cell]) -> dict[str, str]:
    """Return the columns in order with their types: "int", "float", "bool" or "str"."""
    done = [cell.experiment for cell in cells if cell.experiment is not None]
    types = {"job": "int", "jobs": "str"}
    types |= {column(key): _type([cell.keys.get(key) for cell in cells]) for key in swept(cells)}
    types |= {"state": "str", "suite": "str", "policy": "str", "opponent": "str", "level": "float"}
    types |= {"judge_name": "str", "judge_unit": "str", "judge": "float", "judge_low": "float", "judge_high": "float"}
    types["judge_n"] = "int"
    rates = dict.fromkeys(name for each in done for name in rate_columns(each).values())
    measured = ["opponent_judge", *(f"win_rate_vs_{name}" for name in rates), *_OF_SUITE]
    measured += [f"kl_{kind}_to_{anchor}" for anchor in union(done, "anchors") for kind in ("k1", "k3")]
    types |= {f"{name}{end}": "float" for name in measured for end in _INTERVAL}
    types |= {"recall": "float", "perplexity": "float"}
    prints = ("fingerprint", "policy_fingerprint", "opponent_fingerprint", "judge_fingerprint")
    return types | dict.fromkeys(prints, "str") | {"reason": "str"}


def column(key: str) -> str:
    """Return the column of a swept key: its name, or `swept.<name>` where a column of results has that name."""
    return f"swept.{key}" if key in _TAKEN or key.startswith(_TAKEN_STARTS) else key


def _type(values: Sequence[Any]) -> str:
    """Return the narrowest type that holds all values; None fits each."""
    given = [value for value in values if value is not None]
    if given and all(isinstance(value, bool) for value in given):
        return "bool"
    if not given or not all(is_number(value) for value in given):
        return "str"
    return "int" if all(isinstance(value, int) and abs(value) < _WHOLE for value in given) else "float"


def _typed(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "str":
        return visible(shown(value))
    return float(value) if kind == "float" else value


def _identity(cell: Cell, jobs: Sequence[int]) -> dict[str, Any]:
    about = {"job": cell.job, "jobs": " ".join(str(job) for job in jobs), "state": cell.state}
    about |= {"fingerprint": cell.fingerprint or None, "reason": cell.reason or None}
    return {column(key): value for key, value in cell.keys.items()} | about


def _figures(experiment: Mapping[str, Any], suite: str) -> Iterator[tuple[str, Any]]:
    """Yield the columns of one experiment on one suite."""
    policy, opponent = row_of(experiment, "policy"), row_of(experiment, "opponent")
    yield "level", experiment["level"]
    yield "judge_name", experiment["judge"]["name"]
    yield "judge_unit", experiment["judge"]["unit"]
    if opponent is not None:
        yield "opponent", opponent["name"]
        yield "opponent_fingerprint", opponent["fingerprint"]
        yield from _estimate("opponent_judge", (_results(opponent, suite) or {}).get("judge"))
    if policy is None:
        return
    yield "policy", policy["name"]
    yield "policy_fingerprint", policy["fingerprint"]
    yield "judge_fingerprint", _judges(policy, suite)
    found = _results(policy, suite) or {}
    yield from _estimate("judge", found.get("judge"))
    yield "judge_n", (found.get("judge") or {}).get("n")
    for name in _OF_SUITE:
        yield from _estimate(name, found.get(name))
    for name, shown_as in rate_columns(experiment).items():
        yield from _estimate(f"win_rate_vs_{shown_as}", found.get("win_rate", {}).get(name))
    for anchor, estimates in policy["kl"].items():
        for kind in ("k1", "k3"):
            yield from _estimate(f"kl_{kind}_to_{anchor}", estimates.get(kind))
    tax = policy["tax"] or {}
    yield "recall", tax.get("recall")
    yield "perplexity", tax.get("perplexity")


def _results(row: Mapping[str, Any], suite: str) -> Mapping[str, Any] | None:
    return row["pooled"] if suite == POOLED else row["suites"].get(suite)


def _judges(row: Mapping[str, Any], suite: str) -> str | None:
    """Return the fingerprints of the verdicts behind a suite's figures, or of all behind the mean; no model's own."""
    chosen = row["suites"].values() if suite == POOLED else [row["suites"].get(suite, {})]
    prints = [each.get("fingerprints", {}) for each in chosen]
    found = [value for own in prints for key, value in own.items() if key == "judge" or key.startswith("against ")]
    found = [value for value in found if value != row["fingerprint"]]
    return " ".join(filter(None, found)) or None


def _estimate(name: str, estimate: Mapping[str, Any] | None) -> Iterator[tuple[str, Any]]:
    for end, part in zip(_INTERVAL, ("value", "low", "high"), strict=True):
        yield f"{name}{end}", (estimate or {}).get(part)


def to_csv(cells: Sequence[Cell]) -> str:
    """Return the table as CSV; a missing value is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns(cells)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(cells))
    return text.getvalue()


def to_parquet(cells: Sequence[Cell], title: str) -> bytes:
    """Return the table as Parquet with typed columns; its metadata hold the title and how to read the columns."""
    # Imported here: it takes longer than all the rest, and what is shown in the terminal does not need it.
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "str": pa.string()}
    about = {"title": title, "form": str(_FORM), "note": _NOTE}
    schema = pa.schema([(name, types[kind]) for name, kind in columns(cells).items()], metadata=about)
    data = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows(cells), schema=schema), data)
    return data.getvalue().to_pybytes()
