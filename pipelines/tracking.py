"""Weights & Biases: one run a computed stage, one for the report of an experiment and one a sweep; always finished."""

import configparser
import logging
import netrc
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipelines import lineage
from pipelines.configuration import ConfigurationError
from pipelines.failure import out_of_memory, passing
from pipelines.lineage import ID_CHARACTERS
from pipelines.plan import Stage
from salsa.store.artifact import Artifact
from salsa.training.interruption import Interrupted

if TYPE_CHECKING:
    from salsa.report.sweep.cells import Cell

DEFAULT_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")
"""Names of W&B's own server: which of them a client means, and writes into the netrc file, depends on its version."""
MODES = {
    "online": "online",
    "offline": "offline",
    "disabled": "disabled",
    "shared": "shared",
    "run": "online",
    "dryrun": "offline",
}
"""What WANDB_MODE may be, old words included, and what each means."""
ONLINE_SECONDS = 30.0
FINISH_SECONDS = 300
"""How long the end of a run waits for uploads, unless WANDB_FINISH_TIMEOUT is set; `wandb sync` sends the rest."""
TITLE_CHARACTERS, ALERT_CHARACTERS, ALERT_LINES = 63, 300, 5
"""Of an alert: W&B's limit for the title, and ours for the text about an error and for how many errors are told."""
SECRETS = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")
"""How names of environment variables end whose values are nobody else's business."""
SECRET_CHARACTERS = 8
"""Shorter values are no secrets, and are found inside innocent words."""

LOG = logging.getLogger(__name__)


