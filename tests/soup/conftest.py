"""Models for the tests of this folder: three small ones with a tokenizer, made once and copied for each test."""

import shutil
from pathlib import Path

import pytest

from salsa.models.families import save
from tests.models.tiny import causal, tokenizer


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    folders = []
    for seed in range(3):
        folders.append(tmp_path_factory.mktemp("originals") / f"model {seed}")
        save(causal(seed=seed), tokenizer(), folders[-1])
    return folders


@pytest.fixture
def models(originals, tmp_path):
    return [Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in originals]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "soup"
