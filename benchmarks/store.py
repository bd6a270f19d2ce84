"""What the store costs: its share of a real run, and hashing beside `sha256sum`.

python -m benchmarks.store [overrides of run.py]      (no overrides: the default experiment, in one process)
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.runner import Runner
from salsa.store.artifact import Artifact, Store
from salsa.store.fingerprint import file_digest
from salsa.store.lock import StageLock

ROOT = Path(__file__).resolve().parents[1]
CALLS: list[tuple[type, str]] = [
    (Store, "find"),
    (Store, "publish"),
    (Store, "temporary"),
    (Store, "unfinished"),
    (Store, "failure"),
    (Store, "record_attempt"),
    (Store, "clean_temporary"),
    (Store, "check_format"),
    (Artifact, "verify"),
    (StageLock, "try_acquire"),
    (StageLock, "release"),
]
HASHED_BYTES = 512 * 2**20


class Stopwatch:
    """Adds up the time spent in some calls; a call inside another one counts once."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside = False

    def watch(self, owner: type, name: str) -> None:
        """Measure each call of a method from now on."""
        method: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            if self._inside:
                return method(*arguments, **named)
            self._inside = True
            started = time.perf_counter()
            try:
                return method(*arguments, **named)
            finally:
                self._inside = False
                key = f"{owner.__name__}.{name}"
                self.seconds[key] = self.seconds.get(key, 0.0) + time.perf_counter() - started

        setattr(owner, name, timed)


def share_of_a_run(overrides: list[str]) -> None:
    """Run an experiment in this process and print what part of the stages' time is the store's."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from pipelines.experiment import build
    from pipelines.schema import parse, register
    from pipelines.work import Execution
    from pipelines.worker import prepare

    register()
    OmegaConf.register_new_resolver("launch_id", lambda: "benchmark", replace=True)
    prepare(1)
    watch = Stopwatch()
    for owner, name in CALLS:
        watch.watch(owner, name)
    with tempfile.TemporaryDirectory() as folder:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            cfg = compose("config", overrides=["logger=none", f"outputs.dir={folder}", *overrides])
        settings = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
        assert isinstance(settings, dict)
        config = parse(cfg)
        experiment = build(config, {str(key): value for key, value in settings.items()})
        execution = Execution.from_config(config, "benchmark")
        started = time.perf_counter()
        state = Runner(experiment.plan, Store(Path(folder)), execution, lambda event: None).run()
        total = time.perf_counter() - started
    assert set(state.values()) == {"computed"}, state
    spent = sum(watch.seconds.values())
    print(f"{len(experiment.plan)} stages in {total:.1f} s, of which the store {spent:.2f} s ({spent / total:.2%}):")
    for key, seconds in sorted(watch.seconds.items(), key=lambda item: -item[1]):
        print(f"  {key:<24} {seconds:8.3f} s")


def hashing() -> None:
    """Print the speed of the store's digest of a file beside that of `sha256sum`, both from the page cache."""
    with tempfile.NamedTemporaryFile() as file:
        block = os.urandom(2**20)
        for _ in range(HASHED_BYTES // len(block)):
            file.write(block)
        file.flush()
        path = Path(file.name)
        file_digest(path)
        ours = min(_seconds(lambda: file_digest(path)) for _ in range(3))
        command = ["sha256sum", file.name]
        peer = min(_seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(3))
    megabytes = HASHED_BYTES / 1e6
    print(f"hashing: {megabytes / ours:.0f} MB/s, sha256sum {megabytes / peer:.0f} MB/s, ratio {peer / ours:.2f}")


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    hashing()
    share_of_a_run(sys.argv[1:])
