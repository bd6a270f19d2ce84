"""How stages are executed in tests."""

import uuid
from pathlib import Path
from typing import Any

from pipelines.work import Execution


def execution(folder: Path, **changes: Any) -> Execution:
    """Return the execution of a new command."""
    settings: dict[str, Any] = {
        "outputs": str(folder),
        "threads": 1,
        "accelerator": "cpu",
        "micro_batch_tokens": 64,
        "checkpoint_steps": None,
        "checkpoint_seconds": 30.0,
        "retries": 2,
        "retry_failed": False,
        "verify": True,
        "tracker": {"name": "none", "mode": "offline"},
        "group": "group",
        "run": uuid.uuid4().hex,
    }
    return Execution(**settings | changes)
