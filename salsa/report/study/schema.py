"""The form of `study.json`: what it must have, and how it is read and written. Stdlib only: fast."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from salsa.report.markup import one_line
from salsa.report.schema import finite
from salsa.report.study import minus

SCHEMA = 1
NAME = "study.json"
ROLES = ("sft", "soup", "ppo", "salsa", "control", "other")
KINDS = ("intervals", "lines", "curves", "paths", "plane")
PARTS = (
    "study",
    "title",
    "question",
    "fingerprint",
    "regime",
    "scale",
    "replicates",
    "level",
    "verdicts",
    "headline",
    "selection",
    "tables",
    "figures",
    "notes",
    "warnings",
    "settings",
    "cost",
)
OPTIONAL: Mapping[str, Any] = {"paper": None, "missing": [], "second": None}
"""Parts that a study may do without, and what stands for them: what the paper reports, what failed, and which verdict
is shown large below the headline."""
_SENTENCES = ("sentence", "here", "note", "notes", "warnings", "caption", "explanation")
"""Keys of what people read as prose, in which a hyphen before a number is a minus sign."""
_CORNERS = 3


def checked(study: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy in which numbers that are not finite are None, each with a warning.

    Raises ValueError naming what is missing, unknown or given twice, TypeError for what JSON cannot hold.
    """
    if study.get("schema") != SCHEMA:
        raise ValueError(f"study: schema is {study.get('schema')!r}, this version reads {SCHEMA}")
    for problem in _problems(study):
        raise ValueError(f"study {study.get('study')!r}: {problem}")
    copy, sentences = finite({**OPTIONAL, **study})
    return {**copy, "warnings": [*copy["warnings"], *sentences]}


def printable(study: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checked copy whose texts are single lines in which nothing is invisible: what the renderers are given.

    Raises what `checked` raises.
    """
    copy: dict[str, Any] = _in_lines(checked(study))
    return copy


def _in_lines(value: Any, key: str = "") -> Any:
    if isinstance(value, str):
        return minus.typeset(one_line(value)) if key in _SENTENCES else one_line(value)
    if isinstance(value, Mapping):
        return {_in_lines(name): _in_lines(entry, name) for name, entry in value.items()}
    return [_in_lines(entry, key) for entry in value] if isinstance(value, list) else value


def to_json(study: Mapping[str, Any]) -> str:
    """Return a study as strict JSON (a number that is not finite raises ValueError)."""
    return json.dumps(study, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read(path: Path) -> dict[str, Any]:
    """Read a study. Raises ValueError naming the file if it is not one, or is of another schema version."""
    try:
        study = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}); delete it and run the study again") from error
    found = study.get("schema") if isinstance(study, dict) else None
    if found != SCHEMA:
        raise ValueError(f"{path}: schema is {found!r}, this version reads {SCHEMA}; run the study again")
    return study


def headline(study: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the verdict that is shown largest, or None where the study has none."""
    return study["verdicts"][study["headline"]] if study["verdicts"] and study["headline"] is not None else None


def leading(study: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the verdicts that are shown large: the headline, and the second one where the study names it."""
    indices = dict.fromkeys(study.get(key) for key in ("headline", "second"))
    return [study["verdicts"][index] for index in indices if index is not None] if study["verdicts"] else []


def others(study: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the verdicts that are not shown large."""
    large = (study["headline"], study.get("second"))
    return [verdict for index, verdict in enumerate(study["verdicts"]) if index not in large]


def replicates(study: Mapping[str, Any]) -> str:
    """Return the number of replicates with its noun."""
    count = study["replicates"]
    return f"{count:,} {'replicate' if count == 1 else 'replicates'}"


def _problems(study: Mapping[str, Any]) -> Iterator[str]:
    """Yield what would make a page that is wrong or incomplete."""
    missing = [part for part in PARTS if part not in study]
    if missing:
        yield f"lacks {', '.join(missing)}"
        return
    count = len(study["verdicts"])
    for key in ("headline", "second"):
        index = study.get(key)
        if count and index is not None and not 0 <= index < count:
            yield f"{key} is {index}, there are {count} verdicts; give an index from 0, or null"
    for table in study["tables"]:
        yield from (f"table {table['name']!r}: {problem}" for problem in _of_table(table))
    for figure in study["figures"]:
        yield from (f"figure {figure['name']!r}: {problem}" for problem in _of_figure(figure))
    yield from _of_keys("paper", [study["paper"]] if study.get("paper") else [], ("label", "source", "claims"))
    yield from _of_keys("paper.claims", (study.get("paper") or {}).get("claims", []), ("claim", "here", "holds"))
    yield from _of_keys("missing", study.get("missing", []), ("family", "replicate", "arm", "stage", "reason"))


def _of_keys(part: str, entries: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> Iterator[str]:
    """Yield which keys an entry of a part lacks."""
    for entry in entries:
        lacking = [key for key in keys if key not in entry]
        if lacking:
            yield f"an entry of {part} lacks {', '.join(lacking)}; give {', '.join(keys)}"


def _of_table(table: Mapping[str, Any]) -> Iterator[str]:
    keys = [column["key"] for column in table["columns"]]
    yield from (f"column {key!r} is given {count} times" for key, count in Counter(keys).items() if count > 1)
    for row in table["rows"]:
        yield from _of_role(row)
        yield from (f"row {row['label']!r} has a cell {key!r}, no column" for key in row["cells"] if key not in keys)
    if table["paper"] is None:
        return
    labels = Counter(row["label"] for row in table["rows"])
    for name, cells in table["paper"]["cells"].items():
        yield from (f"the paper's row {name!r} has a cell {key!r}, no column" for key in cells if key not in keys)
        if name in {full_name(row) for row in table["rows"]}:
            continue
        if labels[name] != 1:
            yield (
                f"the paper's row {name!r} is the label of {labels[name]} rows; "
                "name one row, as 'group: label' where several groups have that label"
            )


def full_name(row: Mapping[str, Any]) -> str:
    """Return what tells a row from those of other groups: `group: label`, or the label of a row without group."""
    return f"{row['group']}: {row['label']}" if row.get("group") else str(row["label"])


def _of_figure(figure: Mapping[str, Any]) -> Iterator[str]:
    if figure["kind"] not in KINDS:
        yield f"kind is {figure['kind']!r}; give one of {', '.join(KINDS)}"
    for series in figure["series"]:
        yield from _of_role(series)
    if figure["kind"] == "plane":
        yield from _of_plane(figure)


def _of_plane(figure: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a figure of the plane through three models lacks."""
    if len(figure.get("models", ())) != _CORNERS:
        yield f"has {len(figure.get('models', ()))} models; a plane goes through {_CORNERS}, each with label, x and y"
    for series in figure["series"]:
        if any(len(point.get("weights", ())) != _CORNERS for point in series["points"]):
            yield f"a point of {series['label']!r} has no weights of {_CORNERS} models"


def _of_role(entry: Mapping[str, Any]) -> Iterator[str]:
    if entry["role"] not in ROLES:
        yield f"role of {entry['label']!r} is {entry['role']!r}; give one of {', '.join(ROLES)}"
