"""The cells of a sweep: which value each swept key had, and what became of its experiment. No NumPy: fast."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STATES = ("done", "running", "failed", "missing")
REPEATS = ("replicate", "seed")
"""Keys whose values have no order and no size: they draw everything anew, so they repeat an experiment."""


@dataclass(frozen=True)
class Cell:
    """One job of a sweep.

    `keys` maps each swept key to this job's value, `fingerprint` is its report's ("" where it could not be planned),
    `experiment` its `experiment.json`, there if and only if `state` is "done". `reason` says why it is not.
    """

    job: int
    keys: Mapping[str, Any]
    fingerprint: str
    experiment: Mapping[str, Any] | None
    state: str
    reason: str = ""
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"job {self.job}: state is {self.state!r}; it must be one of {', '.join(STATES)}")
        if (self.experiment is not None) != (self.state == "done"):
            found = "no experiment" if self.experiment is None else "an experiment"
            raise ValueError(f"job {self.job}: state is {self.state!r} with {found}; only a done cell has one")

    @property
    def label(self) -> str:
        """The swept keys with their values, as they are typed on the command line."""
        return labelled(self.keys) or f"job {self.job}"


def labelled(keys: Mapping[str, Any]) -> str:
    """Return keys and values as they are typed on the command line."""
    return " ".join(f"{key}={shown(value)}" for key, value in keys.items())


def shown(value: Any) -> str:
    """Return a key's value as it is typed on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def swept(cells: Iterable[Cell]) -> list[str]:
    """Return the keys of all cells, in their order."""
    return list(dict.fromkeys(key for cell in cells for key in cell.keys))


def numeric(cells: Sequence[Cell]) -> list[str]:
    """Return the swept keys that are numbers in every cell that has them, with at least two different values."""
    found = []
    for key in swept(cells):
        values = [cell.keys[key] for cell in cells if key in cell.keys]
        if all(is_number(value) for value in values) and len(set(values)) > 1:
            found.append(key)
    return found


def is_number(value: Any) -> bool:
    """Return whether a key's value is a number; truth values are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def distinct(cells: Iterable[Cell]) -> Iterator[tuple[Cell, list[int]]]:
    """Yield each experiment once, as the first job that led to it, with the numbers of all jobs that did."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.fingerprint or f"job {cell.job}", []).append(cell)
    for group in groups.values():
        first = next((cell for cell in group if cell.experiment is not None), group[0])
        yield first, sorted(cell.job for cell in group)


def count(cells: Sequence[Cell]) -> str:
    """Return how many experiments there are in each state, such as "57 of 60 experiments, 1 failed, 2 missing"."""
    once = [cell for cell, _ in distinct(cells)]
    ended, *others = [(sum(cell.state == state for cell in once), state) for state in STATES]
    parts = [f"{number} {state}" for number, state in others if number]
    return ", ".join([f"{ended[0]} of {len(once)} experiments", *parts])


def union(experiments: Iterable[Mapping[str, Any]], key: str) -> list[str]:
    """Return the names that experiments list under a key (suites, anchors, opponents), each once."""
    return list(dict.fromkeys(name for experiment in experiments for name in experiment[key]))


def row_of(experiment: Mapping[str, Any], role: str) -> Mapping[str, Any] | None:
    """Return the row of the model that plays a role ("policy", "opponent"), the first one if there are several."""
    return next((row for row in experiment["rows"] if row["role"] == role), None)


def rate_columns(experiment: Mapping[str, Any]) -> dict[str, str]:
    """Return what each model that others are compared with is called in a sweep's tables: "opponent", or its name.

    The opponent has another name in every sweep that varies it, and its column must stay one.
    """
    own = row_of(experiment, "opponent")
    return {name: "opponent" if own and name == own["name"] else name for name in experiment["opponents"]}