def logged_in() -> bool:
    """Return whether there are credentials for the W&B server where its client looks: environment, netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        credentials = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return any(credentials.authenticators(host) is not None for host in _hosts())


def mode_of(tracker: Mapping[str, Any]) -> str:
    """Return "online", "offline", "disabled" or "shared": the environment's word first, then the setting.

    Raises ConfigurationError for a WANDB_MODE that there is not.
    """
    if tracker["name"] == "none":
        return "disabled"
    asked = os.environ.get("WANDB_MODE")
    if asked:
        if asked not in MODES:
            raise ConfigurationError(f"WANDB_MODE={asked}: must be one of {', '.join(MODES)}, or unset")
        return MODES[asked]
    if tracker["mode"] == "auto":
        return "online" if logged_in() else "offline"
    return str(tracker["mode"])


class TrackedRun:
    """What a stage may send to its run; without a tracker nothing is sent."""

    def __init__(self, run: Any = None, loggers: Sequence[Any] = ()) -> None:
        self._run = run
        self.loggers: Sequence[Any] = loggers

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set the final figures of the run."""
        if self._run is not None:
            with _unwatched("summary"):
                self._run.summary.update(dict(values))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Send a table."""
        if self._run is not None:
            import wandb

            data = [list(row) for row in rows]
            with _unwatched(name):
                self._run.log({name: wandb.Table(columns=list(columns), data=data, allow_mixed_types=True)})

    def published(self, result: Artifact, inputs: Iterable[Artifact]) -> None:
        """Say where the stage's result lies and what it was made from; offline the manifest alone says so."""
        if self._run is not None and not self._run.offline:
            lineage.record(self._run, result, inputs)

    def images(self, paths: Sequence[Path]) -> None:
        """Send pictures, named by their files."""
        if self._run is not None:
            import wandb

            with _unwatched("figures"):
                self._run.log({f"figures/{path.stem}": wandb.Image(str(path)) for path in paths})

    def curves(self, curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Send the curves of several models over their own `step`: points by model, which may hold groups of values.

        Standard errors (`..._se`) are left out: a chart a value is enough to look at.
        """
        if self._run is None:
            return
        by_step: dict[int, dict[str, float]] = {}
        for model, points in curves.items():
            for point in points:
                values = _flat({key: value for key, value in point.items() if key != "step"})
                by_step.setdefault(int(point["step"]), {}).update(
                    {f"curves/{key}/{model}": value for key, value in values.items() if not key.endswith("_se")}
                )
        with _unwatched("curves"):
            self._run.define_metric("step")
            for name in {name for values in by_step.values() for name in values}:
                self._run.define_metric(name, step_metric="step", step_sync=True)
            for step in sorted(by_step):
                self._run.log({"step": step} | by_step[step])


@contextmanager
def _unwatched(what: str) -> Iterator[None]:
    """Turn whatever W&B cannot do into a warning: work does not fail because nobody can watch it."""
    try:
        yield
    except Exception as error:  # the client's errors have no common class
        LOG.warning("W&B was not sent %s: %s: %s", what, type(error).__name__, error)


@contextmanager
def track(stage: Stage, tracker: Mapping[str, Any], group: str, outputs: Path) -> Iterator[TrackedRun]:
    """Open the run of one stage and finish it whatever happens, so that no run bleeds into the next.

    Where the server cannot be reached the run is offline: work does not fail because nobody can watch it. A stage that
    fails sends an alert; one that is interrupted does not.
    """
    mode = mode_of(tracker)
    if mode == "disabled":
        yield TrackedRun()
        return
    about = {"id": stage.fingerprint[:ID_CHARACTERS], "name": stage.name, "job_type": stage.kind}
    about["group"] = group[:ID_CHARACTERS]
    run = _start(about | {"config": _configuration(stage)}, tracker, outputs, mode)
    from lightning.pytorch.loggers import WandbLogger

    failed = True
    try:
        yield TrackedRun(run, [WandbLogger(experiment=run, save_dir=str(outputs))])
        failed = False
    except Interrupted:
        raise
    except (Exception, SystemExit) as error:
        _alert_failure(run, stage, error)
        raise
    finally:
        _finish(failed)


def track_sweep(
    identity: str, title: str, cells: "Sequence[Cell]", folder: Path, tracker: Mapping[str, Any], outputs: Path
) -> None:
    """Send the summary run of a sweep: its table, its figures from `folder`, and an alert that it has ended.

    `identity` is the sweep's fingerprint, which its stages have as their group. The sweep's results are stored before,
    so whatever W&B cannot do is a warning.
    """
    mode = mode_of(tracker)
    if mode == "disabled":
        return
    from salsa.report.sweep.cells import count, swept

    values = {key: list(dict.fromkeys(cell.keys.get(key) for cell in cells)) for key in swept(cells)}
    about = {"id": identity[:ID_CHARACTERS], "name": title, "job_type": "sweep", "group": identity[:ID_CHARACTERS]}
    failed = True
    try:
        run = _start(about | {"config": {"fingerprint": identity, "swept": values}}, tracker, outputs, mode)
        _send_sweep(TrackedRun(run), cells, folder)
        ended = f"sweep ended: {count(cells)}"
        level = "INFO" if all(cell.state == "done" for cell in cells) else "WARN"
        run.alert(_title(ended), "\n".join([title, *_reasons(cells)]), level=level)
        failed = False
    except Exception as error:  # the client's errors have no common class
        LOG.warning("the sweep could not be sent to W&B: %s: %s", type(error).__name__, error)
    finally:
        _finish(failed)


def _reasons(cells: "Sequence[Cell]") -> list[str]:
    """Return a line about each of the first cells without a result."""
    missing = [cell for cell in cells if cell.state != "done"][:ALERT_LINES]
    return [_public(f"{cell.state} {cell.label}: {cell.reason}")[:ALERT_CHARACTERS] for cell in missing]


def _send_sweep(tracked: TrackedRun, cells: "Sequence[Cell]", folder: Path) -> None:
    from salsa.report.sweep.cells import STATES, distinct
    from salsa.report.sweep.table import columns, rows

    public = [[_public(value) if isinstance(value, str) else value for value in row.values()] for row in rows(cells)]
    tracked.table("sweep", list(columns(cells)), public)
    pictures = sorted(folder.glob("over_*.png"))
    if pictures:
        tracked.images(pictures)
    states = [cell.state for cell, _ in distinct(cells)]
    tracked.summary({"experiments": len(states)} | {state: states.count(state) for state in STATES})


def _alert_failure(run: Any, stage: Stage, error: BaseException) -> None:
    """Send an alert; an error that may pass is a warning, because the stage may be tried again."""

    line = _public(f"{type(error).__name__}: {error}".split("\n")[0])[:ALERT_CHARACTERS]
    level = "WARN" if passing(error) or out_of_memory(error) else "ERROR"
    try:
        run.alert(_title(f"stage failed: {stage.name}"), f"{stage.name} {stage.fingerprint}\n{line}", level=level)
    except Exception as unsent:  # the client's errors have no common class
        LOG.warning("the alert about %s could not be sent: %s", stage.name, unsent)


def _title(text: str) -> str:
    return text if len(text) <= TITLE_CHARACTERS else f"{text[: TITLE_CHARACTERS - 1]}…"


def _public(text: str) -> str:
    """Return text without the home folder and without the values of secret environment variables."""
    for name, value in os.environ.items():
        if name.endswith(SECRETS) and len(value) >= SECRET_CHARACTERS:
            text = text.replace(value, f"${name}")
    home = os.environ.get("HOME", "")
    return text.replace(home, "~") if len(home) > 1 else text


def _start(about: Mapping[str, Any], tracker: Mapping[str, Any], outputs: Path, mode: str) -> Any:
    """Start a run, offline if the server is out of reach."""
    folder = outputs / "wandb"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_SILENT", "true")
    # Copies of logged tables until they are uploaded: beside the runs, not in the home folder.
    os.environ.setdefault("WANDB_DATA_DIR", str(folder / "data"))
    # The client's own answer to a server that is gone is to wait for ever.
    os.environ.setdefault("WANDB_FINISH_TIMEOUT", str(FINISH_SECONDS))
    import wandb

    settings = {"console": "off", "silent": True, "x_disable_stats": True, "disable_git": True}
    arguments: dict[str, Any] = {
        "project": tracker["project"],
        "entity": tracker["entity"],
        "dir": str(outputs),
        **about,
        "settings": wandb.Settings(**settings, init_timeout=ONLINE_SECONDS),
    }
    try:
        run = wandb.init(**arguments | {"mode": mode, "resume": None if mode == "offline" else "allow"})
    except wandb.errors.Error as error:
        if mode == "offline":
            raise
        LOG.warning("W&B cannot be used online (%s): the runs of this process are offline", error)
        os.environ["WANDB_MODE"] = "offline"
        # The client still waits for the server with this run; only a new one can have it.
        wandb.teardown()
        run = wandb.init(**arguments | {"mode": "offline"})
    # Charts show metrics over the training step, also where a resumed run's own count begins anew.
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return run


def _finish(failed: bool) -> None:
    import wandb

    try:
        wandb.finish(exit_code=1 if failed else 0)
    except Exception as error:  # the client's errors have no common class
        LOG.warning("the W&B run could not be finished: %s: %s", type(error).__name__, error)


def _configuration(stage: Stage) -> dict[str, Any]:
    """Return what a run shows as its configuration: all that the stage depends on, and for a report all settings."""
    shown = (
        {"stage": stage.kind, "fingerprint": stage.fingerprint} | dict(stage.config) | {"inputs": dict(stage.inputs)}
    )
    if "settings" in stage.execution:
        shown["settings"] = stage.execution["settings"]
    return shown


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, float]:
    """Return nested values by their path; those that are missing are left out."""
    flat: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{key}/")
        elif value is not None:
            flat[f"{before}{key}"] = float(value)
    return flat


def _hosts() -> tuple[str, ...]:
    """Return the names of the W&B server: the environment's, that of `wandb login --host`, or W&B's own."""
    address = os.environ.get("WANDB_BASE_URL")
    if not address:
        settings = configparser.ConfigParser()
        try:
            settings.read(Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser() / "settings")
        except configparser.Error:
            return DEFAULT_HOSTS
        address = settings.get("default", "base_url", fallback="", raw=True)
    host = urlsplit(address).netloc
    return (host,) if host and host not in DEFAULT_HOSTS else DEFAULT_HOSTS
