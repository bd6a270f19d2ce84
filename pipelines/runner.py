"""One process at work on a plan: it takes any ready stage whose lock is free, and waits only when none is."""

import errno
import importlib
import json
import logging
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.failure import hopeless, out_of_memory, passing, repeated, unfinished
from pipelines.forecast import progress_of
from pipelines.plan import VERSIONS, Plan, Stage
from pipelines.provenance import code_digest, cpu_seconds, peak_memory_mib, provenance
from pipelines.tracking import track
from pipelines.work import Execution, Progress, Work
from salsa.store.artifact import Artifact, Store
from salsa.store.inspection import set_aside
from salsa.store.lock import StageLock
from salsa.training.interruption import Interrupted

Emit = Callable[[dict[str, Any]], None]
"""Receives events as plain dictionaries: stored, started, progress, done, failed, blocked, waiting, retry, broken."""

LOG = logging.getLogger(__name__)

POLL_SECONDS = 0.1
PROGRESS_SECONDS = 0.2
MOST_HICCUPS = 60
"""Passing errors outside of the stages' work, in all, after which this process gives up."""
MOST_REMAKES = 5
REMADE = "its inputs were damaged each time they had been made: is the disk in order?"
BACK_OFF_SECONDS = 1.0
"""Before the first retry; twice as long before each further one."""


def work(plan: Plan, store: Store, execution: Execution, emit: Emit) -> dict[str, str]:
    """Run the plan until each of its stages is stored, failed or blocked; return the state of each by fingerprint."""
    return Runner(plan, store, execution, emit).run()


