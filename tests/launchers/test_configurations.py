"""Our launcher files: they are what Hydra takes, and what the plugins understand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from pipelines import launchers
from pipelines.schema import register
from tests.launchers.commands import ENVIRONMENT, ROOT, multirun, run

pytestmark = pytest.mark.filterwarnings("ignore:\\s*'hydra/launcher/:UserWarning")

NAMES = ("joblib", "ray", "submitit_local", "submitit_slurm")


def configuration(name: str) -> DictConfig:
    register()
    OmegaConf.register_new_resolver("launch_id", lambda: "test", replace=True)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", overrides=[f"hydra/launcher={name}"], return_hydra_config=True)


@pytest.mark.parametrize("name", NAMES)
def test_the_plugin_accepts_every_key_of_ours(name: str) -> None:
    cfg = configuration(name)
    ours = OmegaConf.load(ROOT / "conf" / "hydra" / "launcher" / f"{name}.yaml")
    assert isinstance(ours, DictConfig)
    OmegaConf.set_struct(cfg, False)
    for key in set(ours) - {"submitit_folder", "name"}:
        assert str(cfg.hydra.launcher[key]) == str(ours[key]), key
    cfg.hydra.launcher.update({key: f"some {key}" for key in {"submitit_folder", "name"} & set(ours)})
    assert isinstance(Plugins.instance()._instantiate(cfg.hydra.launcher), Launcher)


def test_a_launcher_without_its_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = {name: str(configuration(name).hydra.launcher._target_) for name in NAMES}
    assert not any(launchers.missing_extra(target) for target in targets.values()), "the tests need all of them"
    monkeypatch.setattr(launchers, "find_spec", lambda name: None)
    for name, extra in zip(NAMES, ("joblib", "ray", "slurm", "slurm"), strict=True):
        assert f"pip install -c constraints.txt '.[{extra}]'" in launchers.missing_extra(targets[name])
    assert launchers.missing_extra("hydra._internal.core_plugins.basic_launcher.BasicLauncher") == ""


def test_a_command_without_its_launcher_ends_with_a_sentence(tmp_path: Path) -> None:
    code = (
        "import runpy, sys; from pipelines import launchers; launchers.find_spec = lambda name: None\n"
        "sys.argv = sys.argv[1:]; runpy.run_path('run.py', run_name='__main__')"
    )
    arguments = [sys.executable, "-c", code, *multirun("ray", tmp_path)[1:]]
    done = subprocess.run(arguments, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "hydra_ray_launcher is not installed: pip install -c constraints.txt '.[ray]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_ray_is_not_given_ends_with_a_sentence(tmp_path: Path) -> None:
    done = run("ray", tmp_path, "hydra.launcher.ray.init.address=auto", "hydra.launcher.ray.init.num_cpus=1")
    assert done.returncode == 1
    assert "error hydra.launcher.ray.init: " in done.stderr
    assert "Traceback" not in done.stderr


def test_slurm_is_asked_for_what_the_configuration_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no Slurm here: an `sbatch` of ours keeps the file that it is given, and refuses."""
    tools, kept = tmp_path / "tools", tmp_path / "submitted.sh"
    tools.mkdir()
    for name, line in (("srun", "exit 1"), ("sbatch", f'cp "$1" {kept}; exit 1')):
        (tools / name).write_text(f"#!/bin/sh\n{line}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setitem(ENVIRONMENT, "PATH", f"{tools}{os.pathsep}{ENVIRONMENT['PATH']}")
    settings = ("partition=gpu", "gpus_per_node=1", "mem_gb=80", "timeout_min=30", "max_num_timeout=3")
    options = [f"hydra.launcher.{setting}" for setting in settings]
    options.append("+hydra.launcher.additional_parameters.mail-type=FAIL")
    done = run("submitit_slurm", tmp_path / "outputs", "seed=1,2", *options)
    assert done.returncode == 1
    assert "the launcher ended early" in done.stdout
    submitted = kept.read_text()
    lines = [line.removeprefix("#SBATCH --") for line in submitted.splitlines() if line.startswith("#SBATCH")]
    assert {
        "array=0-1%2",
        "cpus-per-task=2",
        "gpus-per-node=1",
        "job-name=run",
        "mail-type=FAIL",
        "mem=80GB",
        "nodes=1",
        "ntasks-per-node=1",
        "open-mode=append",
        "partition=gpu",
        "signal=USR2@120",
        "time=30",
    } <= set(lines)
    assert f"{sys.executable} -u -m submitit.core._submit" in submitted
