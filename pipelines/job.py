"""One job: from a composed configuration to an experiment's tables on screen and on disk. Imports no torch itself."""

import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape

from pipelines import overview, preflight
from pipelines.configuration import Config, ConfigurationError
from pipelines.display import Display
from pipelines.ending import INTERRUPTED, TERMINATED, UNREAD, Terminated, terminable
from pipelines.experiment import Experiment, build
from pipelines.exports import export, sound
from pipelines.failure import SAME_FAILURES, told
from pipelines.launchers import fail_at_exit, starts_again
from pipelines.plan import Plan
from pipelines.pool import Event, Pool, WorkerDied
from pipelines.schema import parse
from pipelines.work import Execution
from pipelines.workers import VISIBLE, environments
from salsa.data.rows import DataError
from salsa.hub import HubError
from salsa.models.source import UnavailableModelError
from salsa.store.artifact import Artifact, Store
from salsa.store.digests import Digests
from salsa.store.format import StoreFormatError
from salsa.store.lock import working
from salsa.training.interruption import Interrupted

LOG = logging.getLogger(__name__)

BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
SWEEP_NOTE = "sweep.json"
"""In a multirun's folder of logs: the fingerprint of its sweep, its number of jobs, and the overrides they share."""

RESULT = "result.json"
"""In a job's folder of logs: its experiment, or why there is none."""

_POOLS: dict[str, Pool] = {}
"""Workers of this process, by what each of them may see: they outlive a job, so that a sweep imports torch once."""


class JobFailed(RuntimeError):
    """The job did not reach all that was asked for.

    `folders` are those of the results that it reached, `failures` the events of the stages that failed, `computed` the
    number of stages that did not.
    """

    folders: Sequence[Path] = ()
    failures: Sequence[Event] = ()
    computed: int = 0


EXPECTED = (
    ConfigurationError,
    DataError,
    HubError,
    UnavailableModelError,
    preflight.MissingError,
    OSError,
    StoreFormatError,
    JobFailed,
    WorkerDied,
)
"""Failures that are told in a sentence; anything else is a defect and keeps its traceback."""


def make_console() -> Console:
    """Return a console of the terminal's width, or of 120 columns where the output goes to a file."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def run(cfg: DictConfig) -> None:
    """Plan, run and show one experiment; in a single run a failure ends the process with code 1.

    In a multirun it is a `JobFailed`, which lets the other jobs of every launcher run, and a note in the job's folder,
    from which the sweep tells why a cell is missing. Ctrl-C ends the command with code 130, and SIGTERM with 143.
    """
    console = make_console()
    # A log that cannot be written, because the disk is full, must not hide on the screen what the matter is.
    logging.raiseExceptions = False
    try:
        with terminable():
            _run(cfg, console)
    except EXPECTED as error:
        console.print(f"[bold red]error[/] {escape(_of_job() + sentence(error))}", soft_wrap=True)
        _give_up(sentence(error), error)
    except (KeyboardInterrupt, Terminated, Interrupted) as ending:
        console.print("[yellow]stopped[/] what was done is kept: the same command goes on from there")
        close_pools()
        sys.exit(INTERRUPTED if isinstance(ending, KeyboardInterrupt) else TERMINATED)
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code and starts_again(_launcher()):
            raise
        if isinstance(error.__context__, BrokenPipeError):
            _end_unread()
        # A library's sys.exit(0) would end a whole sweep, and look like success.
        LOG.exception("this job failed")
        if not _multirun() and isinstance(error, Exception):
            raise
        traceback.print_exc()
        _give_up(f"{type(error).__name__}: {error}", error)


def sentence(error: Exception) -> str:
    """Return what an expected failure says; the operating system's errors begin with the file."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _end_unread() -> NoReturn:
    """End the command because nobody reads its output any more; what Python would still flush goes nowhere."""
    close_pools()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(UNREAD)


def _multirun() -> bool:
    return HydraConfig.get().mode is RunMode.MULTIRUN


def _launcher() -> str:
    """Return the class of the launcher that runs this job; of a single run, Hydra's basic one."""
    return str(HydraConfig.get().launcher._target_) if _multirun() else BASIC_LAUNCHER


def _side_by_side() -> bool:
    """Return whether other jobs of this multirun may run at the same time."""
    return _launcher() != BASIC_LAUNCHER


