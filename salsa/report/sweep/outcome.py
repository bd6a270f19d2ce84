"""What became of the cells of a sweep, read from the store: results, notes of failures, locks. Never from a tracker."""

from collections.abc import Mapping
from typing import Any

from salsa.report import schema
from salsa.store.activity import holder
from salsa.store.artifact import Artifact, Store

REPORT = "report"
_UNSHOWN = ("curves", "training", "samples")
"""Parts of an experiment that no table of a sweep shows; they are most of it, and a sweep may hold a thousand."""


class Outcomes:
    """Looks up reports and, where one is missing, why; each stage is looked at once, however many cells share it.

    `stages` maps a fingerprint to `kind`, `name` and `inputs` of its stage.
    """

    def __init__(self, store: Store, stages: Mapping[str, Mapping[str, Any]]) -> None:
        self._store = store
        self._stages = stages
        self._known: dict[str, tuple[str, str]] = {}

    def of(self, fingerprint: str) -> dict[str, Any]:
        """Return `experiment`, `state` and `reason` of the cell whose report has this fingerprint."""
        if not fingerprint:
            return _outcome("missing", "it could not be planned")
        report = self._store.find(REPORT, fingerprint)
        if report is not None:
            return _read(report)
        plan = self._before(fingerprint)
        stages = [self._look(identity) for identity in plan]
        failures = [reason for state, reason in stages if state == "failed"]
        if failures:
            return _outcome("failed", "; ".join(failures))
        stored = f"{sum(state == 'stored' for state, _ in stages)} of {len(stages)} stages are stored"
        working = [reason for state, reason in stages if state == "running"]
        if working:
            return _outcome("running", f"{stored}; {working[0]}")
        return _outcome("missing", f"{stored}, nobody works on the others" if len(stages) > 1 else "nobody works on it")

    def _before(self, fingerprint: str) -> list[str]:
        """Return the stage and everything that it is made from, however far back, the first first."""
        found: dict[str, None] = {}
        left = [fingerprint]
        while left:
            identity = left.pop()
            if identity not in found:
                found[identity] = None
                left += self._stages.get(identity, {}).get("inputs", ())
        return list(reversed(found))

    def _look(self, fingerprint: str) -> tuple[str, str]:
        """Return where a stage stands - stored, running, failed or waiting - and a sentence about it."""
        if fingerprint not in self._known:
            stage = self._stages.get(fingerprint, {})
            self._known[fingerprint] = self._state(
                stage.get("kind", REPORT), fingerprint, stage.get("name", stage.get("kind", REPORT))
            )
        return self._known[fingerprint]

    def _state(self, kind: str, fingerprint: str, name: str) -> tuple[str, str]:
        if self._store.find(kind, fingerprint) is not None:
            return "stored", ""
        working = holder(self._store, kind, fingerprint)
        if working is not None:
            who = f"process {working.owner['pid']} on {working.owner['host']}" if working.owner else "another process"
            return "running", f"{name} is being worked on by {who}"
        failure = self._store.failure(kind, fingerprint)
        if failure is not None:
            return "failed", f"{name}: {str(failure.get('error', 'no reason noted')).splitlines()[0]}"
        return "waiting", ""


def _read(report: Artifact) -> dict[str, Any]:
    try:
        experiment = schema.read(report.file("experiment.json"))
    except (OSError, ValueError) as error:
        return _outcome("missing", str(error))
    kept = {key: {} if key in _UNSHOWN else value for key, value in experiment.items()}
    return {"experiment": kept, "state": "done", "reason": ""}


def _outcome(state: str, reason: str) -> dict[str, Any]:
    return {"experiment": None, "state": state, "reason": reason}
