"""A sweep of three jobs that compute nothing, of which the first loses its process; to be run as a process of its own.

Usage: SECONDS=10 python -m tests.launchers.losses LAUNCHER FOLDER (rest|end) OVERRIDE...
The other jobs last that many seconds.
"""

import os
import signal
import sys
import time
from pathlib import Path

import submitit
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from pipelines.launchers import end_the_rest, prepare, wait_for_the_rest
from pipelines.schema import register
from tests.launchers.commands import ROOT

JOBS = 3


def job(cfg: DictConfig) -> None:
    """Be lost, if it is the first; else tell what it may see, and at the end that it came to its end."""
    number = int(HydraConfig.get().job.num)
    folder = Path(cfg.outputs.dir)
    (folder / f"began_{number}").write_text(f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}")
    if number == 0:
        while len(list(folder.glob("began_*"))) < JOBS:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(os.environ["SECONDS"]))
    (folder / f"ended_{number}").touch()


def main(name: str, folder: str, then: str, *overrides: str) -> None:
    """Launch the jobs, and say what the launcher raised and how many jobs had ended before and after what follows."""
    # How long submitit looks for a result that a slow file system may still hide.
    submitit.Job._results_timeout_s = 1
    register()
    OmegaConf.register_new_resolver("launch_id", lambda: "losses", replace=True)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        asked = [f"hydra/launcher={name}", f"outputs.dir={folder}", *overrides]
        config = loader.load_configuration("config", asked, RunMode.MULTIRUN)
        context = HydraContext(config_loader=loader, callbacks=Callbacks(config))
        launcher = Plugins.instance().instantiate_launcher(context, job, config)
        prepare(config.hydra.launcher)
        try:
            launcher.launch([[*asked, f"seed={number}"] for number in range(JOBS)], 0)
        except Exception as error:
            before = len(list(Path(folder).glob("ended_*")))
            {"rest": wait_for_the_rest, "end": end_the_rest}[then](error)
            print(type(error).__name__, before, len(list(Path(folder).glob("ended_*"))))


if __name__ == "__main__":
    main(*sys.argv[1:])
