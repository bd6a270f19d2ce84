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


@dataclass(frozen=True)
class Gaps:
    """What a study is reported without: families, arms, replicates, and what failed, as plain values."""

    families: Set[str]
    arms: Set[str]
    replicates: Set[int]
    missing: list[dict[str, Any]]

    def leave_out(self, cell: Cell) -> bool:
        """Return whether a model is not reported."""
        gone = cell.family in self.families or cell.arm in self.arms or cell.replicate in self.replicates
        return gone or cell.loss is not None

    def sentences(self) -> list[str]:
        """Return what to warn of."""
        found = [
            f"{family} is left out: most replicates lack SFT1 or an arm of the main question"
            for family in sorted(self.families)
        ]
        found += [f"{arm} is left out: it failed in most replicates of a family" for arm in sorted(self.arms)]
        if self.replicates:
            names = ", ".join(map(str, sorted(self.replicates)))
            found.append(f"replicates left out of all rows, because arms are compared within a replicate: {names}")
        return found

    def known(self, paper: dict[str, Any]) -> dict[str, Any]:
        """Return what the paper reports, without claims about arms that are left out."""
        claims = [each for each in paper["claims"] if not any(self.arms & set(pair) for pair in each["asks"])]
        return paper | {"claims": claims}


def gaps(cells: Sequence[Cell], needed: Set[str], unchosen: Set[tuple[str, str]] = frozenset()) -> Gaps:
    """Return the families, arms and replicates without which the other cells are complete.

    Arms are compared within a replicate, so one that lacks an arm is left out of all rows, in all families. An arm that
    fails in more than half of a family's replicates, or has no coefficient there (`unchosen`: family, arm), would cost
    the others too much: it is left out itself, and of an arm that is `needed` the family is. A model that is there at
    some of its coefficients is there; of these only the others are missing.
    """
    models: dict[tuple[str, str, int], bool] = {}
    for cell in cells:
        place = (cell.family, cell.arm, cell.replicate)
        models[place] = models.get(place, False) or cell.loss is None
    there, failed = (
        Counter(place[:2] for place in models),
        Counter(place[:2] for place, kept in models.items() if not kept),
    )
    rare = {place for place, count in failed.items() if 2 * count > there[place]} | unchosen
    families = {family for family, arm in rare if arm in needed}
    arms = {arm for family, arm in rare if family not in families}
    kept_apart = {
        place for place, kept in models.items() if not kept and place[0] not in families and place[1] not in arms
    }
    replicates = {replicate for _, _, replicate in kept_apart}
    missing = {
        (
            cell.family,
            cell.replicate,
            None if (cell.family, cell.arm, cell.replicate) in kept_apart else cell.arm,
        ): cell.loss
        for cell in cells
        if cell.loss
    }
    told = [
        {"family": family, "replicate": replicate, "arm": arm, "stage": loss.stage}
        for (family, replicate, arm), loss in missing.items()
    ]
    return Gaps(families, arms, replicates, told)
