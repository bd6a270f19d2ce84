"""Training metrics as JSON lines: one line a step, readable while training runs and exact after a resume."""

import json
import math
import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from lightning.pytorch.loggers import Logger

FILE_NAME = "metrics.jsonl"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics file in order; a last line cut short by a kill is left out."""
    lines = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            if not line.endswith("\n"):
                break
            lines.append(json.loads(line))
    return lines


class JsonLines(Logger):
    """A Lightning logger that appends and flushes a line `{"step": ..., name: value, ...}` to `folder/metrics.jsonl`.

    Steps count from 0. Values that are not finite become null, because JSON has no word for them.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / FILE_NAME
        self._file: TextIO | None = None

    @property
    def name(self) -> str:
        """Name of the logger, as Lightning asks for one."""
        return "jsonlines"

    @property
    def version(self) -> str:
        """Version of the run: there is one file a folder."""
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Ignore hyper-parameters: a stage's manifest holds its configuration."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one line.

        Raises:
            ValueError: if there is no step.
        """
        if step is None:
            raise ValueError("a line of metrics needs its step")
        values = {name: float(value) for name, value in metrics.items()}
        line = {"step": step} | {name: value if math.isfinite(value) else None for name, value in values.items()}
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a", encoding="utf-8")
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def rewind(self, step: int) -> None:
        """Drop the lines of step `step` and later: a resumed training writes them again.

        Raises:
            ValueError: if the file is missing or damaged although there were steps before it.
        """
        self._close()
        if not self.path.exists() and step == 0:
            return
        try:
            kept = [line for line in read_metrics(self.path) if line["step"] < step] if step else []
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.path}: {error}") from error
        rewritten = self.path.with_name(self.path.name + ".new")
        with rewritten.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in kept)
            file.flush()
            os.fsync(file.fileno())
        rewritten.replace(self.path)

    def save(self) -> None:
        """Bring the lines onto the disk, so that a checkpoint never outlives the metrics of its steps."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())

    def finalize(self, status: str) -> None:
        """Close the file at the end of a training, whatever its status."""
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
