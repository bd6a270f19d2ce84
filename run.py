"""The one entry: `python run.py`, `python run.py -m ...`. Only Hydra is imported here, so that help answers at once."""

import os
import sys
import time

import hydra
from omegaconf import DictConfig, OmegaConf

from pipelines.schema import register

_LAUNCH = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"

OmegaConf.register_new_resolver("launch_id", lambda: _LAUNCH, replace=True)
register()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> None:
    """Run one experiment; a failure is reported in words and ends with a non-zero code."""
    from pipelines.job import run

    run(cfg)


if __name__ == "__main__":
    sys.exit(main())
