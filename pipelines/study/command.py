"""`python run.py study=NAME`: both plans of a study, one after the other, and its tables on screen and on disk."""

import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from rich.console import Console
from rich.markup import escape

from pipelines import job, overview, preflight
from pipelines.configuration import Config, ConfigurationError
from pipelines.exports import export, sound
from pipelines.jobs import Composer
from pipelines.judges import ScoreJudge
from pipelines.plan import Plan, Stage
from pipelines.study.cells import Compose, Study
from pipelines.study.gaps import Loss, lost
from pipelines.study.settings import ALL
from pipelines.workers import environments
from salsa.store.artifact import Artifact, Store
from salsa.store.digests import Digests
from salsa.store.quantities import shown_duration

Selected = Mapping[tuple[str, str], Stage]

NO_STUDY = (ALL, "none")
"""Options of the group that name no study."""
SET_BY = {
    "model": "study.families",
    "replicate": "study.replicates",
    "policy.kl_coef": "study.coefficients",
    "policy.init": "study.arms",
    "policy.reference": "study.arms",
    "reference@policy": "study.arms",
    "opponent": "study.arms",
    "reference@opponent": "study.arms",
    "align@opponent": "study.arms",
    "controls": "study.arms",
}
"""Keys that differ between the cells of a study, and what sets them there."""
LEAST_SECONDS = 60.0
"""CPU time of a command below which its start-up says more about how long it took than its stages do."""
OF_THE_COMMAND = ("study", "worker", "plan", "why")
"""Keys that say what a command does, and are no part of a cell."""


def run(config: Config, store: Store, console: Console) -> None:
    """Run a study, or all of them one after the other, or show what would run.

    Raises `JobFailed` where a stage failed, and what planning raises.
    """
    if config.study.name != ALL:
        _run(config, store, console)
        return
    overrides = [text for text in HydraConfig.get().overrides.task if text != f"study={ALL}"]
    composer = _of_hydra()
    names = [name for name in GlobalHydra.instance().config_loader().get_group_options("study") if name not in NO_STUDY]
    failed: list[str] = []
    incomplete: list[str] = []
    for number, name in enumerate(names, start=1):
        console.print(f"\n[bold]study {number} of {len(names)}: {escape(name)}[/]")
        try:
            _run(composer.compose([*overrides, f"study={name}"]), store, console)
        except job.WorkerDied:
            raise
        except job.EXPECTED as error:
            console.print(f"[bold red]error[/] {escape(job.sentence(error))}", soft_wrap=True)
            (incomplete if getattr(error, "folders", ()) else failed).append(name)
    if not config.plan and config.why is None and len(failed) < len(names):
        from salsa.report.compendium.folder import write

        console.print(f"one page over everything: [bold]{escape(str(write(store.root)))}[/]", soft_wrap=True)
    if failed or incomplete:
        parts = [
            f"{what} of {len(of)} of {len(names)} studies: {', '.join(of)}"
            for what, of in (("no result", failed), ("an incomplete result", incomplete))
            if of
        ]
        raise job.JobFailed("; ".join(parts))


def _run(config: Config, store: Store, console: Console) -> None:
    started = time.monotonic()
    if not isinstance(config.judge, ScoreJudge):
        raise ConfigurationError(
            f"study={config.study.name}: judge={config.judge.name.value} compares replies and scores none; studies "
            "need a judge that does: gold or reward_model"
        )
    study = Study(config, _composer(config), Digests(store.root / "digests.json"))
    selected = study.selection()
    chosen = _chosen(config, selected, store)
    if config.plan or config.why is not None:
        _show_plan(config, study, selected, chosen, store, console)
        return
    for each in study.families:
        preflight.check(each)
    work = _Work(config, study, store, console)
    tables = work.tables(selected, chosen)
    result = store.find(tables.kind, tables.fingerprint)
    assert result is not None  # or a failure would have ended the command
    folder = export(result, store)
    _show(result, folder, console)
    job.leave_result([folder])
    console.print(_cost(study.plan.reaching([tables]), work, time.monotonic() - started))
    if work.failure is not None:
        work.failure.folders = [folder]
        raise work.failure


