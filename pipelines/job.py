"""One job: from a composed configuration to an experiment's tables on screen and on disk. Imports no torch itself."""

import json
import os
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape

from pipelines import preflight
from pipelines.configuration import Config, ConfigurationError
from pipelines.display import Display
from pipelines.ending import INTERRUPTED, TERMINATED, Terminated, terminable
from pipelines.experiment import Experiment, build
from pipelines.pool import Pool, WorkerDied
from pipelines.schema import parse
from pipelines.work import Execution
from salsa.data.rows import DataError
from salsa.hub import HubError
from salsa.models.source import UnavailableModelError
from salsa.store.artifact import Artifact, Store
from salsa.store.digests import Digests
from salsa.store.lock import working
from salsa.training.interruption import Interrupted

_POOLS: dict[int, Pool] = {}
"""Workers of this process by their number: they outlive a job, so that a sweep imports torch once."""


class JobFailed(RuntimeError):
    """The job did not reach its table."""


EXPECTED = (
    ConfigurationError,
    DataError,
    HubError,
    UnavailableModelError,
    preflight.MissingError,
    OSError,
    JobFailed,
    WorkerDied,
)
"""Failures that are told in a sentence; anything else is a defect and keeps its traceback."""


def make_console() -> Console:
    """Return a console of the terminal's width, or of 120 columns where the output goes to a file."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def run(cfg: DictConfig) -> None:
    """Plan, run and show one experiment; in a single run a failure ends the process with code 1.

    In a multirun it is left as a note in the job's folder instead, so that in every launcher the other jobs run and
    the sweep ends in its table, and with code 1. Ctrl-C ends the command with code 130, and SIGTERM with 143.
    """
    console = make_console()
    single = HydraConfig.get().mode is not RunMode.MULTIRUN
    try:
        with terminable():
            _run(cfg, console)
    except EXPECTED as error:
        console.print(f"[bold red]error[/] {escape(sentence(error))}", soft_wrap=True)
        _give_up(single, sentence(error))
    except (KeyboardInterrupt, Terminated, Interrupted) as ending:
        console.print("[yellow]stopped[/] what was done is kept: the same command goes on from there")
        close_pools()
        sys.exit(INTERRUPTED if isinstance(ending, KeyboardInterrupt) else TERMINATED)
    except Exception as error:
        if single:
            raise
        traceback.print_exc()
        _give_up(single, f"{type(error).__name__}: {error}")


def sentence(error: Exception) -> str:
    """Return what an expected failure says; the operating system's errors begin with the file."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _give_up(single: bool, reason: str) -> None:
    if single:
        sys.exit(1)
    _leave_result(None, reason)


def _run(cfg: DictConfig, console: Console) -> None:
    started = time.time()
    config = parse(cfg)
    settings = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    assert isinstance(settings, dict)
    store = Store(Path(config.outputs.dir).resolve())
    experiment = _plan(config, {str(key): value for key, value in settings.items()}, store, console)
    if config.plan:
        _show_plan(experiment, store, console)
        for problem in preflight.problems(config):
            console.print(f"[yellow]missing[/] {escape(problem)}", soft_wrap=True)
        _leave_result(None)
        return
    report = store.find("report", experiment.report.fingerprint)
    computed = 0
    if report is None:
        preflight.check(config)
        computed = _compute(config, experiment, store, console)
        report = store.find("report", experiment.report.fingerprint)
    else:
        console.print(f"[dim]·[/] all {len(experiment.plan)} stages come from the store")
    if report is None:
        raise JobFailed("the experiment did not reach its report")
    folder = export(report, store.root)
    _show(report, folder, console)
    _say_how_it_went(config, computed, experiment, folder, console, time.time() - started)
    _leave_result(folder)


def _plan(config: Config, settings: dict[str, Any], store: Store, console: Console) -> Experiment:
    """Return the plan; where files that it needs are missing, say all that is missing."""

    def notice(path: Path) -> None:
        size = path.stat().st_size / 1e9
        if size >= 1:
            console.print(f"[dim]reading {escape(str(path))} ({size:.1f} GB) once, to know it by its content[/]")

    try:
        return build(config, settings, Digests(store.root / "digests.json", notice))
    except (FileNotFoundError, DataError):
        preflight.check(config)
        raise


