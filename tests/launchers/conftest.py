"""One store for all tests that run the real command: they add policies to it."""

import subprocess
from pathlib import Path

import pytest

from tests.launchers.commands import run

First = tuple[Path, "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> First:
    """Outputs with everything that two experiments need, computed from nothing under joblib, and what that printed."""
    outputs = tmp_path_factory.mktemp("launchers")
    return outputs, run("joblib", outputs, "hydra.launcher.n_jobs=2", "soup.alpha=0,.5")
