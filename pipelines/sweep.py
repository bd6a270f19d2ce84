"""The end of a multirun: one table over its experiments, read from what the jobs left. Imports no torch."""

import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class SweepTable(Callback):
    """Hydra callback that collects the experiments of a multirun once its jobs have ended, in any launcher."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print one table over the jobs and leave it as Markdown and CSV in the sweep's folder."""
        from pipelines.job import make_console

        folder = Path(config.hydra.sweep.dir)
        experiments = collect(folder)
        if experiments:
            show(experiments, folder, make_console())


def collect(folder: Path) -> list[dict[str, Any]]:
    """Return the experiments of a sweep's folder in the order of its jobs, each with the job's overrides."""
    notes = sorted(folder.glob("*/result.json"), key=lambda path: int(path.parent.name))
    experiments = []
    for note in notes:
        result = json.loads(note.read_text())
        experiment = json.loads((Path(result["experiment"]) / "experiment.json").read_text())
        experiments.append(experiment | {"overrides": result["overrides"]})
    return experiments


def show(experiments: list[dict[str, Any]], folder: Path, console: Any) -> None:
    """Print the table over several experiments, and write it beside the jobs."""
    from salsa.report import combined

    console.print(combined.terminal(experiments))
    (folder / "table.md").write_text(combined.markdown(experiments), encoding="utf-8")
    (folder / "table.csv").write_text(combined.to_csv(experiments), encoding="utf-8")
    console.print(f"the sweep's table: [bold]{folder / 'table.md'}[/] and table.csv")
