"""Which failures are told in a sentence."""

import errno
from pathlib import Path

import pytest

from pipelines.job import EXPECTED, sentence
from salsa.hub import HubError
from salsa.models.source import UnavailableModelError


@pytest.mark.parametrize("error", [HubError("the hub has no model a/b"), UnavailableModelError("no folder x")])
def test_what_the_hub_and_models_say_is_shown_as_it_is(error: Exception) -> None:
    assert isinstance(error, EXPECTED)
    assert sentence(error) == str(error)


def test_errors_of_the_operating_system_name_the_file(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", str(tmp_path))
    assert isinstance(full, EXPECTED)
    assert sentence(full) == f"{tmp_path}: No space left on device"
    assert sentence(OSError("without a file")) == "without a file"


def test_a_defect_keeps_its_traceback() -> None:
    assert not isinstance(KeyError("x"), EXPECTED)
