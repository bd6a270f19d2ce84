"""One thread for every test: torch's threads collapse when tests or workers share the cores."""

import os
import signal
from collections.abc import Iterator

import pytest

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
# Ignored where the tests run in a shell's background, and then in every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_service_is_passed_on() -> Iterator[None]:
    """W&B names the service of a process in its environment; commands that later tests start must not look for it."""
    yield
    os.environ.pop("WANDB_SERVICE", None)
