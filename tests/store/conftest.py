from pathlib import Path

import pytest

from salsa.store.artifact import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "outputs")
