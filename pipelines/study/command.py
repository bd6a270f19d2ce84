"""`python run.py study=NAME`: both plans of a study, one after the other, and its tables on screen and on disk."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

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
    failed = []
    for number, name in enumerate(names, start=1):
        console.print(f"\n[bold]study {number} of {len(names)}: {escape(name)}[/]")
        try:
            _run(composer.compose([*overrides, f"study={name}"]), store, console)
        except (ConfigurationError, job.JobFailed) as error:
            console.print(f"[bold red]error[/] {escape(str(error))}", soft_wrap=True)
            failed.append(name)
    if failed:
        raise job.JobFailed(f"no result of {len(failed)} of {len(names)} studies: {', '.join(failed)}")


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
    group = f"study-{config.study.name}"
    computed = 0
    if chosen is None:
        console.print(f"[bold]{escape(config.study.title)}[/]: choosing KL coefficients")
        computed += job.compute(config, study.plan, group, store, console, names=False)
        chosen = _chosen(config, selected, store)
        assert chosen is not None  # a stage that failed has ended the command
    tables = study.reporting(chosen, selected)
    result = sound(store, tables.kind, tables.fingerprint, lambda text: console.print(escape(text)))
    if result is None:
        console.print(f"[bold]{escape(config.study.title)}[/]: the replicates that are reported")
        computed += job.compute(config, study.plan, group, store, console, names=False)
        result = store.find(tables.kind, tables.fingerprint)
        assert result is not None
    folder = export(result, store)
    _show(result, folder, console)
    job.leave_result([folder])
    console.print(_cost(study.plan, store, computed, time.monotonic() - started))


def _cost(plan: Plan, store: Store, computed: int, seconds: float) -> str:
    """Return how many stages there are, how often they were begun, and what they took, whenever that was."""
    manifests = [
        artifact.manifest for stage in plan if (artifact := store.find(stage.kind, stage.fingerprint)) is not None
    ]
    begun = sum(manifest["attempts"] for manifest in manifests)
    work = sum(manifest["cpu_seconds"] for manifest in manifests)
    text = f"{len(plan)} distinct stages, begun {begun} times in all, {shown_duration(work)} of CPU time together; "
    return text + f"now: {computed} computed, {shown_duration(seconds)}"


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
    """Return what composes configurations as the command that runs was composed."""
    return Composer(GlobalHydra.instance().config_loader(), OmegaConf.create({"hydra": HydraConfig.get()}))


def _chosen(config: Config, selected: Selected, store: Store) -> dict[tuple[str, str], float] | None:
    """Return the coefficient of each family and arm; None while some of them are not chosen."""
    arms = [(family, arm) for family in config.study.families for arm in config.study.arms]
    if not selected:  # one coefficient, or all of them, or no arms: nothing to choose
        return {cell: float(config.study.coefficients[0]) for cell in arms}
    found = {}
    for cell in arms:
        artifact = store.find("select", selected[cell].fingerprint)
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
