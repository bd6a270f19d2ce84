"""Weights & Biases: one run a computed stage and one for the experiment (its report), grouped; always finished."""

import configparser
import logging
import netrc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipelines.configuration import ConfigurationError
from pipelines.plan import Stage

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
ID_CHARACTERS = 32
"""Of a fingerprint's 64, for the ids of runs and the names of groups, which have a limit."""

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
            self._run.summary.update(dict(values))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Send a table."""
        if self._run is not None:
            import wandb

            data = [list(row) for row in rows]
            self._run.log({name: wandb.Table(columns=list(columns), data=data, allow_mixed_types=True)})

    def images(self, paths: Sequence[Path]) -> None:
        """Send pictures, named by their files."""
        if self._run is not None:
            import wandb

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
        self._run.define_metric("step")
        for name in {name for values in by_step.values() for name in values}:
            self._run.define_metric(name, step_metric="step", step_sync=True)
        for step in sorted(by_step):
            self._run.log({"step": step} | by_step[step])


@contextmanager
def track(stage: Stage, tracker: Mapping[str, Any], group: str, outputs: Path) -> Iterator[TrackedRun]:
    """Open the run of one stage and finish it whatever happens, so that no run bleeds into the next.

    Where the server cannot be reached the run is offline: work does not fail because nobody can watch it.
    """
    mode = mode_of(tracker)
    if mode == "disabled":
        yield TrackedRun()
        return
    run = _start(stage, tracker, group, outputs, mode)
    from lightning.pytorch.loggers import WandbLogger

    failed = True
    try:
        yield TrackedRun(run, [WandbLogger(experiment=run, save_dir=str(outputs))])
        failed = False
    finally:
        _finish(failed)


def _start(stage: Stage, tracker: Mapping[str, Any], group: str, outputs: Path, mode: str) -> Any:
    """Start a run, offline if the server is out of reach."""
    folder = outputs / "wandb"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_SILENT", "true")
    # Copies of logged tables until they are uploaded: beside the runs, not in the home folder.
    os.environ.setdefault("WANDB_DATA_DIR", str(folder / "data"))
    import wandb

    settings = {"console": "off", "silent": True, "x_disable_stats": True, "disable_git": True}
    arguments: dict[str, Any] = {
        "project": tracker["project"],
        "entity": tracker["entity"],
        "dir": str(outputs),
        "id": stage.fingerprint[:ID_CHARACTERS],
        "name": stage.name,
        "group": group[:ID_CHARACTERS],
        "job_type": stage.kind,
        "config": _configuration(stage),
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
    except wandb.errors.Error as error:
        LOG.warning("the W&B run could not be finished: %s", error)


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
