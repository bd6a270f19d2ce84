"""The one entry: `python run.py`, `python run.py -m ...`. Only Hydra is imported here, so that help answers at once."""

import os
import sys
import time
from pathlib import Path

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


def show_help() -> None:
    """Print what Hydra's help prints, without composing: Hydra copies every schema for every group it lists."""
    conf = Path(__file__).resolve().parent / "conf"
    settings = OmegaConf.to_container(OmegaConf.load(conf / "config.yaml"))
    assert isinstance(settings, dict)
    texts: dict[str, str] = settings["hydra"]["help"]
    groups = {folder.name: sorted(path.stem for path in folder.glob("*.yaml")) for folder in sorted(conf.iterdir())}
    listed = "\n".join(f"{name}: {', '.join(options)}" for name, options in groups.items() if options)
    text = texts["template"]
    for name in ("header", "footer"):
        text = text.replace(f"${{hydra.help.{name}}}", texts[name])
    print(text.replace("$APP_CONFIG_GROUPS", listed))


if __name__ == "__main__":
    if sys.argv[1:] in (["--help"], ["-h"]):
        show_help()
        sys.exit()
    sys.exit(main())
