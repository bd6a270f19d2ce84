"""One process at work on a plan: it takes any ready stage whose lock is free, and waits only when none is."""

import hashlib
import importlib
import json
import logging
import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pipelines.plan import VERSIONS, Plan, Stage
from pipelines.tracking import track
from pipelines.work import Execution, Progress, Work
from salsa.store.artifact import Artifact, Store
from salsa.store.lock import StageLock
from salsa.training.interruption import Interrupted

Emit = Callable[[dict[str, Any]], None]
"""Receives events as plain dictionaries: stored, started, progress, done, failed, blocked, waiting."""

LOG = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent
POLL_SECONDS = 0.1
PROGRESS_SECONDS = 0.2
PACKAGES = ("torch", "lightning", "transformers", "numpy", "safetensors", "tokenizers")


def work(plan: Plan, store: Store, execution: Execution, emit: Emit) -> dict[str, str]:
    """Run the plan until each of its stages is stored, failed or blocked; return the state of each by fingerprint."""
    state: dict[str, str] = {}
    while len(state) < len(plan):
        busy: list[Stage] = []
        progressed = False
        for stage in plan:
            if stage.fingerprint in state:
                continue
            outcome = _advance(stage, plan, state, store, execution, emit)
            if outcome == "busy":
                busy.append(stage)
            elif outcome != "not ready":
                state[stage.fingerprint] = outcome
                progressed = True
                if outcome == "computed":
                    break
        if not progressed:
            for stage in busy:
                waiting = {"event": "waiting", "stage": stage.name, "fingerprint": stage.fingerprint}
                emit(waiting | _other(store, stage))
            time.sleep(POLL_SECONDS)
    return state


def _advance(stage: Stage, plan: Plan, state: dict[str, str], store: Store, execution: Execution, emit: Emit) -> str:
    """Try to bring one stage forward; return its new state, "busy" (another process has it) or "not ready"."""
    if store.find(stage.kind, stage.fingerprint) is not None:
        emit({"event": "stored", "stage": stage.name, "fingerprint": stage.fingerprint})
        return "stored"
    upstream = [state.get(identity) for identity in stage.inputs.values()]
    if any(outcome in ("failed", "blocked") for outcome in upstream):
        emit({"event": "blocked", "stage": stage.name, "fingerprint": stage.fingerprint})
        return "blocked"
    if any(outcome is None for outcome in upstream):
        return "not ready"
    lock = StageLock(store.lock_path(stage.kind, stage.fingerprint))
    if not lock.try_acquire():
        return "busy"
    try:
        if store.find(stage.kind, stage.fingerprint) is not None:
            emit({"event": "stored", "stage": stage.name, "fingerprint": stage.fingerprint})
            return "stored"
        failure = store.failure(stage.kind, stage.fingerprint)
        if failure is not None and failure.get("run") == execution.run:
            # Told again, because the process that failed may be another's worker, or have died before it could tell.
            emit({"event": "failed", "fingerprint": stage.fingerprint, "record": _note(store, stage)} | failure)
            return "failed"
        return _run(stage, plan, store, execution, emit)
    finally:
        lock.release()


def _run(stage: Stage, plan: Plan, store: Store, execution: Execution, emit: Emit) -> str:
    emit({"event": "started", "stage": stage.name, "kind": stage.kind, "fingerprint": stage.fingerprint})
    started, cpu = time.time(), _cpu_seconds()
    try:
        artifact = compute(stage, plan, store, execution, _Reporter(stage, store, emit))
    except Interrupted:
        raise
    except (Exception, SystemExit) as error:
        LOG.exception("stage %s failed", stage.name)
        failure = {
            "stage": stage.name,
            "error": f"{type(error).__name__}: {error}",
            "traceback": traceback.format_exc(),
            "run": execution.run,
        }
        try:
            record = str(store.record_failure(stage.kind, stage.fingerprint, failure))
        except OSError as unwritten:
            record = f"only in the log, because the note of it could not be written ({unwritten})"
        emit({"event": "failed", "fingerprint": stage.fingerprint, "record": record} | failure)
        return "failed"
    emit(
        {
            "event": "done",
            "stage": stage.name,
            "kind": stage.kind,
            "fingerprint": stage.fingerprint,
            "seconds": time.time() - started,
            "cpu_seconds": _cpu_seconds() - cpu,
            "says": artifact.manifest["says"],
        }
    )
    return "computed"


