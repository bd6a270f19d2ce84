"""Runs at the start of every Python process that has this folder on PYTHONPATH: arms those that are to be disturbed.

The code under test has no hook for this; it does not know that it is watched.
"""

import importlib
import importlib.util
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).resolve().parent
_ROOT = _FOLDER.parents[2]


def _run_the_next() -> None:
    """Run the sitecustomize that this one hides, if there is one."""
    others = [entry for entry in sys.path if Path(entry or ".").resolve() != _FOLDER]
    found = PathFinder.find_spec("sitecustomize", others)
    if found is not None and found.loader is not None:
        found.loader.exec_module(importlib.util.module_from_spec(found))


def _module(name: str) -> Any:
    sys.path.insert(0, str(_ROOT))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(_ROOT))


_run_the_next()
if "SALSA_CHAOS_CLOCK" in os.environ:
    _module("tests.chaos.clock").install(os.environ["SALSA_CHAOS_CLOCK"])
if "SALSA_CHAOS_LEDGER" in os.environ:
    _module("tests.chaos.killer").install()