class _Work:
    """Both plans of a study, computed; what fails is left out where something that can be compared is left."""

    def __init__(self, config: Config, study: Study, store: Store, console: Console) -> None:
        self.config, self.study, self.store, self.console = config, study, store, console
        self.computed = 0
        self.before: set[str] = set()
        """What was in the store when this command came to it."""
        self.failure: job.JobFailed | None = None
        self._lost: dict[str, Loss] = {}
        self._seen: set[str] = set()

    def tables(self, selected: Selected, chosen: dict[tuple[str, str], float] | None) -> Stage:
        """Return the stage that holds the study's tables, when it is in the store. Raises `JobFailed`."""
        if chosen is None:
            self._say("choosing KL coefficients")
            if not self._compute(self.study.plan):
                selected = self.study.selection(self._lost)
                if not selected or not self._compute(self.study.plan.reaching(selected.values())):
                    raise self._ended()
            chosen = _chosen(self.config, selected, self.store)
            assert chosen is not None  # all of `selected` is in the store
        tables = self.study.reporting(chosen, selected, self._lost)
        if tables is None:
            raise self._ended()
        if sound(self.store, tables.kind, tables.fingerprint, lambda text: self.console.print(escape(text))) is None:
            self._say("the replicates that are reported")
            if not self._compute(self.study.plan.reaching([tables])):
                return self._without(chosen)
        return tables

    def _without(self, chosen: dict[tuple[str, str], float]) -> Stage:
        """Return the stage that holds the tables of what has not failed."""
        tables = self.study.reporting(chosen, self.study.selection(self._lost), self._lost)
        if tables is None or not self._compute(self.study.plan.reaching([tables])):
            raise self._ended()
        return tables

    def _ended(self) -> job.JobFailed:
        assert self.failure is not None  # nothing is left out of a study in which nothing failed
        return self.failure

    def _say(self, what: str) -> None:
        self.console.print(f"[bold]{escape(self.config.study.title)}[/]: {what}")

    def _compute(self, plan: Plan) -> bool:
        """Compute a plan; return False where something failed, of which the first failure is kept."""
        stored = (each.fingerprint for each in plan if self.store.find(each.kind, each.fingerprint) is not None)
        self.before |= set(stored) - self._seen
        self._seen |= {each.fingerprint for each in plan}
        try:
            group = f"study-{self.config.study.name}"
            self.computed += job.compute(self.config, plan, group, self.store, self.console, names=False)
        except job.JobFailed as error:
            self.failure = self.failure or error
            self._lost |= lost(error.failures)
            self.computed += error.computed
            return False
        return True


def _cost(plan: Plan, work: "_Work", seconds: float) -> str:
    """Return how many stages there are and how often they were begun; what they took, ever and in this command.

    The least that this command could take is the CPU time of what it computed, shared by its processes; that is known
    where no other command computed stages of the study meanwhile.
    """
    manifests = {
        stage.fingerprint: artifact.manifest
        for stage in plan
        if (artifact := work.store.find(stage.kind, stage.fingerprint)) is not None
    }
    begun = sum(manifest["attempts"] for manifest in manifests.values())
    taken = sum(manifest["cpu_seconds"] for manifest in manifests.values())
    text = f"{len(plan)} distinct stages, begun {begun} times in all, {shown_duration(taken)} of CPU time together; "
    text += f"now: {work.computed} computed, {shown_duration(seconds)}"
    own = [manifest["cpu_seconds"] for identity, manifest in manifests.items() if identity not in work.before]
    if sum(own) < LEAST_SECONDS or len(own) != work.computed:
        return text
    processes = len(environments(work.config.compute, False)) or 1
    return f"{text}, {seconds * processes / sum(own):.2f} times their CPU time over {processes} processes"


def _composer(config: Config) -> Compose:
    """Return what composes a cell: the command's own overrides, without what is about the study, and the cell's.

    Raises ConfigurationError for a key that the study sets itself.
    """
    composer = _of_hydra()
    given = []
    for text in HydraConfig.get().overrides.task:
        key = text.lstrip("+~").split("=")[0]
        instead = SET_BY.get(key) or (SET_BY.get(key.split(".")[0]) if not key.startswith("model.") else None)
        if instead:
            raise ConfigurationError(f"{text}: a study sets this itself; use {instead}")
        if key.startswith("model.") and not key.startswith("model.tiny.") and len(config.study.families) > 1:
            raise ConfigurationError(f"{text}: would give all of study.families the same model; name one family")
        if key.split(".")[0] not in OF_THE_COMMAND:
            given.append(text)

    def compose(overrides: Sequence[str]) -> Config:
        return composer.compose([*given, *overrides])

    return compose


def _of_hydra() -> Composer:
    """Return what composes configurations as the command that runs was composed; all studies share what it knows."""
    return _composer_of(GlobalHydra.instance().config_loader())


@cache
def _composer_of(loader: ConfigLoader) -> Composer:
    return Composer(loader, OmegaConf.create({"hydra": HydraConfig.get()}))


def _chosen(config: Config, selected: Selected, store: Store) -> dict[tuple[str, str], float] | None:
    """Return the coefficient of each family and arm; None while some of them are not chosen."""
    if not selected:  # one coefficient, or all of them, or no arms: nothing to choose
        arms = [(family, arm) for family in config.study.families for arm in config.study.arms]
        return {cell: float(config.study.coefficients[0]) for cell in arms}
    found = {}
    for cell, stage in selected.items():
        artifact = store.find("select", stage.fingerprint)
        if artifact is None:
            return None
        found[cell] = float(artifact.metrics["coefficient"])
    return found


def _show_plan(
    config: Config,
    study: Study,
    selected: Selected,
    chosen: Mapping[tuple[str, str], float] | None,
    store: Store,
    console: Console,
) -> None:
    if chosen is None:
        middle = float(config.study.coefficients[len(config.study.coefficients) // 2])
        console.print(f"coefficients are not chosen yet: the plan below takes {middle:g} for every arm")
        chosen = {(family, arm): middle for family in config.study.families for arm in config.study.arms}
    study.reporting(chosen, selected)
    if config.why is not None:
        overview.show_why(study.plan, store, config.why, console)
    else:
        workers = len(environments(config.compute, False)) or 1
        overview.show_sweep([study.plan], store, workers, console)


def _show(result: Artifact, folder: Path, console: Console) -> None:
    from salsa.report.study.terminal import show

    show(result.json("study.json"), console)
    console.print(f"tables, figures, one page: [bold]{escape(str(folder))}[/]", soft_wrap=True)