def compute(stage: Stage, plan: Plan, store: Store, execution: Execution, progress: Progress) -> Artifact:
    """Run one stage whose inputs are stored, and publish its artifact; the caller holds the stage's lock."""
    inputs = {}
    for role, identity in stage.inputs.items():
        artifact = store.find(plan[identity].kind, identity)
        if artifact is None:
            raise FileNotFoundError(f"input {role} ({identity[:12]}) of {stage.name} is not in the store {store.root}")
        inputs[role] = artifact
    module = importlib.import_module(f"pipelines.stages.{stage.kind}")
    folder = store.temporary(stage.kind, stage.fingerprint)
    started, cpu = time.time(), _cpu_seconds()
    try:
        with track(stage, execution.tracker, execution.group, Path(execution.outputs)) as tracked:
            unfinished = store.unfinished(stage.kind, stage.fingerprint)
            work_ = Work(stage, inputs, folder, unfinished, execution, tracked, progress)
            says, metrics = module.run(work_)
            tracked.summary(metrics)
        manifest = {
            "stage": stage.kind,
            "name": stage.name,
            "version": VERSIONS[stage.kind],
            "config": dict(stage.config),
            "inputs": dict(stage.inputs),
            "says": says,
            "metrics": metrics,
            "started": started,
            "seconds": time.time() - started,
            "cpu_seconds": _cpu_seconds() - cpu,
            "worker_peak_memory_mib": _peak_memory_mib(),
            "made_by": _provenance(execution),
        }
        return store.publish(stage.kind, stage.fingerprint, folder, manifest)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Reporter:
    """Passes progress on, at most a few times a second, and leaves a note for processes that wait."""

    def __init__(self, stage: Stage, store: Store, emit: Emit) -> None:
        self._stage, self._emit = stage, emit
        self._note = store.unfinished(stage.kind, stage.fingerprint) / "progress.json"
        self._last = 0.0

    def __call__(self, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        if now - self._last < PROGRESS_SECONDS and done < total:
            return
        self._last = now
        event = {"stage": self._stage.name, "done": done, "total": total, "says": text}
        self._emit({"event": "progress", "fingerprint": self._stage.fingerprint} | event)
        self._note.parent.mkdir(parents=True, exist_ok=True)
        self._note.write_text(json.dumps(event))


def _other(store: Store, stage: Stage) -> dict[str, Any]:
    """Return who holds a stage, and how far it is."""
    owner = StageLock(store.lock_path(stage.kind, stage.fingerprint)).owner()
    note = store.root / "unfinished" / stage.kind / stage.fingerprint / "progress.json"
    try:
        progress = json.loads(note.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        progress = {}
    return {"owner": owner, "progress": progress}


def _note(store: Store, stage: Stage) -> str:
    return str(store.root / "failures" / stage.kind / f"{stage.fingerprint}.json")


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _peak_memory_mib() -> float:
    """Return the most memory that this process has held, in whatever stage; macOS counts bytes, others KiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


@cache
def code_digest() -> str:
    """Return one SHA-256 over the names and contents of all Python files of the two packages."""
    digest = hashlib.sha256()
    for path in sorted(path for package in ("pipelines", "salsa") for path in (ROOT / package).rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


@cache
def _git_commit() -> str | None:
    if not (ROOT / ".git").exists():
        return None
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=5, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None


def _provenance(execution: Execution) -> dict[str, Any]:
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": versions,
        "git_commit": _git_commit(),
        "code_digest": code_digest(),
        "threads": execution.threads,
        "accelerator": execution.accelerator,
    }
