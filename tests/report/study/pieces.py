"""The pieces of made-up studies: estimates, cells with fingerprints, and a study that has every part."""

import hashlib
from typing import Any

SUITES = ("single", "two_turn", "hard", "unseen")
FAMILIES = ("Llama2", "Mistral", "Gemma")
ARMS = {"PPO": "ppo", "SALSA": "salsa", "ref SFT2": "control", "start+ref soup": "control"}


def fingerprint(*names: object) -> str:
    """Return a fingerprint that depends on the names alone."""
    return hashlib.sha256("/".join(map(str, names)).encode()).hexdigest()


def estimate(value: float, half: float | None, n: int = 8) -> dict[str, Any]:
    """Return an estimate with a symmetric interval, or with none."""
    ends = (None, None) if half is None else (round(value - half, 4), round(value + half, 4))
    return {"value": round(value, 4), "low": ends[0], "high": ends[1], "n": n}


def cell(value: float, half: float | None, *names: object, n: int = 8, note: str | None = None) -> dict[str, Any]:
    """Return a cell of a table, with a fingerprint for each replicate."""
    prints = [fingerprint(*names, replicate) for replicate in range(n)]
    return {**estimate(value, half, n), "note": note, "fingerprints": prints}


def study(**parts: Any) -> dict[str, Any]:
    """Return a study that has every part, by default an empty one."""
    return {
        "schema": 1,
        "study": "table_1",
        "title": "A study",
        "question": "Does it help?",
        "fingerprint": fingerprint("study"),
        "regime": "V1",
        "scale": "tiny",
        "replicates": 8,
        "level": 0.95,
        "verdicts": [],
        "headline": 0,
        "second": None,
        "selection": None,
        "tables": [],
        "figures": [],
        "notes": [],
        "warnings": [],
        "settings": {"replicates": 8},
        "cost": {"stages": 10, "distinct": 8, "cpu_seconds": 100.0, "computed_now": 3},
        "paper": None,
        "missing": [],
    } | parts


def point(found: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of an estimate as those of a point of a figure."""
    return {key: found[key] for key in ("value", "low", "high")}
