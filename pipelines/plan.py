"""The plan: a graph of stages, each with its identity. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from salsa.store.fingerprint import fingerprint

VERSIONS = {
    "data": 2,
    "base": 2,
    "sft": 2,
    "soup": 1,
    "preferences": 1,
    "reward": 2,
    "rule": 1,
    "align": 2,
    "questions": 1,
    "respond": 1,
    "judge": 1,
    "verdicts": 1,
    "anchors": 2,
    "tax": 1,
    "point": 1,
    "landscape": 1,
    "report": 1,
    "select": 1,
    "study": 4,
}
"""Version of each kind of stage: raised when the stage's output changes for the same configuration and inputs."""

FIRST_VALUES: dict[str, dict[str, Any]] = {}
"""Keys added to a kind of stage later, with their first value: left out of the fingerprint while they have it."""


@dataclass(frozen=True)
class Stage:
    """One step of the work: a function of its configuration and its input artifacts.

    `execution` is what running it needs but its result does not depend on (paths of files whose digests are in
    `config`, the resolved configuration that a report prints).
    """

    kind: str
    name: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    execution: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""

    def identified(self) -> Stage:
        """Return the stage with its fingerprint."""
        identity = fingerprint(
            self.kind, VERSIONS[self.kind], self.config, self.inputs, FIRST_VALUES.get(self.kind, {})
        )
        return Stage(self.kind, self.name, self.config, self.inputs, self.execution, identity)


class Plan:
    """Stages in an order in which each comes after its inputs; the same stage asked for twice is there once."""

    def __init__(self) -> None:
        self._stages: dict[str, Stage] = {}

    def add(
        self,
        kind: str,
        name: str,
        config: Mapping[str, Any],
        inputs: Mapping[str, Stage] | None = None,
        execution: Mapping[str, Any] | None = None,
    ) -> Stage:
        """Add a stage, or return the one that is there with the same identity."""
        upstream = {role: stage.fingerprint for role, stage in (inputs or {}).items()}
        stage = Stage(kind, name, config, upstream, execution or {}).identified()
        return self._stages.setdefault(stage.fingerprint, stage)

    def __iter__(self) -> Iterator[Stage]:
        return iter(self._stages.values())

    def __len__(self) -> int:
        return len(self._stages)

    def __getitem__(self, identity: str) -> Stage:
        return self._stages[identity]

    def reaching(self, goals: Iterable[Stage]) -> Plan:
        """Return the plan of some of its stages, with all that they need and nothing else."""
        needed: set[str] = set()
        todo = [goal.fingerprint for goal in goals]
        while todo:
            identity = todo.pop()
            if identity not in needed:
                needed.add(identity)
                todo += self[identity].inputs.values()
        found = Plan()
        found._stages = {identity: stage for identity, stage in self._stages.items() if identity in needed}
        return found

    def to_json(self) -> list[dict[str, Any]]:
        """Return the plan as plain values, for another process."""
        return [
            {
                "kind": stage.kind,
                "name": stage.name,
                "config": dict(stage.config),
                "inputs": dict(stage.inputs),
                "execution": dict(stage.execution),
                "fingerprint": stage.fingerprint,
            }
            for stage in self
        ]

    @classmethod
    def merged(cls, plans: Iterable[Plan]) -> Plan:
        """Return one plan with the stages of several, each once; the first plan's come first."""
        merged = cls()
        for plan in plans:
            for stage in plan:
                merged._stages.setdefault(stage.fingerprint, stage)
        return merged

    @classmethod
    def from_json(cls, rows: list[dict[str, Any]]) -> Plan:
        """Return the plan that `to_json` wrote."""
        plan = cls()
        for row in rows:
            stage = Stage(**row)
            plan._stages[stage.fingerprint] = stage
        return plan
