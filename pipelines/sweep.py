"""The start and the end of a command: can it write, and one table over a multirun's experiments. Imports no torch."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf


@dataclass
class Sweep:
    """What the jobs of a multirun left: experiments, and the overrides and reasons of the jobs that have none."""

    experiments: list[dict[str, Any]] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)


class SweepTable(Callback):
    """Hydra callback that collects the experiments of a multirun once its jobs have ended, in any launcher."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """End the command with a sentence where its folder cannot be made; Hydra would end it with a traceback."""
        _make(Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Do the same for a multirun."""
        _make(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print one table over the jobs and leave it in the sweep's folder; exit with code 1 if a job failed."""
        from pipelines.job import make_console

        folder = Path(config.hydra.sweep.dir)
        sweep = collect(folder)
        show(sweep, folder, make_console())
        if sweep.missing:
            sys.exit(1)


def collect(folder: Path) -> Sweep:
    """Return what is in a sweep's folder, in the order of its jobs; each experiment has its job's overrides.

    A job without a note of its result was ended from outside; a job that only showed its plan is left out.
    """
    sweep = Sweep()
    for job in sorted((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name)):
        note = job / "result.json"
        if not note.is_file():
            overrides = job / ".hydra" / "overrides.yaml"
            known = list(OmegaConf.load(overrides)) if overrides.is_file() else [f"job {job.name}"]
            sweep.missing.append((" ".join(map(str, known)), f"it ended without a word; its logs: {job}"))
            continue
        result = json.loads(note.read_text())
        if result["experiment"] is not None:
            experiment = json.loads((Path(result["experiment"]) / "experiment.json").read_text())
            sweep.experiments.append(experiment | {"overrides": result["overrides"]})
        elif result["error"] is not None:
            sweep.missing.append((" ".join(result["overrides"]), result["error"]))
    return sweep


def show(sweep: Sweep, folder: Path, console: Any) -> None:
    """Print the table over several experiments and what is missing in it, and write both beside the jobs."""
    from rich.markup import escape

    table = ""
    if sweep.experiments:
        from salsa.report import combined

        console.print(combined.terminal(sweep.experiments))
        table = combined.markdown(sweep.experiments)
        (folder / "table.csv").write_text(combined.to_csv(sweep.experiments), encoding="utf-8")
    for overrides, reason in sweep.missing:
        console.print(f"[bold red]missing[/] {escape(overrides)}: {escape(reason)}", soft_wrap=True)
    if sweep.missing:
        lines = [f"- `{overrides}`: {' '.join(reason.split())}" for overrides, reason in sweep.missing]
        table = "\n".join([*([table] if table else []), "Missing, because the job failed:", "", *lines, ""])
    if table:
        (folder / "table.md").write_text(table, encoding="utf-8")
    if sweep.experiments:
        console.print(f"the sweep's table: [bold]{escape(str(folder / 'table.md'))}[/] and table.csv")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        sys.exit(f"error {error.filename or folder}: {reason}; choose another folder with outputs.dir=FOLDER")
