"""What a chaos test found, as JSON for programs and as Markdown for people."""

import datetime
import json
import os
import platform
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.chaos.harness import Round
from tests.chaos.ledger import RANDOM
from tests.chaos.points import POINTS

MARKS = ("<!-- chaos -->", "<!-- /chaos -->")


def account(rounds: Sequence[Round], wanted: int, processes: int, command: str) -> dict[str, Any]:
    """Return the test's result; `passed` tells whether there were enough kills, at every point, and no finding."""
    kills = [kill for round_ in rounds for kill in round_.kills]
    points = Counter(kill["point"] for kill in kills)
    findings = _sum_findings(rounds)
    missed = [point for point in (*POINTS, RANDOM) if not points[point]]
    return {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "processes": processes,
        "rounds": len(rounds),
        "stages": sum(round_.stages for round_ in rounds),
        "seconds": round(sum(round_.seconds for round_ in rounds), 1),
        "wanted": wanted,
        "kills": len(kills),
        "by_point": {point: points[point] for point in (*POINTS, RANDOM)},
        "missed_points": missed,
        "by_kind": dict(Counter(kill["kind"] or "the command itself" for kill in kills).most_common()),
        "by_scope": dict(Counter(kill["scope"] for kill in kills).most_common()),
        "begun_again": dict(sum((Counter(round_.repeated) for round_ in rounds), Counter[str]())),
        "lost": _lost(rounds),
        "ends": dict(Counter(f"code {ending.code}" for round_ in rounds for ending in round_.endings).most_common()),
        "left_in_temporary_folder_bytes": sum(round_.left_in_temporary_folder for round_ in rounds),
        "findings": findings,
        "passed": len(kills) >= wanted and not any(findings.values()),
    }


def machine() -> dict[str, Any]:
    """Return the kind of machine and the versions that decide about floating-point results."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "lightning": metadata.version("lightning"),
    }


def markdown(result: dict[str, Any]) -> str:
    """Return the result as a page of Markdown tables."""
    kind = result["machine"]
    lost = result["lost"]
    lines = [
        f"`{result['command']}`",
        "",
        f"{result['date']}, {kind['cores']} cores, {kind['machine']} {kind['system']}, Python {kind['python']}, "
        f"torch {kind['torch']}: {'passed' if result['passed'] else '**failed**'}.",
        "",
        *_table(
            ("what", "count"),
            [
                ("kills that hit work", result["kills"]),
                ("processes side by side", result["processes"]),
                ("stages, over all rounds", f"{result['stages']} in {result['rounds']}"),
                *((name, len(told)) for name, told in result["findings"].items()),
                ("trainings resumed", lost["resumed"]),
                ("training steps made twice, in all", lost["steps"]),
                ("training steps made twice, most at once", lost["most_steps"]),
                ("most seconds of training made twice at once", f"{lost['most_seconds']:.1f}"),
                (
                    "seconds between checkpoints (`compute.checkpoint_seconds`), and one step",
                    lost["checkpoint_seconds"],
                ),
                ("bytes left in the folder for temporary files", result["left_in_temporary_folder_bytes"]),
                ("wall-clock seconds", f"{result['seconds']:.0f}"),
            ],
        ),
        "",
        *_table(("killed", "kills"), list(result["by_point"].items())),
        "",
        *_table(
            ("stage", "kills", "begun again"),
            [(name, count, result["begun_again"].get(name, 0)) for name, count in result["by_kind"].items()],
        ),
    ]
    for name, told in result["findings"].items():
        lines += ["", f"{name}:", "", *(f"- {' '.join(sentence.split())}" for sentence in told)] if told else []
    return "\n".join(lines) + "\n"


def write(result: dict[str, Any], path: Path) -> None:
    """Write `<path>` as JSON and beside it the same as Markdown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(result), encoding="utf-8")


def insert(result: dict[str, Any], document: Path) -> None:
    """Write the result between the marks of a Markdown file; raises ValueError if it has none."""
    before, begin, rest = document.read_text(encoding="utf-8").partition(f"{MARKS[0]}\n")
    _, end, after = rest.partition(MARKS[1])
    if not begin or not end:
        raise ValueError(f"{document} has no lines {MARKS[0]} and {MARKS[1]} to write the result between: add them")
    document.write_text(f"{before}{begin}{markdown(result)}{end}{after}", encoding="utf-8")


def command_line(arguments: Sequence[str]) -> str:
    """Return the command that this process was started by."""
    return " ".join(["python", "-m", "tests.chaos", *(arguments or sys.argv[1:])])


def _sum_findings(rounds: Sequence[Round]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for number, round_ in enumerate(rounds):
        for name, told in round_.findings.items():
            found.setdefault(name, []).extend(f"round {number}: {sentence}" for sentence in told)
    return found


def _lost(rounds: Sequence[Round]) -> dict[str, Any]:
    parts = [asdict(round_.lost) for round_ in rounds]
    return {
        name: (max if name.startswith("most") else sum)(part[name] for part in parts)
        for name in ("resumed", "steps", "most_steps", "most_seconds")
    } | {"checkpoint_seconds": max((round_.checkpoint_seconds for round_ in rounds), default=0.0)}


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    return lines + [f"| {' | '.join(map(str, row))} |" for row in rows]
