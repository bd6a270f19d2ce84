"""The form of `experiment.json`: its version, names and metrics, and how it is read and written. Stdlib only: fast."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

SCHEMA = 1
ROLES = ("ingredient", "soup", "opponent", "policy", "control")
# The name under which the unweighted mean over all suites is shown.
POOLED = "mean"

Better = Literal["high", "low", ""]


@dataclass(frozen=True)
class Metric:
    """How a quantity is named and shown; `better` is the direction in which a column's best cell is marked."""

    label: str
    unit: str
    decimals: int
    scale: float = 1.0
    better: Better = ""


# Length and KL have no better direction: a shorter reply or a policy that moved less is not a better one.
METRICS: Mapping[str, Metric] = {
    "judge": Metric("judge score", "points", 2, better="high"),
    "reward": Metric("reward-model score", "normalised", 2, better="high"),
    "length": Metric("length", "tokens", 1),
    "unfinished": Metric("without end", "%", 1, 100.0, "low"),
    "win_rate": Metric("win rate", "%", 1, 100.0, "high"),
    "k1": Metric("KL, estimator k1", "nats a reply", 2),
    "k3": Metric("KL, estimator k3", "nats a reply", 2),
    "recall": Metric("fact recall", "%", 1, 100.0, "high"),
    "perplexity": Metric("held-out perplexity", "", 2, better="low"),
}


def write(path: Path, experiment: Mapping[str, Any]) -> None:
    """Write an experiment as strict JSON (a number that is not finite raises ValueError, see `experiment.assemble`)."""
    text = json.dumps(experiment, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def read(path: Path) -> dict[str, Any]:
    """Read an experiment. Raises ValueError naming the file if it is not one, or is of another schema version."""
    try:
        experiment = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}); delete it and run the experiment again") from error
    found = experiment.get("schema") if isinstance(experiment, dict) else None
    if found != SCHEMA:
        raise ValueError(f"{path}: schema is {found!r}, this version reads {SCHEMA}; run the experiment again")
    return experiment


def finite(value: Any, path: str = "") -> tuple[Any, list[str]]:
    """Return a copy of a JSON-like value with NaN and infinities as None, and a sentence about each of them.

    A diverged number must not cost a finished experiment its report; it is shown as missing, with a warning.
    Raises TypeError naming the path of a value that JSON cannot hold (a tensor, a NumPy integer).
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None, [f"{path} was {value} and is shown as missing"]
    if isinstance(value, Mapping):
        entries = [(str(key), finite(entry, f"{path}.{key}" if path else str(key))) for key, entry in value.items()]
        return {key: entry for key, (entry, _) in entries}, [text for _, (_, texts) in entries for text in texts]
    if isinstance(value, list | tuple):
        items = [finite(item, f"{path}[{index}]") for index, item in enumerate(value)]
        return [item for item, _ in items], [text for _, texts in items for text in texts]
    if value is not None and not isinstance(value, str | int | float):
        raise TypeError(f"{path} is {value!r} of type {type(value).__name__}; give plain Python values")
    return value, []


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested settings with dotted keys, in order, the way they are typed on the command line."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