class Runner:
    """The state of one process's work on a plan."""

    def __init__(self, plan: Plan, store: Store, execution: Execution, emit: Emit) -> None:
        self.plan, self.store, self.execution, self.emit = plan, store, execution, emit
        self.state: dict[str, str] = {}
        """Of each stage that has ended: stored, computed, failed or blocked."""
        self._sound: set[str] = set()
        """Artifacts whose bytes this process has compared with their digests."""
        self._remade: Counter[str] = Counter()
        """How often each stage had to wait for inputs to be made again."""
        self._hiccups = 0

    def run(self) -> dict[str, str]:
        """Bring every stage to its end and return how each ended."""
        while len(self.state) < len(self.plan):
            busy: list[Stage] = []
            progressed = False
            for stage in self.plan:
                if stage.fingerprint in self.state:
                    continue
                outcome = self._try(stage)
                if outcome == "busy":
                    busy.append(stage)
                elif outcome == "again":
                    progressed = True
                    break
                elif outcome != "not ready":
                    self.state[stage.fingerprint] = outcome
                    progressed = True
                    if outcome == "computed":
                        break
            if not progressed:
                for stage in busy:
                    held = self._held(stage)
                    other = _other(self.store, stage) if held is None else {"owner": held, "progress": None}
                    self.emit(_event("waiting", stage) | other)
                time.sleep(POLL_SECONDS)
        return self.state

    def _try(self, stage: Stage) -> str:
        """Do as `_advance`; what passes outside of the stages' own work, such as a server of files, is waited for."""
        try:
            return self._advance(stage)
        except OSError as error:
            if not passing(error) or self._hiccups >= MOST_HICCUPS:
                raise
            self._hiccups += 1
            LOG.warning("looking for %s: %s; trying again", stage.name, error)
            time.sleep(BACK_OFF_SECONDS)
            return "busy"

    def _advance(self, stage: Stage) -> str:
        """Try to bring one stage forward and return what became of it.

        Besides its new state this is "busy" (another process has it), "not ready", or "again": an input was broken
        and has to be made anew first.
        """
        if self._stored(stage):
            return "stored"
        upstream = [self.state.get(identity) for identity in stage.inputs.values()]
        if any(outcome in ("failed", "blocked") for outcome in upstream):
            self.emit(_event("blocked", stage))
            return "blocked"
        if any(outcome is None for outcome in upstream):
            return "not ready"
        lock = StageLock(self.store.lock_path(stage.kind, stage.fingerprint))
        if not lock.try_acquire():
            return "busy"
        try:
            if self._stored(stage):
                return "stored"
            if self._held(stage) is not None:
                return "busy"
            failure = self.store.failure(stage.kind, stage.fingerprint)
            if failure is not None and self._told(stage, failure):
                return "failed"
            if not self._inputs_sound(stage):
                self._remade[stage.fingerprint] += 1
                if self._remade[stage.fingerprint] <= MOST_REMAKES:
                    return "again"
                self._fail(stage, OSError(errno.EIO, REMADE), None, failure)
                return "failed"
            return self._run(stage, failure)
        finally:
            lock.release()

    def _stored(self, stage: Stage) -> bool:
        if self.store.find(stage.kind, stage.fingerprint) is None:
            return False
        self.emit(_event("stored", stage))
        return True

    def _held(self, stage: Stage) -> dict[str, Any] | None:
        """Return who has what a stage needs for itself, such as a judge: its execution names the lock as `alone`."""
        alone = stage.execution.get("alone")
        lock = None if alone is None else StageLock(self.store.root / alone)
        owner = None if lock is None else lock.owner()
        if lock is None or owner is None:
            return None
        if lock.try_acquire():  # a process of another machine has left its note there
            lock.release()
            return None
        return owner

    def _told(self, stage: Stage, failure: Mapping[str, Any]) -> bool:
        """Return whether a failure of the past stands; if so, tell it.

        One of this command stands: the process that failed may be another's worker, or have died before it could tell.
        """
        record = {"record": _note(self.store, stage)}
        if failure.get("run") == self.execution.run:
            self.emit(_event("failed", stage) | dict(failure) | record)
            return True
        if self.execution.retry_failed or not hopeless(failure, code_digest()):
            return False
        reason = (
            f"{failure.get('error')} (failed {failure.get('times')} times alike at the same step, not tried again; "
        )
        reason += "compute.retry_failed=true tries it once more)"
        self.emit(_event("failed", stage) | dict(failure) | record | {"error": reason})
        return True

    def _inputs_sound(self, stage: Stage) -> bool:
        """Return whether every input is there with the bytes that were published; one that is not is set aside."""
        sound = True
        for identity in dict.fromkeys(stage.inputs.values()):
            source = self.plan[identity]
            artifact = self.store.find(source.kind, identity)
            if artifact is not None and identity not in self._sound:
                damaged = artifact.verify() if self.execution.verify else []
                if damaged:
                    self._set_aside(source, artifact, damaged)
                    artifact = None
                else:
                    self._sound.add(identity)
            if artifact is None:
                self._sound.discard(identity)
                self.state.pop(identity, None)
                sound = False
        return sound

    def _set_aside(self, stage: Stage, artifact: Artifact, damaged: list[str]) -> None:
        try:
            place = set_aside(self.store, artifact, damaged)
        except BlockingIOError:
            return  # Another process has found it broken too, and works on it.
        if place is None:
            return
        reason = f"damaged: {', '.join(damaged)}"
        LOG.warning("%s %s is %s; it is now at %s", stage.name, stage.fingerprint, reason, place)
        self.emit(_event("broken", stage) | {"says": reason, "place": str(place)})

    def _run(self, stage: Stage, earlier: Mapping[str, Any] | None) -> str:
        """Compute a stage, again where the error may be gone by then; return "computed" or "failed"."""
        execution = self.execution
        for attempt in range(execution.retries + 1):
            self.emit(_event("started", stage))
            started, cpu = time.monotonic(), cpu_seconds()
            reporter = _Reporter(stage, self.store, self.emit)
            try:
                artifact = compute(stage, self.plan, self.store, execution, reporter)
            except Interrupted:
                raise
            except (Exception, SystemExit) as error:
                LOG.exception("stage %s (%s) failed", stage.name, stage.fingerprint)
                published = self.store.find(stage.kind, stage.fingerprint)
                if published is not None:
                    # What failed came after the work, such as the end of its W&B run.
                    took = {"seconds": time.monotonic() - started, "cpu_seconds": cpu_seconds() - cpu}
                    self.emit(_event("done", stage) | took | {"says": published.manifest["says"]})
                    return "computed"
                memory = out_of_memory(error)
                if attempt < execution.retries and (memory or passing(error)):
                    execution = _gentler(execution) if memory else execution
                    self._wait_before_retry(stage, error, attempt)
                    continue
                self._fail(stage, error, reporter.done, earlier)
                return "failed"
            took = {"seconds": time.monotonic() - started, "cpu_seconds": cpu_seconds() - cpu}
            self.emit(_event("done", stage) | took | {"says": artifact.manifest["says"]})
            return "computed"
        raise AssertionError("the last attempt ends in a return")

    def _wait_before_retry(self, stage: Stage, error: BaseException, attempt: int) -> None:
        seconds = BACK_OFF_SECONDS * 2**attempt
        self.emit(_event("retry", stage) | {"error": _first_line(error), "seconds": seconds})
        time.sleep(seconds)

    def _fail(self, stage: Stage, error: BaseException, step: int | None, earlier: Mapping[str, Any] | None) -> None:
        text = f"{type(error).__name__}: {error}"
        failure = {
            "stage": stage.name,
            "error": text,
            "traceback": traceback.format_exc(),
            "step": step,
            "times": repeated(earlier, text, step, code_digest()),
            "passing": passing(error) or out_of_memory(error) or unfinished(error),
            "code_digest": code_digest(),
            "run": self.execution.run,
        }
        try:
            record = str(self.store.record_failure(stage.kind, stage.fingerprint, failure))
        except OSError as unwritten:
            record = f"only in the log, because the note of it could not be written ({unwritten})"
        self.emit(_event("failed", stage) | {"record": record} | failure)


