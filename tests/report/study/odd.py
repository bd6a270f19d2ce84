"""Studies as strange as they may get: names that are markup everywhere, one replicate, nothing measured."""

import copy
from collections.abc import Callable
from typing import Any

from tests.report.study import examples

NAME = "_a|b*c<d>&e_%$f$#g\\h{i}^~\"'`[j]\nk--é中α\x1b"
ASIDE = ("missing", "schema", "kind", "role", "panel", "key", "name", "fingerprint", "fingerprints", "decided", "study")


def named() -> dict[str, Any]:
    """Return a study in which every text that a person wrote has the odd name in it."""
    study = copy.deepcopy(examples.table_1())
    table = study["tables"][0]
    table["paper"]["cells"] = {
        _odd(f"{group}: ") + _odd(label): cells
        for name, cells in table["paper"]["cells"].items()
        for group, label in [name.split(": ")]
    }
    for name in ("settings", "cost"):
        study[name] = {NAME: {NAME: NAME}} if name == "settings" else study[name]
    oddly: dict[str, Any] = {key: _renamed(value, key) for key, value in study.items()}
    oddly["paper"] = _renamed(study["paper"], "")
    oddly["missing"] = [{**gap, "stage": gap["stage"] + NAME, "reason": NAME} for gap in study["missing"]]
    return oddly


def _odd(text: str) -> str:
    return text.replace(": ", f"{NAME}: ") if text.endswith(": ") else f"{text}{NAME}"


def _renamed(value: Any, key: str) -> Any:
    if key in ("paper", *ASIDE) and not (key == "panel" and isinstance(value, str)):
        return value
    if isinstance(value, dict):
        return {name: _renamed(entry, name) for name, entry in value.items()}
    if isinstance(value, list):
        return [_renamed(entry, key) for entry in value]
    return f"{value}{NAME}" if isinstance(value, str) else value


def one_replicate() -> dict[str, Any]:
    """Return a study of one replicate: no number has an interval."""
    study: dict[str, Any] = _without(examples.table_1(), ("low", "high"))
    return study | {"replicates": 1}


def unmeasured() -> dict[str, Any]:
    """Return a study none of whose jobs has a result."""
    study: dict[str, Any] = _without(examples.frontier(), ("low", "high", "value"))
    study["tables"][0]["rows"][0]["cells"] = dict.fromkeys(study["tables"][0]["rows"][0]["cells"])
    return study


def _without(value: Any, keys: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: None if key in keys else _without(entry, keys) for key, entry in value.items()}
    return [_without(entry, keys) for entry in value] if isinstance(value, list) else value


def extreme() -> dict[str, Any]:
    """Return a study with huge, tiny, negative and endless numbers, one place, one point, and long names."""
    study = copy.deepcopy(examples.alpha())
    rows = study["tables"][0]["rows"]
    for value, cell in zip((1e12, -1e-9, float("nan"), -3.0, float("inf")), rows[0]["cells"].values(), strict=True):
        cell["value"] = value
    rows[1]["cells"] = {}
    one, other = study["figures"]
    one["series"] = one["series"][:1]
    one["series"][0]["points"] = [{"x": "a name that is much too long for one line of an axis", "value": 0.5}]
    one["series"][0]["points"][0] |= {"low": None, "high": 0.6}
    other["series"][0]["points"][2] |= {"value": None, "low": None, "high": None}
    other["series"] += [{"label": f"arm {number} " * 6, "role": "other", "points": []} for number in range(7)]
    other["series"][1]["points"][0]["x"] = None
    other["series"][0]["points"].append({"x": 0, "value": 30.0, "low": 29.0, "high": 31.0})
    return study


ODD: dict[str, Callable[[], dict[str, Any]]] = {
    "names": named,
    "one replicate": one_replicate,
    "nothing measured": unmeasured,
    "extreme": extreme,
    "empty": lambda: examples.study(),
}
EVERY = {**examples.EXAMPLES, **ODD}
