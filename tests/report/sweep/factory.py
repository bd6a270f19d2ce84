"""Made-up sweeps: every experiment is the made-up one with the policy's results moved."""

import hashlib
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from salsa.report.sweep.cells import Cell
from tests.report import factory

Score = Callable[[Mapping[str, Any]], float]


def fingerprint(keys: Mapping[str, Any]) -> str:
    return hashlib.sha256(repr(sorted(keys.items())).encode()).hexdigest()


def experiment(keys: Mapping[str, Any], score: float) -> dict[str, Any]:
    """Return an experiment whose policy has this judge score over all suites, and a win rate that goes with it."""
    made = factory.experiment()
    policy = next(row for row in made["rows"] if row["role"] == "policy")
    policy["pooled"]["judge"] = {"value": score, "low": score - 0.1, "high": score + 0.1, "n": 240}
    rate = 0.5 + score / 20
    policy["pooled"]["win_rate"]["PPO"] |= {"value": rate, "low": rate - 0.03, "high": rate + 0.03}
    return {**made, "fingerprint": fingerprint(keys)}


def cell(job: int, keys: Mapping[str, Any], score: float | None, state: str = "missing", reason: str = "") -> Cell:
    overrides = tuple(f"{key}={value}" for key, value in keys.items())
    if score is None:
        return Cell(job, keys, fingerprint(keys), None, state, reason, overrides)
    return Cell(job, keys, fingerprint(keys), experiment(keys, score), "done", "", overrides)


def sweep(
    values: Mapping[str, Sequence[Any]], score: Score = lambda keys: 1.0, missing: Collection[int] = ()
) -> list[Cell]:
    """Return a cell for each combination of values, the last key fastest, as Hydra numbers its jobs."""
    combinations = [dict(zip(values, combination, strict=True)) for combination in itertools.product(*values.values())]
    return [
        cell(job, keys, None if job in missing else score(keys), reason=f"job {job} was killed")
        for job, keys in enumerate(combinations)
    ]
