"""What a report of win rates depends on besides the judgments, and the pieces that every section has."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from salsa.evaluation.comparisons import Difference, difference, holm, replicates
from salsa.evaluation.sheet import Sheet
from salsa.evaluation.statistics import Estimate
from salsa.judging.verdict import Verdict, counts

ALL_PAIRS = 6
"""With more models than this, only neighbours in the ranking are compared."""


@dataclass(frozen=True)
class Settings:
    """How a report is computed.

    `rounds` of the question-clustered bootstrap; `level` of its intervals; `weight` of Arena-Hard's strong verdicts;
    `release` whose rules count there (None: that of the files); `replicates` names methods and their models.
    """

    baseline: str | None = None
    release: str | None = None
    weight: float = 3.0
    rounds: int = 10_000
    level: float = 0.95
    seed: int = 0
    replicates: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def rng(self) -> np.random.Generator:
        """Return a fresh stream, so that a figure does not depend on which others are computed."""
        return np.random.default_rng(self.seed)


def finite(value: float | None) -> float | None:
    """Return a number that JSON can hold: None for what is infinite or not a number."""
    return None if value is None or not math.isfinite(value) else float(value)


def told(estimate: Estimate | None) -> dict[str, Any] | None:
    """Return an estimate as JSON."""
    return None if estimate is None else asdict(estimate)


def parts(sheet: Sheet, settings: Settings) -> dict[str, dict[str, Any]]:
    """Return for each model its value, by turn and by category, each with a question-clustered interval."""

    def estimates(of: Sheet) -> dict[str, Estimate | None]:
        return of.estimates(settings.rng(), settings.rounds, settings.level)

    whole = estimates(sheet)
    turns = {str(turn): estimates(part) for turn, part in sheet.by_turn().items()}
    categories = {name: estimates(part) for name, part in sheet.by_category().items()}
    return {
        model: {
            "all": told(whole[model]),
            "turns": {turn: told(found[model]) for turn, found in turns.items()},
            "categories": {name: told(found[model]) for name, found in categories.items()},
        }
        for model in sheet.models
    }


def comparisons(sheet: Sheet, settings: Settings) -> list[dict[str, Any]]:
    """Return paired differences: of all models where they are few, else of neighbours in the ranking."""
    order = [sheet.models[index] for index in np.argsort(-np.nan_to_num(sheet.values(), nan=-np.inf), kind="stable")]
    if len(order) <= ALL_PAIRS:
        pairs = [(a, b) for index, a in enumerate(order) for b in order[index + 1 :]]
    else:
        pairs = list(itertools.pairwise(order))
    found: list[Difference] = []
    for a, b in pairs:
        tested = difference(sheet, a, b, settings.rng(), settings.rounds, settings.level)
        if tested is not None:
            found.append(tested)
    corrected = holm([each.p for each in found])
    return [asdict(each) | {"holm": p} for each, p in zip(found, corrected, strict=True)]


def methods(sheet: Sheet, settings: Settings) -> list[dict[str, Any]]:
    """Return the mean of each method's replicates with both intervals; methods of other sections are left out."""
    found = []
    for name, models in settings.replicates.items():
        if any(model in sheet.models for model in models):
            found.append(asdict(replicates(sheet, name, models, settings.rng(), settings.rounds, settings.level)))
    return found


def counted(verdicts: Iterable[Verdict]) -> dict[str, dict[str, int]]:
    """Return the counts of sent, judged, unparsed and failed, of all and of each model; a game counts for both."""
    listed = list(verdicts)
    by_model: dict[str, list[Verdict]] = {}
    for verdict in listed:
        for model in dict.fromkeys((verdict.model_a, verdict.model_b)):
            if model is not None:
                by_model.setdefault(model, []).append(verdict)
    return {"": counts(listed)} | {model: counts(own) for model, own in by_model.items()}