def compute(stage: Stage, plan: Plan, store: Store, execution: Execution, progress: Progress) -> Artifact:
    """Run one stage whose inputs are stored, and publish its artifact; the caller holds the stage's lock."""
    inputs = {}
    for role, identity in stage.inputs.items():
        artifact = store.find(plan[identity].kind, identity)
        if artifact is None:
            raise FileNotFoundError(f"input {role} ({identity[:12]}) of {stage.name} is not in the store {store.root}")
        inputs[role] = artifact
    module = importlib.import_module(f"pipelines.stages.{stage.kind}")
    made_by = provenance(execution)
    about = {"name": stage.name, "inputs": dict(stage.inputs), "code_digest": made_by["code_digest"]}
    attempts = store.record_attempt(stage.kind, stage.fingerprint, about)
    folder = store.temporary(stage.kind, stage.fingerprint)
    wall, started, cpu = time.time(), time.monotonic(), cpu_seconds()
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
                "started": wall,
                "seconds": time.monotonic() - started,
                "cpu_seconds": cpu_seconds() - cpu,
                "attempts": attempts,
                "worker_peak_memory_mib": peak_memory_mib(),
                "made_by": made_by,
            }
            artifact = store.publish(stage.kind, stage.fingerprint, folder, manifest)
            tracked.published(artifact, inputs.values())
        return artifact
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Reporter:
    """Passes progress on, at most a few times a second, and leaves a note for processes that wait."""

    def __init__(self, stage: Stage, store: Store, emit: Emit) -> None:
        self._stage, self._emit = stage, emit
        self._note = store.unfinished(stage.kind, stage.fingerprint) / "progress.json"
        self._last = 0.0
        self.done: int | None = None
        """Steps that were done when it was last called."""

    def __call__(self, done: int, total: int, text: str) -> None:
        self.done = done
        now = time.monotonic()
        if now - self._last < PROGRESS_SECONDS and done < total:
            return
        self._last = now
        progress = {"done": done, "total": total, "says": text}
        self._emit(_event("progress", self._stage) | progress)
        self._note.parent.mkdir(parents=True, exist_ok=True)
        self._note.write_text(json.dumps({"stage": self._stage.name} | progress))


def _event(name: str, stage: Stage) -> dict[str, Any]:
    return {"event": name, "stage": stage.name, "kind": stage.kind, "fingerprint": stage.fingerprint}


def _gentler(execution: Execution) -> Execution:
    """Return the execution with smaller passes, for a stage that ran out of memory."""
    return replace(execution, micro_batch_tokens=max(1, execution.micro_batch_tokens // 2))


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0]


def _other(store: Store, stage: Stage) -> dict[str, Any]:
    """Return who holds a stage, and how far it is."""
    owner = StageLock(store.lock_path(stage.kind, stage.fingerprint)).owner()
    return {"owner": owner, "progress": progress_of(store, stage)}


def _note(store: Store, stage: Stage) -> str:
    return str(store.root / "failures" / stage.kind / f"{stage.fingerprint}.json")
