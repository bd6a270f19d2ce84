"""A multirun as a whole: every job planned before the first, launched, and collected in one table. Imports no torch."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.experimental.callback import Callback
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape

from pipelines import overview, preflight
from pipelines.configuration import Config
from pipelines.ending import INTERRUPTED, TERMINATED, UNREAD, Terminated, terminable
from pipelines.job import BASIC_LAUNCHER, EXPECTED, RESULT, SWEEP_NOTE, close_pools, make_console, sentence
from pipelines.jobs import Job, plan_jobs
from pipelines.launchers import end_the_rest, prepare, wait_for_the_rest
from pipelines.plan import Plan
from pipelines.work import tracker_of
from pipelines.workers import environments
from salsa.report.sweep.cells import Cell
from salsa.report.sweep.folder import FOLDERS, begin, load, write
from salsa.report.sweep.summary import terminal
from salsa.store.artifact import Store
from salsa.store.fingerprint import fingerprint


class OutputFolders(Callback):
    """Hydra callback that ends the command with a sentence where its folder cannot be made, instead of a traceback."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Make the folder of a single run's log."""
        _make(Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Make the folder of a multirun's logs."""
        _make(Path(config.hydra.sweep.dir))


def run(
    batches: Sequence[Sequence[Sequence[str]]], config: DictConfig, loader: ConfigLoader, launcher: Launcher
) -> list[Any]:
    """Run a multirun's jobs, each batch by the launcher; end the command with code 1 if one of them has no result.

    A job that cannot run ends it before any starts.
    """
    console = make_console()
    try:
        return _run(batches, config, loader, launcher, console)
    except EXPECTED as error:
        console.print(f"[bold red]error[/] {escape(sentence(error))}", soft_wrap=True)
        close_pools()
        sys.exit(1)


def _run(
    batches: Sequence[Sequence[Sequence[str]]],
    config: DictConfig,
    loader: ConfigLoader,
    launcher: Launcher,
    console: Console,
) -> list[Any]:
    basic = config.hydra.launcher._target_ == BASIC_LAUNCHER
    jobs = plan_jobs(batches, config, loader, _readiness() if basic else lambda _: None)
    _refuse(jobs)
    settings = jobs[0].config
    assert settings is not None
    if settings.study.name:
        return _run_studies(jobs, batches, config, launcher, console)
    store = Store(Path(settings.outputs.dir).resolve())
    store.check_format()
    plans = [job.experiment.plan for job in jobs if job.experiment is not None]
    if settings.plan or settings.why is not None:
        _show(plans, settings, store, basic, console)
        return []
    folder = Path(config.hydra.sweep.dir)
    OmegaConf.save(config, folder / "multirun.yaml")
    sweep = _begin(jobs, plans, store, folder)
    _announce(jobs, plans, store, sweep, console)
    prepare(config.hydra.launcher)
    results = []
    first = 0
    for batch in batches:
        results += _launch(launcher, batch, first, console)
        first += len(batch)
    close_pools()
    cells = _collect(jobs, sweep, folder, console)
    _track(cells, jobs, sweep, settings, store)
    if any(cell.state != "done" for cell in cells):
        sys.exit(1)
    return results


def _run_studies(
    jobs: Sequence[Job],
    batches: Sequence[Sequence[Sequence[str]]],
    config: DictConfig,
    launcher: Launcher,
    console: Console,
) -> list[Any]:
    """Run jobs that are studies, or identical workers on one; each shows its own tables."""
    prepare(config.hydra.launcher)
    results: list[Any] = []
    for batch in batches:
        results += _launch(launcher, batch, len(results), console)
    close_pools()
    folder = Path(config.hydra.sweep.dir)
    wrong = [f"{' '.join(job.overrides)}: {reason}" for job in jobs if (reason := _problem(folder / str(job.number)))]
    if wrong:
        sys.exit("\n".join([*wrong, f"{len(wrong)} of {len(jobs)} jobs have no result"]))
    return results


def _problem(logs: Path) -> str:
    """Return why a job has no result, "" if it has one."""
    try:
        return str(json.loads((logs / RESULT).read_text(encoding="utf-8"))["error"] or "")
    except (FileNotFoundError, ValueError, KeyError):
        return "it ended before it could say what became of it"


def _begin(jobs: Sequence[Job], plans: Sequence[Plan], store: Store, logs: Path) -> Path:
    """Write down what the sweep is made of, and return its folder: the same for every process of the same sweep."""
    reports = [job.experiment.report.fingerprint for job in jobs if job.experiment is not None]
    identity = _identity(jobs)
    # Each job's W&B runs are grouped by it, in whatever process and on whatever machine the job runs.
    shared = set(jobs[0].overrides).intersection(*(job.overrides for job in jobs)) if len(jobs) > 1 else set()
    note = {"fingerprint": identity, "jobs": len(jobs), "shared": sorted(shared)}
    (logs / SWEEP_NOTE).write_text(json.dumps(note), encoding="utf-8")
    stages = {
        stage.fingerprint: {"kind": stage.kind, "name": stage.name, "inputs": list(stage.inputs.values())}
        for stage in Plan.merged(plans)
    }
    cells = [
        Cell(job.number, job.keys, report, None, "missing", "", job.overrides)
        for job, report in zip(jobs, reports, strict=True)
    ]
    sweep = store.root / FOLDERS / identity[:16]
    begin(sweep, _title(jobs), cells, store.root, stages, sys.argv)
    return sweep


def _title(jobs: Sequence[Job]) -> str:
    keys = list(dict.fromkeys(key for job in jobs for key in job.keys))
    return f"Sweep over {', '.join(keys)}" if keys else "Sweep of one experiment"


def _announce(jobs: Sequence[Job], plans: Sequence[Plan], store: Store, sweep: Path, console: Console) -> None:
    """Say how much of the work is shared, and where to look while it goes on."""
    merged = Plan.merged(plans)
    stored = sum(store.find(stage.kind, stage.fingerprint) is not None for stage in merged)
    console.print(
        f"[bold]{len(jobs)} jobs[/]: {sum(map(len, plans))} stages, {len(merged)} of them distinct, "
        f"{len(merged) - stored} to run; the table at any time: [bold]salsa sweep {escape(str(sweep))}[/]",
        soft_wrap=True,
    )


def _collect(jobs: Sequence[Job], sweep: Path, logs: Path, console: Console) -> list[Cell]:
    """Show the sweep's table, leave it in its folder and return its cells."""
    cells = [_with_reason(cell, logs) for cell in load(sweep)]
    console.print(terminal(cells))
    write(cells, sweep, _title(jobs))
    console.print(f"the sweep's tables and figures: [bold]{escape(str(sweep))}[/]", soft_wrap=True)
    return cells


def _track(cells: Sequence[Cell], jobs: Sequence[Job], sweep: Path, settings: Config, store: Store) -> None:
    """Send the sweep to the tracker; imported here because planning and tables need no tracker."""
    from pipelines.tracking import track_sweep

    identity = _identity(jobs)
    track_sweep(identity, _title(jobs), cells, sweep, tracker_of(settings), store.root)


def _identity(jobs: Sequence[Job]) -> str:
    """Return the fingerprint of a sweep: of its experiments, in whatever order they are asked for."""
    reports = {job.experiment.report.fingerprint for job in jobs if job.experiment is not None}
    return fingerprint("sweep", 1, {"reports": sorted(reports)}, {})


def _with_reason(cell: Cell, logs: Path) -> Cell:
    """Return the cell with what its job has noted, where the store does not know why there is no result."""
    if cell.state != "missing":
        return cell
    try:
        reason = json.loads((logs / str(cell.job) / RESULT).read_text(encoding="utf-8"))["error"]
    except (FileNotFoundError, ValueError, KeyError):
        return cell
    return cell if reason is None else replace(cell, state="failed", reason=reason)


def _readiness() -> Callable[[Config], None]:
    """Return a check of what a job needs, made once for all jobs that need the same: a hub takes its time to answer."""
    known: dict[str, preflight.MissingError | None] = {}

    def ready(config: Config) -> None:
        if config.plan or config.why is not None:
            return
        needs = repr(
            (
                (config.model, config.scale, config.data, config.base.context, config.logger, config.compute),
                (config.reward.name, config.reward.revision),
                (config.judge, config.suite.names, config.suite.benchmarks),
                [arm.rewards.calls() for arm in config.arms().values()],
            )
        )
        if needs not in known:
            known[needs] = None
            try:
                preflight.check(config)
            except preflight.MissingError as error:
                known[needs] = error
        if (missing := known[needs]) is not None:
            raise missing

    return ready


def _refuse(jobs: Sequence[Job]) -> None:
    """End the command if there are jobs that cannot run, before any starts."""
    wrong = [f"error {' '.join(job.overrides)}: {job.problem}" for job in jobs if job.problem]
    whole = {(job.config.outputs.dir, job.config.plan, job.config.why) for job in jobs if job.config is not None}
    if len({bool(job.config.study.name) for job in jobs if job.config is not None}) > 1:
        wrong.append("error study: give all jobs a study, or none")
    elif any(job.config.study.name and (job.config.plan or job.config.why) for job in jobs if job.config is not None):
        wrong.append("error plan and why show one study at a time: leave out -m")
    if len(whole) > 1:
        wrong.append("error outputs.dir, plan and why hold for a whole sweep: give each of them one value")
    if wrong:
        sys.exit("\n".join([*wrong, f"{len(wrong)} of {len(jobs)} jobs cannot run; none was started"]))


def _show(plans: Sequence[Plan], settings: Config, store: Store, basic: bool, console: Console) -> None:
    if settings.why is not None:
        overview.show_why(Plan.merged(plans), store, settings.why, console)
    else:
        overview.show_sweep(plans, store, max(1, len(environments(settings.compute, not basic))), console)


def _launch(launcher: Launcher, batch: Sequence[Sequence[str]], first: int, console: Console) -> list[Any]:
    """Run one batch of jobs, and go on whatever becomes of it; only the user's own ending of the command ends it."""
    try:
        with terminable():
            return _launched(launcher, batch, first, console)
    except (KeyboardInterrupt, Terminated) as ending:
        console.print("[yellow]stopped[/] what was done is kept: the same command goes on from there")
        end_the_rest(ending)
        close_pools()
        sys.exit(INTERRUPTED if isinstance(ending, KeyboardInterrupt) else TERMINATED)


def _launched(launcher: Launcher, batch: Sequence[Sequence[str]], first: int, console: Console) -> list[Any]:
    """Run one batch; where the launcher ends before its jobs do, wait for them."""
    try:
        return list(launcher.launch(batch, initial_job_idx=first))
    except SystemExit as ending:
        if ending.code in (INTERRUPTED, TERMINATED, UNREAD):
            raise
        console.print(f"[bold red]error[/] the launcher ended early, with code {escape(str(ending.code))}")
        wait_for_the_rest(ending)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        console.print(f"[bold red]error[/] the launcher ended early: {escape(reason)}", soft_wrap=True)
        wait_for_the_rest(error)
    return []


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        sys.exit(f"error {error.filename or folder}: {reason}; choose another folder with outputs.dir=FOLDER")
