"""Sheets: what each model got on each item of a suite, from which means, intervals and paired tests are computed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from salsa.evaluation.battles import Battle
from salsa.evaluation.resampling import Numbers, codes_of, percentiles, ratio_draws
from salsa.evaluation.statistics import Estimate
from salsa.judging.verdict import Verdict


@dataclass(frozen=True)
class Sheet:
    """What models got: `above` [items, models] over `below` [items, models], an item being a turn of a question.

    The sums of scores over their number, or of weights won over weights fought. `clusters` [items] says which items
    are not independent: intervals come from drawing whole clusters.
    """

    models: tuple[str, ...]
    categories: tuple[str, ...]
    turns: tuple[int, ...]
    clusters: NDArray[np.int64]
    above: Numbers
    below: Numbers

    def of(self, kept: NDArray[np.bool_]) -> "Sheet":
        """Return the sheet of some items."""
        chosen = np.flatnonzero(kept)
        return replace(
            self,
            categories=tuple(self.categories[item] for item in chosen),
            turns=tuple(self.turns[item] for item in chosen),
            clusters=self.clusters[chosen],
            above=self.above[chosen],
            below=self.below[chosen],
        )

    def by_category(self) -> dict[str, "Sheet"]:
        """Return the sheets of the categories, in the order of their first items; nothing where there are none."""
        names = [name for name in dict.fromkeys(self.categories) if name]
        return {name: self.of(np.array([own == name for own in self.categories])) for name in names}

    def by_turn(self) -> dict[int, "Sheet"]:
        """Return the sheets of the turns."""
        return {turn: self.of(np.array([own == turn for own in self.turns])) for turn in sorted(set(self.turns))}

    def column(self, model: str) -> int:
        """Return the place of a model."""
        return self.models.index(model)

    def sums(self) -> tuple[Numbers, Numbers]:
        """Return `above` and `below` summed within clusters, [clusters, models], for clusters that have an item."""
        _, codes = np.unique(self.clusters, return_inverse=True)
        groups = int(codes.max()) + 1 if len(codes) else 0
        above, below = np.zeros((groups, len(self.models))), np.zeros((groups, len(self.models)))
        np.add.at(above, codes, self.above)
        np.add.at(below, codes, self.below)
        return above, below

    def values(self) -> Numbers:
        """Return [models] of sum(above) / sum(below); NaN for a model that has nothing."""
        below = self.below.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(below > 0, self.above.sum(axis=0) / below, np.nan)

    def estimates(self, rng: np.random.Generator, rounds: int, level: float) -> dict[str, Estimate | None]:
        """Return each model's value with its clustered bootstrap interval; None for a model that has nothing.

        There is no interval where a model's items are in fewer than two clusters. All models see the same draws.
        """
        values = self.values()
        above, below = self.sums()
        low = high = np.full(len(self.models), np.nan)
        if len(above) > 1:
            low, high = percentiles(ratio_draws(above, below, rounds, rng), level)
        found: dict[str, Estimate | None] = {}
        for index, model in enumerate(self.models):
            count = int(np.count_nonzero(self.below[:, index]))
            enough = np.count_nonzero(below[:, index]) > 1 and not np.isnan(low[index])
            start, end = (float(low[index]), float(high[index])) if enough else (None, None)
            found[model] = Estimate(float(values[index]), start, end, count) if count else None
        return found


def of_battles(battles: Sequence[Battle], baseline: str | None) -> Sheet:
    """Return the sheet of weights won and fought; only against the baseline, if there is one, which has no column."""
    rows = []
    for battle in battles:
        if battle.first == battle.second or (baseline and baseline not in (battle.first, battle.second)):
            continue
        item = (battle.question, battle.turn, battle.cluster, battle.category)
        for model, outcome in ((battle.first, battle.outcome), (battle.second, 1 - battle.outcome)):
            if model != baseline:
                rows.append((model, item, battle.weight * outcome, battle.weight))
    return _sheet(rows)


def of_scores(verdicts: Iterable[Verdict]) -> Sheet:
    """Return the sheet of the scores of single replies."""
    rows = []
    for verdict in verdicts:
        if verdict.kind == "single" and verdict.score is not None:
            item = (verdict.question, verdict.turn, verdict.cluster, verdict.category)
            rows.append((verdict.model_a, item, verdict.score, 1.0))
    return _sheet(rows)


def _sheet(rows: Sequence[tuple[str, tuple[str, int, str, str], float, float]]) -> Sheet:
    models = tuple(dict.fromkeys(row[0] for row in rows))
    items = list(dict.fromkeys(row[1] for row in rows))
    place = {item: index for index, item in enumerate(items)}
    column = {model: index for index, model in enumerate(models)}
    above, below = np.zeros((len(items), len(models))), np.zeros((len(items), len(models)))
    for model, item, won, weight in rows:
        above[place[item], column[model]] += won
        below[place[item], column[model]] += weight
    return Sheet(
        models=models,
        categories=tuple(item[3] for item in items),
        turns=tuple(item[1] for item in items),
        clusters=codes_of([item[2] for item in items])[0],
        above=above,
        below=below,
    )
