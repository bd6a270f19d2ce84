"""Two programs on one task, in turns: what each does per CPU second, how much memory it takes, and their ratio."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

SAME_LOSS = 1e-5
"""Losses (nats a token) that differ by no more are those of one training."""
_WIDTH = 160

Figures = Mapping[str, Any]
"""What a program prints: `seconds` and `units` of each measured step, `peak_mib`, `loaded_mib`, and more."""


@dataclass(frozen=True)
class Comparison:
    """The figures of both programs, a pair a round.

    `unit` is what is counted per CPU second; `least` is the ratio that must hold, `aim` the one that is wished for;
    where `memory_counts`, our peak memory must not be above the peer's.
    """

    task: str
    unit: str
    least: float
    aim: float
    ours: Sequence[Figures]
    peer: Sequence[Figures]
    memory_counts: bool = True

    @property
    def ratios(self) -> list[float]:
        """Our rate over the peer's in each round."""
        return [rate(ours) / rate(peer) for ours, peer in zip(self.ours, self.peer, strict=True)]

    @property
    def ratio(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.ratios)

    @property
    def memory(self) -> tuple[float, float]:
        """The medians of both programs' peak memory in MiB."""
        ours, peer = (statistics.median(run["peak_mib"] for run in runs) for runs in (self.ours, self.peer))
        return ours, peer

    @property
    def failures(self) -> list[str]:
        """Return what does not hold, each with its figures; empty if everything does."""
        found = []
        if self.ratio < self.least:
            found.append(f"{self.task}: {self.ratio:.2f} times the peer's {self.unit}, wanted {self.least:g}")
        ours, peer = self.memory
        if self.memory_counts and ours > peer:
            found.append(f"{self.task}: peak memory {ours:.0f} MiB, the peer's {peer:.0f}")
        if self.loss_difference is not None and not self.loss_difference <= SAME_LOSS:
            found.append(f"{self.task}: a loss differs from the peer's by {self.loss_difference:.1e}")
        return found

    @property
    def loss_difference(self) -> float | None:
        """The largest difference of the losses of one step, where both programs print theirs and see the same data."""
        pairs = zip(self.ours[0].get("losses", []), self.peer[0].get("losses", []), strict=True)
        return max((abs(ours - theirs) for ours, theirs in pairs), default=None)

    @property
    def shares(self) -> dict[str, float]:
        """Which part of our CPU time the counted operations take at either measured matrix rate (median)."""
        found: dict[str, float] = {}
        for name in self.ours[0].get("rates", {}):
            found[name] = statistics.median(
                run["operations"] / run["rates"][name] / statistics.mean(run["seconds"]) for run in self.ours
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values, the raw figures included."""
        ours, peer = self.memory
        return {
            "task": self.task,
            "unit": self.unit,
            "ratio": self.ratio,
            "ratios": self.ratios,
            "least": self.least,
            "aim": self.aim,
            "peak_mib": {"ours": ours, "peer": peer},
            "shares": self.shares,
            "loss_difference": self.loss_difference,
            "failures": self.failures,
            "ours": [dict(run) for run in self.ours],
            "peer": [dict(run) for run in self.peer],
        }


def rate(run: Figures) -> float:
    """Return units per CPU second over all measured steps of a run."""
    return sum(run["units"]) / sum(run["seconds"])


def in_turns(
    ours: Callable[[], Figures], peer: Callable[[], Figures], rounds: int
) -> tuple[list[Figures], list[Figures]]:
    """Run both programs `rounds` times, one after the other, the first of a round changing from round to round.

    Turns, because a shared machine is now faster, now slower.
    """
    runs: dict[Callable[[], Figures], list[Figures]] = {ours: [], peer: []}
    for number in range(rounds):
        for program in (ours, peer) if number % 2 == 0 else (peer, ours):
            runs[program].append(program())
    return runs[ours], runs[peer]


def table(comparisons: Sequence[Comparison], title: str) -> Table:
    """Return one line a task: rates, ratio (median, least and largest round), peak memory, floor and its share."""
    found = Table(title=title)
    for head in ("task", "unit / CPU s", "ours", "peer", "ratio", "rounds", "wanted", "peak MiB", "floor ms", "share"):
        found.add_column(head, justify="left" if head in ("task", "unit / CPU s") else "right", no_wrap=True)
    for comparison in comparisons:
        rates = [statistics.median(rate(run) for run in runs) for runs in (comparison.ours, comparison.peer)]
        ours, peer = comparison.memory
        found.add_row(
            comparison.task,
            comparison.unit,
            *(f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" for value in rates),
            f"{comparison.ratio:.2f}",
            f"{min(comparison.ratios):.2f}..{max(comparison.ratios):.2f}",
            f"{comparison.least:g} ({comparison.aim:g})",
            f"{ours:.0f} / {peer:.0f}",
            *_floor(comparison),
        )
    return found


def _floor(comparison: Comparison) -> tuple[str, str]:
    first = comparison.ours[0]
    if "operations" not in first:
        return "", ""
    milliseconds = [1e3 * first["operations"] / speed for speed in first["rates"].values()]
    return " / ".join(f"{value:.0f}" for value in milliseconds), " / ".join(
        f"{share:.0%}" for share in comparison.shares.values()
    )


def screen() -> Console:
    """Return where to print; wide enough for the table where the output is a file."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)


def report(comparisons: Sequence[Comparison], title: str, console: Console, file: Path | None, check: bool) -> int:
    """Print the table and what does not hold, write the figures to a file if one is given; return the exit code."""
    console.print(table(comparisons, title))
    failures = [failure for comparison in comparisons for failure in comparison.failures]
    for failure in failures:
        console.print(f"[red]does not hold:[/] {failure}", highlight=False)
    if file is not None:
        file.write_text(json.dumps([comparison.to_json() for comparison in comparisons], indent=1))
    return 1 if check and failures else 0
