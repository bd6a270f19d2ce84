"""The columns of a sweep's tables: what is measured, and where an experiment has it. No NumPy: it must be fast."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from salsa.report.grid import Cell as Entry
from salsa.report.grid import Column, measured
from salsa.report.judging import scored
from salsa.report.schema import METRICS, POOLED, Metric
from salsa.report.sweep.cells import rate_columns, row_of, union
from salsa.report.tables import kl_cell, suite_cell, win_cell

DASH = Entry("–", tone="missing")
Pick = Callable[[Mapping[str, Any]], Entry]


@dataclass(frozen=True)
class Quantity:
    """A column: its heading, its metric, where an experiment has it, and whether experiments compete in it."""

    column: Column
    metric: Metric
    of: Pick
    competing: bool = True


def judge(role: str, group: str = "") -> Quantity:
    """Return the judge's score of the policy or the opponent over all suites."""
    metric = METRICS["judge"]
    return Quantity(
        Column(role, group), metric, _of(role, lambda row: suite_cell(row, POOLED, "judge")), role == "policy"
    )


def rate(name: str) -> Quantity:
    """Return the policy's win rate over all suites against the opponent, or against the model of that name."""

    def of(experiment: Mapping[str, Any]) -> Entry:
        against = next((model for model, column in rate_columns(experiment).items() if column == name), None)
        return DASH if against is None else _of("policy", lambda row: win_cell(row, POOLED, against))(experiment)

    return Quantity(Column(f"vs {name}", "policy's win rate, %"), METRICS["win_rate"], of)


def principal(experiments: Sequence[Mapping[str, Any]]) -> list[Quantity]:
    """Return what is shown of each experiment first: judge score, win rates, KL to the first anchor."""
    divergences = [
        Quantity(Column(f"KL to {anchor}"), METRICS["k1"], _of("policy", _k1(anchor)))
        for anchor in union(experiments, "anchors")[:1]
    ]
    scores = [judge("policy", _judges(experiments))] if scores_there(experiments) else []
    return [*scores, *_rates(experiments), *divergences]


def everything(experiments: Sequence[Mapping[str, Any]]) -> list[Quantity]:
    """Return all that is measured of a policy, and its opponent's judge score."""
    judges = _judges(experiments)
    found = [judge(role, judges) for role in ("policy", "opponent") if scores_there(experiments)]
    found += _rates(experiments)
    for anchor in union(experiments, "anchors"):
        found.append(Quantity(Column(f"KL to {anchor}, k1 (k3)"), METRICS["k1"], _of("policy", _both(anchor))))
    for name in ("reward", "length", "unfinished"):
        found.append(Quantity(_column(name), METRICS[name], _of("policy", _reply(name))))
    for name in ("recall", "perplexity"):
        found.append(Quantity(_column(name), METRICS[name], _of("policy", _tax(name))))
    return found


def scores_there(experiments: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a judge was to score replies in some experiment, or there is none: some only compare them."""
    return not experiments or any(scored(each) for each in experiments)


def one_judge(experiments: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether all experiments have the same judge, so that the best of a column can be told."""
    return len({each["judge"]["name"] for each in experiments}) == 1


def _judges(experiments: Sequence[Mapping[str, Any]]) -> str:
    names = dict.fromkeys(f"{each['judge']['name']}, {each['judge']['unit']}" for each in experiments)
    return " / ".join(names) or "judge"


def _rates(experiments: Sequence[Mapping[str, Any]]) -> list[Quantity]:
    names = dict.fromkeys(name for each in experiments for name in rate_columns(each).values())
    return [rate(name) for name in names or ("opponent",)]


def _column(name: str) -> Column:
    return Column(", ".join(filter(None, (METRICS[name].label, METRICS[name].unit))))


def _of(role: str, pick: Pick) -> Pick:
    """Return what finds an entry in an experiment, given what finds it in the row of the model with that role."""

    def of(experiment: Mapping[str, Any]) -> Entry:
        row = row_of(experiment, role)
        entry = DASH if row is None else pick(row)
        return DASH if entry.tone == "missing" else entry

    return of


def _k1(anchor: str) -> Pick:
    return lambda row: measured(row["kl"].get(anchor, {}).get("k1"), METRICS["k1"])


def _both(anchor: str) -> Pick:
    return lambda row: kl_cell(row, anchor)


def _reply(name: str) -> Pick:
    return lambda row: suite_cell(row, POOLED, name)


def _tax(name: str) -> Pick:
    return lambda row: measured((row["tax"] or {}).get(name), METRICS[name])