def _compute(config: Config, experiment: Experiment, store: Store, console: Console) -> int:
    """Run the plan; return how many stages were computed. Raises `JobFailed`, naming the stages that failed."""
    plan = experiment.plan
    stored = {stage.fingerprint for stage in plan if store.find(stage.kind, stage.fingerprint) is not None}
    console.print(
        f"[bold]{config.model.family.value}[/] at scale [bold]{config.scale.name}[/]: "
        f"{len(plan)} stages, {len(plan) - len(stored)} to run"
    )
    store.root.mkdir(parents=True, exist_ok=True)
    if not working(store.root):
        raise JobFailed(
            f"outputs.dir={config.outputs.dir}: this file system has no working locks; choose another folder"
        )
    store.clean_temporary()
    execution = Execution.from_config(config, experiment.report.fingerprint)
    job = {"plan": plan.to_json(), "execution": execution.to_json()}
    with Display(plan, console) as display:
        display.show_stored(plan, stored)
        if config.compute.workers == 0:
            from pipelines.worker import run_job

            run_job(job, lambda event: display.handle(event) if event["event"] != "finished" else None)
        else:
            _pool(config).run(job, display.handle, display.tick)
    if display.failures:
        names = ", ".join(str(failure["stage"]) for failure in display.failures)
        raise JobFailed(f"failed: {names}; everything that did not depend on them is in the store")
    return display.computed


def _pool(config: Config) -> Pool:
    workers = config.compute.workers
    pool = _POOLS.get(workers)
    if pool is None or not pool.alive():
        if pool is not None:
            pool.close()
        pool = _POOLS[workers] = Pool(workers, Path(HydraConfig.get().runtime.output_dir))
    return pool


def close_pools() -> None:
    """End the worker processes of this command."""
    for pool in _POOLS.values():
        pool.close()
    _POOLS.clear()


def export(report: Artifact, root: Path) -> Path:
    """Copy a report out of the store to `experiments/<fingerprint>`, where people look; return that folder."""
    folder = root / "experiments" / report.fingerprint[:16]
    if (folder / "experiment.json").is_file():
        return folder
    partial = folder.with_name(f".{folder.name}-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(report.path, partial, ignore=shutil.ignore_patterns("manifest.json"))
    try:
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial)
        if not (folder / "experiment.json").is_file():
            raise
    return folder


def _show(report: Artifact, folder: Path, console: Console) -> None:
    from salsa.report import tables

    tables.show(report.json("experiment.json"), console)
    console.print(f"tables, curves, samples, one page: [bold]{escape(str(_relative(folder)))}[/]")


def _say_how_it_went(
    config: Config, computed: int, experiment: Experiment, folder: Path, console: Console, seconds: float
) -> None:
    console.print(f"{computed} stages computed, {len(experiment.plan) - computed} from the store, {seconds:.1f} s")
    runs = Path(config.outputs.dir).resolve() / "wandb"
    started = time.time() - seconds
    if any(run.stat().st_mtime >= started for run in runs.glob("offline-run-*")):
        shown = escape(str(_relative(runs)))
        console.print(f"W&B runs are offline; to upload them: [bold]wandb sync {shown}/offline-run-*[/]")


def _leave_result(folder: Path | None, error: str | None = None) -> None:
    """Leave a note in the job's folder, from which a sweep is collected: its experiment, or why there is none."""
    output = Path(HydraConfig.get().runtime.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    result = {
        "experiment": None if folder is None else str(folder),
        "overrides": list(HydraConfig.get().overrides.task),
        "error": error,
    }
    (output / "result.json").write_text(json.dumps(result))


def _show_plan(experiment: Experiment, store: Store, console: Console) -> None:
    from rich.table import Table

    seconds: dict[str, list[float]] = {}
    for artifact in store.artifacts():
        seconds.setdefault(artifact.kind, []).append(float(artifact.manifest["seconds"]))
    table = Table("stage", "state", "usual time", "fingerprint", box=None, header_style="bold")
    counts = {"in the store": 0, "to run": 0, "failed before": 0}
    total = 0.0
    for stage in experiment.plan:
        if store.find(stage.kind, stage.fingerprint) is not None:
            state = "in the store"
        else:
            state = "failed before" if store.failure(stage.kind, stage.fingerprint) is not None else "to run"
        counts[state] += 1
        past = sorted(seconds.get(stage.kind, []))
        usual = past[len(past) // 2] if past else None
        total += usual or 0.0 if state != "in the store" else 0.0
        shown = f"{usual:.1f} s" if usual is not None and state != "in the store" else ""
        table.add_row(escape(stage.name), state, shown, stage.fingerprint[:16])
    console.print(table)
    console.print(", ".join(f"{count} {state}" for state, count in counts.items()) + f"; about {total:.0f} s of work")


def _relative(path: Path) -> Path:
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path
