"""Virtual environments for the programs that salsa is compared with, apart from salsa's own dependencies."""

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
PPO = "1.12.0"
"""The last release of TRL that has a PPO trainer."""
SFT = "1.16.0"
MERGEKIT = "0.1.5"

_COMPLETE = "complete.json"
_INSTALL_SECONDS = 1800
_EXTRA = ("datasets", "accelerate", "safetensors", "jinja2", "requests")
_SHARED = ("torch", "transformers", "datasets", "accelerate", "numpy", "tokenizers")


class PeerError(RuntimeError):
    """A peer's environment could not be made, or its program failed; the message ends with what it said."""


def default_folder() -> Path:
    """Return where environments are kept unless a folder is given: the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "salsa" / "peers"


def interpreter(folder: Path, release: str) -> Path:
    """Return the Python of the environment with a release of TRL, which is made where there is none.

    It has the torch that runs this program and, as far as TRL allows, the versions of `constraints.txt`, so that a
    comparison is one of programs and not of libraries below them.

    Raises:
        PeerError: if pip fails.
    """
    return _kept(folder.absolute() / f"trl-{release}", lambda target: _make(target, release))


def merging(folder: Path) -> Path:
    """Return the Python of the environment with mergekit, which is made where there is none, with this program's torch.

    Raises:
        PeerError: if pip fails.
    """
    return _kept(folder.absolute() / f"mergekit-{MERGEKIT}", _make_merging)


def versions(folder: Path, release: str) -> dict[str, str]:
    """Return the versions of what an environment has in common with this program, and of TRL."""
    return json.loads((folder.absolute() / f"trl-{release}" / _COMPLETE).read_text(encoding="utf-8"))


def call(python: Path, program: Path, *arguments: object) -> dict[str, Any]:
    """Run a program with one thread and without network; return the JSON object in its last line.

    Raises:
        PeerError: if the program fails or prints no JSON.
    """
    command = [str(python), str(program), *(str(argument) for argument in arguments)]
    done = subprocess.run(command, env=_quiet_environment(), capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).strip()
    if done.returncode != 0:
        raise PeerError(f"{' '.join(command)} ended with code {done.returncode}:\n{said[-4000:]}")
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise PeerError(f"{' '.join(command)} printed no JSON in its last line:\n{said[-4000:]}") from error


def _quiet_environment() -> dict[str, str]:
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "WANDB_DISABLED": "true",
        "CUDA_VISIBLE_DEVICES": "",
    }


def _kept(target: Path, make: Callable[[Path], None]) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not (target / _COMPLETE).exists():
            make(target)
    return target / "bin" / "python"


def _make(target: Path, release: str) -> None:
    torch = _begin(target, f"TRL {release}")
    wanted = [f"trl=={release}", f"transformers=={version('transformers')}", *_EXTRA]
    try:
        _pip(target, "--constraint", str(ROOT / "constraints.txt"), torch, *wanted)
    except PeerError:
        # A later constraints file may ask for versions that this release does not take.
        _pip(target, torch, f"trl=={release}", *_EXTRA)
    _complete(target, ("trl", *_SHARED))


def _make_merging(target: Path) -> None:
    torch = _begin(target, f"mergekit {MERGEKIT}")
    _pip(target, torch, f"mergekit=={MERGEKIT}")
    _complete(target, ("mergekit", "torch", "transformers", "safetensors"))


def _begin(target: Path, name: str) -> str:
    """Make an environment with the torch that runs this program; return how pip calls it."""
    shutil.rmtree(target, ignore_errors=True)
    print(f"making an environment with {name} in {target}; this takes minutes", file=sys.stderr)
    venv.create(target, with_pip=True)
    torch = f"torch=={version('torch').partition('+')[0]}"
    _pip(target, torch)
    return torch


def _complete(target: Path, names: Sequence[str]) -> None:
    """Write down the versions of what an environment holds, which says that it is complete."""
    code = (
        "import importlib.metadata as m, json;"
        f"print(json.dumps({{name: m.version(name) for name in {tuple(names)!r}}}))"
    )
    listed = subprocess.run([str(target / "bin" / "python"), "-c", code], capture_output=True, text=True, check=True)
    (target / _COMPLETE).write_text(listed.stdout, encoding="utf-8")


def _pip(target: Path, *arguments: str) -> None:
    command: Sequence[str] = [str(target / "bin" / "python"), "-m", "pip", "install", "--quiet", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise PeerError(f"{' '.join(command)} took more than {_INSTALL_SECONDS} s; is there a network?") from error
    if done.returncode != 0:
        raise PeerError(f"{' '.join(command)} ended with code {done.returncode}:\n{done.stderr[-4000:]}")
