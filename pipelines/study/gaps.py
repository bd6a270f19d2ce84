"""What of a study failed, and what is reported without it. Imports no torch."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from pipelines.plan import Plan, Stage


@dataclass(frozen=True)
class Loss:
    """A stage that failed, and why."""

    stage: str
    reason: str


Lost = Mapping[str, Loss]
"""What failed, by the stage's fingerprint."""


def lost(failures: Iterable[Mapping[str, Any]]) -> dict[str, Loss]:
    """Return what the events of failed stages tell."""
    return {each["fingerprint"]: Loss(each["stage"], str(each["error"]).split("\n")[0]) for each in failures}


def cause(stages: Iterable[Stage], plan: Plan, failed: Lost) -> Loss | None:
    """Return what keeps one of some stages from being made: itself or something that it needs; None if nothing does."""
    seen: set[str] = set()
    todo = [stage.fingerprint for stage in stages] if failed else []
    while todo:
        identity = todo.pop()
        if identity in failed:
            return failed[identity]
        if identity not in seen:
            seen.add(identity)
            todo += plan[identity].inputs.values()
    return None


@dataclass(frozen=True)
class Cell:
    """A model of a study that is to be reported; `loss` is what keeps it from being measured."""

    family: str
    arm: str
    replicate: int
    loss: Loss | None = None


def left_out(cells: Sequence[Cell]) -> tuple[set[str], set[int]]:
    """Return the arms and the replicates without which the other cells are complete.

    Arms are compared within a replicate, so one that lacks an arm is left out of all rows, in all families; an arm
    that fails in more than half of its replicates would cost the others too much, and is left out itself. What is there
    at some of its coefficients is there.
    """
    models: dict[tuple[str, str, int], bool] = {}
    for cell in cells:
        place = (cell.arm, cell.family, cell.replicate)
        models[place] = models.get(place, False) or cell.loss is None
    of_arm, failed = (
        Counter(place[0] for place in models),
        Counter(place[0] for place, kept in models.items() if not kept),
    )
    arms = {arm for arm, count in failed.items() if 2 * count > of_arm[arm]}
    return arms, {place[2] for place, kept in models.items() if not kept and place[0] not in arms}


def missing(cells: Sequence[Cell], arms: Set[str]) -> list[dict[str, Any]]:
    """Return what failed, as plain values: it is missing from one arm, or from all rows where `arm` is None."""
    return [
        {
            "family": cell.family,
            "replicate": cell.replicate,
            "arm": cell.arm if cell.arm in arms else None,
            "stage": cell.loss.stage,
            "reason": cell.loss.reason,
        }
        for cell in cells
        if cell.loss
    ]


@dataclass(frozen=True)
class Gaps:
    """What a study is reported without: arms, replicates, and what failed, as plain values."""

    arms: Set[str]
    replicates: Set[int]
    missing: list[dict[str, Any]]

    def sentences(self) -> list[str]:
        """Return what to warn of."""
        found = [
            f"{arm} is left out: it failed in most replicates, or at every coefficient" for arm in sorted(self.arms)
        ]
        if self.replicates:
            names = ", ".join(map(str, sorted(self.replicates)))
            found.append(f"replicates left out of all rows, because arms are compared within a replicate: {names}")
        return found

    def known(self, paper: dict[str, Any]) -> dict[str, Any]:
        """Return what the paper reports, without claims about arms that are left out."""
        claims = [each for each in paper["claims"] if not any(self.arms & set(pair) for pair in each["asks"])]
        return paper | {"claims": claims}
