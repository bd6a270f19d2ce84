"""What the user sees while an experiment runs: a bar a working stage, a line a finished one. Imports rich alone."""

import logging
import time
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from pipelines.plan import Plan

LOG = logging.getLogger(__name__)

WAIT_NOTICE_SECONDS = 10.0
PLAIN_NOTICE_SECONDS = 15.0
BLOCKED_NAMES = 4


class Display:
    """Turns events into progress bars on a terminal, or into plain lines elsewhere."""

    def __init__(self, plan: Plan, console: Console, job: str = "") -> None:
        self.console = console
        self._job = job
        """What a message about a failure begins with, where there are several jobs."""
        self.computed = 0
        self.failures: list[dict[str, Any]] = []
        self._total = len(plan)
        self._ended: set[str] = set()
        self._started: set[str] = set()
        self._working: dict[str, int | None] = {}
        """The worker of each stage that this command works on, by fingerprint; None: this process."""
        self._failed: set[str] = set()
        self._tasks: dict[str, TaskID] = {}
        self._noticed: dict[str, float] = {}
        self._blocked: list[str] = []
        self._bars = Progress(
            TextColumn("{task.description}", style="bold"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[says]}", style="dim"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._overall = self._bars.add_task("stages", total=self._total, says="")

    def __enter__(self) -> "Display":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()
        if self._blocked:
            count, first = len(self._blocked), ", ".join(self._blocked[:BLOCKED_NAMES])
            names = first if count <= BLOCKED_NAMES else f"{first}, ..."
            self._line("-", f"{count} stages", "blocked", f"they need what failed: {names}", "yellow")

    @property
    def blocked(self) -> int:
        """How many stages could not run because of others that failed."""
        return len(self._blocked)

    def tick(self) -> None:
        """Keep the clocks running."""
        self._bars.refresh()

    def handle(self, event: dict[str, Any]) -> None:
        """Show one event."""
        getattr(self, f"_on_{event['event']}")(event)

    def _line(self, mark: str, name: str, right: str, says: str, style: str) -> None:
        line = f"[{style}]{mark}[/] {escape(name):<40} [dim]{right:>9}[/]  {escape(says)}"
        # What failed is not wrapped here: a path in it must stay in one piece to be copied.
        self.console.print(line, highlight=False, soft_wrap=mark in "✗!")

    def _on_stored(self, event: dict[str, Any]) -> None:
        fingerprint = event["fingerprint"]
        if fingerprint not in self._ended and fingerprint not in self._started:
            self._end(fingerprint)
            self._line("·", event["stage"], "store", "another command has just made it", "dim")

    def show_stored(self, plan: Plan, stored: set[str], names: bool = True) -> None:
        """Say which stages are in the store before anything runs, or only how many."""
        self._ended |= stored
        self._bars.update(self._overall, completed=len(self._ended))
        if stored:
            listed = ", ".join(stage.name for stage in plan if stage.fingerprint in stored)
            self.console.print(
                f"[dim]·[/] {len(stored)} of {len(plan)} stages come from the store"
                + (f": [dim]{escape(listed)}[/]" if names else ""),
                highlight=False,
            )

    def _on_started(self, event: dict[str, Any]) -> None:
        fingerprint = event["fingerprint"]
        self._rest(fingerprint)
        self._started.add(fingerprint)
        self._working[fingerprint] = event.get("worker")
        if self.console.is_terminal:
            self._tasks[fingerprint] = self._bars.add_task(event["stage"], total=None, says="")

    def _on_progress(self, event: dict[str, Any]) -> None:
        task = self._tasks.get(event["fingerprint"])
        if task is not None:
            self._bars.update(task, completed=event["done"], total=event["total"], says=event["says"])
        elif self._due(event["stage"], PLAIN_NOTICE_SECONDS):
            self._line(" ", event["stage"], f"{event['done']}/{event['total']}", event["says"], "dim")

    def _on_done(self, event: dict[str, Any]) -> None:
        self._end(event["fingerprint"])
        self.computed += 1
        self._line("✓", event["stage"], f"{event['seconds']:.1f} s", event["says"], "green")

    def _on_failed(self, event: dict[str, Any]) -> None:
        if event["fingerprint"] in self._failed:
            return
        self._failed.add(event["fingerprint"])
        self._end(event["fingerprint"])
        alike = next((earlier for earlier in self.failures if earlier["error"] == event["error"]), None)
        self.failures.append(event)
        if alike is not None:
            self._line("✗", event["stage"], "failed", f"for the same reason as {alike['stage']}", "bold red")
            return
        self._line("✗", event["stage"], "failed", f"{self._job}{event['error']}", "bold red")
        self.console.print(
            f"  [red]traceback and details:[/] {escape(event['record'])}", highlight=False, soft_wrap=True
        )
        LOG.error("%s failed: %s\n%s", event["stage"], event["error"], event.get("traceback", ""))

    def _on_blocked(self, event: dict[str, Any]) -> None:
        if event["fingerprint"] not in self._ended:
            self._end(event["fingerprint"])
            self._blocked.append(event["stage"])

    def _on_waiting(self, event: dict[str, Any]) -> None:
        if event["fingerprint"] in self._working or not self._due(f"wait {event['stage']}", WAIT_NOTICE_SECONDS):
            return
        owner, progress = event.get("owner") or {}, event.get("progress") or {}
        who = f"process {owner.get('pid')} on {owner.get('host')}" if owner else "another process"
        far = f", {progress['done']}/{progress['total']}" if progress else ""
        self._line("…", event["stage"], "waiting", f"{who} works on it{far}", "dim")

    def _on_retry(self, event: dict[str, Any]) -> None:
        self._rest(event["fingerprint"])
        says = f"{event['error']}; another try in {event['seconds']:g} s"
        self._line("!", event["stage"], "retry", says, "yellow")

    def _on_broken(self, event: dict[str, Any]) -> None:
        self._ended.discard(event["fingerprint"])
        self._started.discard(event["fingerprint"])
        says = f"its artifact is {event['says']}; it is made again, and the old one kept at {event['place']}"
        self._line("!", event["stage"], "broken", says, "yellow")

    def _on_died(self, event: dict[str, Any]) -> None:
        for fingerprint in [key for key, worker in self._working.items() if worker == event["worker"]]:
            self._rest(fingerprint)
        during = f" during {event['during']}" if event["during"] else ""
        self.console.print(
            f"[bold red]worker {event['worker']} ended early[/]{escape(during)} ({escape(event['why'])}); "
            f"its log: {escape(event['log'])}",
            highlight=False,
            soft_wrap=True,
        )

    def _due(self, key: str, seconds: float) -> bool:
        """Return whether a notice of this key is due; the first one is due after the interval."""
        now = time.monotonic()
        last = self._noticed.setdefault(key, now)
        if now - last < seconds:
            return False
        self._noticed[key] = now
        return True

    def _end(self, fingerprint: str) -> None:
        self._ended.add(fingerprint)
        self._rest(fingerprint)
        self._bars.update(self._overall, completed=len(self._ended))

    def _rest(self, fingerprint: str) -> None:
        """Nobody of this command works on a stage any more, or not yet."""
        self._working.pop(fingerprint, None)
        task = self._tasks.pop(fingerprint, None)
        if task is not None:
            self._bars.remove_task(task)