def _sweep_note() -> dict[str, Any]:
    """Return what the sweeper has left for its jobs; empty outside of its sweeps."""
    try:
        note = json.loads((Path(str(HydraConfig.get().sweep.dir)) / SWEEP_NOTE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return dict(note) if _multirun() else {}


def _of_job() -> str:
    """Return what a message begins with in a multirun: which job it is about, by what tells it from the others."""
    if not _multirun():
        return ""
    note = _sweep_note()
    shared = note.get("shared", ())
    own = " ".join(text for text in HydraConfig.get().overrides.task if text not in shared)
    of = f" of {note['jobs']}" if "jobs" in note else ""
    return f"job {int(HydraConfig.get().job.num) + 1}{of} ({own}): " if own else f"job{of}: "


def _give_up(reason: str, error: BaseException) -> None:
    if not _multirun():
        sys.exit(1)
    leave_result(getattr(error, "folders", ()), reason)
    fail_at_exit()
    raise JobFailed(reason) from error


def _run(cfg: DictConfig, console: Console) -> None:
    started = time.monotonic()
    config = parse(cfg)
    store = Store(Path(config.outputs.dir).resolve())
    store.check_format()
    if config.study.name:
        from pipelines.study import command

        command.run(config, store, console)
        return
    experiment = _plan(config, {}, store, console)
    if config.plan or config.why is not None:
        _show_plan(config, experiment, store, console)
        return
    report, *others = _results(experiment, store, lambda text: console.print(escape(text)))
    computed = 0
    failure: JobFailed | None = None
    if report is None or None in others:
        preflight.check(config)
        # Only a report that is written prints the settings; to resolve them takes longer than the plan.
        settings = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
        assert isinstance(settings, dict)
        experiment = _plan(config, {str(key): value for key, value in settings.items()}, store, console)
        try:
            computed = compute(config, experiment.plan, _group(experiment), store, console)
        except JobFailed as error:
            failure = error
        report, *others = _results(experiment, store, None)
    elif not _multirun():
        console.print(f"[dim]·[/] {_stored(experiment, store)}")
    if report is None:
        raise failure or JobFailed("the experiment did not reach its report")
    store.clean_temporary()
    folder = export(report, store)
    landscapes = [export(landscape, store) for landscape in others if landscape is not None]
    leave_result([folder, *landscapes])
    seconds = time.monotonic() - started
    if _multirun():
        stages = f"{computed} stages computed, {len(experiment.plan) - computed} from the store, {seconds:.1f} s"
        where = ", ".join(str(_relative(each)) for each in (folder, *landscapes))
        console.print(f"[green]✓[/] {escape(_of_job())}{stages}: [bold]{escape(where)}[/]", soft_wrap=True)
    else:
        _show(report, folder, console)
        for landscape in landscapes:
            _show_landscape(landscape, console)
        if failure is None:
            _say_how_it_went(config, computed, experiment, console, seconds)
    if failure is not None:
        failure.folders = [folder, *landscapes]
        raise failure


def _results(experiment: Experiment, store: Store, say: Callable[[str], None] | None) -> list[Artifact | None]:
    """Return the report, and the landscape if one is asked for; None for what is not in the store, or damaged there."""
    stages = [stage for stage in (experiment.report, experiment.landscape) if stage is not None]
    if say is None:
        return [store.find(stage.kind, stage.fingerprint) for stage in stages]
    return [sound(store, stage.kind, stage.fingerprint, say) for stage in stages]


def _stored(experiment: Experiment, store: Store) -> str:
    """Return what to say of an experiment whose report is in the store."""
    gone = [stage.name for stage in experiment.plan if store.find(stage.kind, stage.fingerprint) is None]
    if not gone:
        return f"all {len(experiment.plan)} stages come from the store"
    return f"the report comes from the store; no longer there, and not needed: {', '.join(gone)}"


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


def compute(config: Config, plan: Plan, group: str, store: Store, console: Console, names: bool = True) -> int:
    """Run a plan; return how many stages were computed. Raises `JobFailed`, naming the stages that failed.

    `group` is that of the W&B runs; with `names` the stages that are stored are named.
    """
    stored = {stage.fingerprint for stage in plan if store.find(stage.kind, stage.fingerprint) is not None}
    console.print(
        f"{escape(_of_job())}[bold]{config.model.family.value}[/] at scale [bold]{config.scale.name}[/]: "
        f"{len(plan)} stages, {len(plan) - len(stored)} to run"
    )
    overview.show_expenses(plan, store, console)
    store.root.mkdir(parents=True, exist_ok=True)
    if not working(store.root):
        raise JobFailed(
            f"outputs.dir={config.outputs.dir}: this file system has no working locks; choose another folder"
        )
    store.clean_temporary()  # before the work: what killed processes left may be what fills the disk
    execution = Execution.from_config(config, group)
    job = {"plan": plan.to_json(), "execution": execution.to_json()}
    with Display(plan, console, _of_job()) as display:
        display.show_stored(plan, stored, names=names and not _multirun())
        places = environments(config.compute, _side_by_side())
        if places:
            _pool(places, config.compute.save_seconds).run(
                job, display.handle, display.tick, lambda *death: _record_death(store, execution.run, *death)
            )
        else:
            from pipelines.worker import run_job

            run_job(job, lambda event: display.handle(event) if event["event"] != "finished" else None)
    if display.failures:
        reasons = told(display.failures)
        blocked = f"; {display.blocked} stages are blocked by it" if display.blocked else ""
        failed = JobFailed(
            f"failed: {reasons}{blocked}; everything that did not depend on that is in the store; "
            f"log: {Path(HydraConfig.get().runtime.output_dir)}"
        )
        failed.failures, failed.computed = display.failures, display.computed
        raise failed
    return display.computed


def _group(experiment: Experiment) -> str:
    """Return the group of the W&B runs: the sweep, or the experiment if it stands alone."""
    return str(_sweep_note().get("fingerprint", experiment.report.fingerprint))


def _record_death(store: Store, run: str, started: Event, reason: str, step: int | None) -> None:
    """Note a stage as failed whose workers died, so that no worker of this command is sent there again."""
    details = {
        "stage": started["stage"],
        "error": reason,
        "traceback": "",
        "step": step,
        "times": SAME_FAILURES,
        "passing": True,
        "run": run,
    }
    store.record_failure(started["kind"], started["fingerprint"], details)


def _pool(places: Sequence[Mapping[str, str]], save_seconds: float) -> Pool:
    key = json.dumps([list(places), os.environ.get(VISIBLE)])
    pool = _POOLS.get(key)
    if pool is None or not pool.alive():
        if pool is not None:
            pool.close()
        pool = _POOLS[key] = Pool(places, Path(HydraConfig.get().runtime.output_dir), save_seconds)
    return pool


def close_pools() -> None:
    """End the worker processes of this command."""
    for pool in _POOLS.values():
        pool.close()
    _POOLS.clear()


def _show(report: Artifact, folder: Path, console: Console) -> None:
    from salsa.report import tables

    tables.show(report.json("experiment.json"), console)
    console.print(f"tables, curves, samples, one page: [bold]{escape(str(_relative(folder)))}[/]")


def _show_landscape(folder: Path, console: Console) -> None:
    landscape = json.loads((folder / "landscape.json").read_text(encoding="utf-8"))
    console.print("[bold]Landscape[/]")
    for shape in ("line", "plane"):
        for key, verdict in (landscape[shape] or {"verdicts": {}})["verdicts"].items():
            label = landscape["quantities"][key]["label"]
            console.print(f"· {shape}, {escape(label)}: {escape(verdict)}", soft_wrap=True)
    console.print(f"figures, tables: [bold]{escape(str(_relative(folder)))}[/]")


def _say_how_it_went(config: Config, computed: int, experiment: Experiment, console: Console, seconds: float) -> None:
    console.print(f"{computed} stages computed, {len(experiment.plan) - computed} from the store, {seconds:.1f} s")
    runs = Path(config.outputs.dir).resolve() / "wandb"
    started = time.time() - seconds
    if any(run.stat().st_mtime >= started for run in runs.glob("offline-run-*")):
        shown = escape(str(_relative(runs)))
        # Whole, however long: people copy it.
        console.print(
            f"W&B runs are offline; to upload them: [bold]wandb sync {shown}/offline-run-*[/]", soft_wrap=True
        )


def leave_result(folders: Sequence[Path], error: str | None = None) -> None:
    """Leave a note in the job's folder, from which a sweep is collected: its results' folders, what went wrong."""
    output = Path(HydraConfig.get().runtime.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    experiment, *landscapes = map(str, folders) if folders else (None,)
    result = {
        "experiment": experiment,
        "landscapes": landscapes,
        "overrides": list(HydraConfig.get().overrides.task),
        "error": error,
    }
    (output / RESULT).write_text(json.dumps(result))


def _show_plan(config: Config, experiment: Experiment, store: Store, console: Console) -> None:
    if config.why is not None:
        overview.show_why(experiment.plan, store, config.why, console)
        return
    overview.show_plan(experiment.plan, store, max(1, len(environments(config.compute, False))), console)
    for problem in preflight.problems(config):
        console.print(f"[yellow]missing[/] {escape(problem)}", soft_wrap=True)


def _relative(path: Path) -> Path:
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path
