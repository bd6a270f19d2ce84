"""The evidence of a study: its models with their scored replies and KL, as arrays over replicates and questions."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from salsa.evaluation.scores import ScoredReply, column
from salsa.evaluation.statistics import decided

Numbers = NDArray[np.float64]
Measure = str | Callable[[ScoredReply], float | None]
"""What is measured of a reply: "unfinished", a field by its name, or (slower) what a function makes of the reply."""


@dataclass(frozen=True)
class Point:
    """What was measured on the validation suite after `step` training steps; `kl` is in nats a reply (k1) by anchor."""

    step: int
    gold: float
    reward: float
    length: float
    unfinished: float
    kl: Mapping[str, float]


@dataclass(frozen=True)
class Model:
    """One model of a study; `coefficient` is None where no RL made it.

    `scores` are its replies by suite, `kl` its mean KL (k1, nats a reply) by anchor, `points` what was measured along
    its training, `recall` and `perplexity` what it has kept of its pre-training (None where not measured), `needs`
    the CPU seconds of all that its training needs, by the fingerprint of the artifact, of which `training` is its own
    and `besides` are the SFT models and soups, other than SFT1, behind its start and references,
    and `prints` the fingerprints of the artifacts that the measurements come from: by suite, "kl" and "tax".
    """

    family: str
    arm: str
    replicate: int
    coefficient: float | None
    scores: Mapping[str, Sequence[ScoredReply]]
    kl: Mapping[str, float] = field(default_factory=dict)
    prints: Mapping[str, str] = field(default_factory=dict)
    points: Sequence[Point] = ()
    recall: float | None = None
    perplexity: float | None = None
    needs: Mapping[str, float] = field(default_factory=dict)
    training: str = ""
    besides: Sequence[str] = ()


class Evidence:
    """The models of a study by family, arm and replicate; raises ValueError for a gap or a model twice."""

    def __init__(self, models: Sequence[Model], suites: Sequence[str], tie_margin: float) -> None:
        self.suites = list(suites)
        self.tie_margin = tie_margin
        self.families = list(dict.fromkeys(model.family for model in models))
        self.arms = list(dict.fromkeys(model.arm for model in models))
        self.replicates = sorted({model.replicate for model in models})
        self._models = {(model.family, model.arm, model.replicate): model for model in models}
        self._tables: dict[Hashable, Numbers] = {}
        if len(self._models) != len(models):
            raise ValueError("a model of a study is there twice: one for each family, arm and replicate")
        for family in self.families:
            for arm in self.arms:
                for replicate in self.replicates:
                    if (family, arm, replicate) not in self._models:
                        raise ValueError(f"replicate {replicate} of {arm}, {family} is missing from the study")

    def models(self, family: str, arm: str) -> list[Model]:
        """Return the replicates of an arm, in their order."""
        return [self._models[family, arm, replicate] for replicate in self.replicates]

    def clusters(self, family: str, suite: str) -> list[str]:
        """Return the clusters of a suite's questions, which all replicates share."""
        return list(column(self._first(family, suite), "cluster"))

    def values(self, family: str, arm: str, suite: str, measure: Measure) -> Numbers:
        """Return [replicates, questions] of something measured of replies; NaN where there is none.

        It is made once and read-only. Raises ValueError for a replicate that answers other prompts, or one twice.
        """
        return self._kept(("value", family, arm, suite, measure), lambda: self._measured(family, arm, suite, measure))

    def won(self, family: str, arm: str, other: str, suite: str) -> Numbers:
        """Return [replicates, questions]: what an arm won from another one of the same replicate (1, tie .5, 0).

        It is what `outcomes` says of each replicate; made once, and read-only. Raises ValueError as `values` does, and
        for a reply without a judge's score.
        """
        return self._kept(("won", family, arm, other, suite), lambda: self._won(family, arm, other, suite))

    def _kept(self, key: Hashable, make: Callable[[], Numbers]) -> Numbers:
        found = self._tables.get(key)
        if found is None:
            found = self._tables[key] = make()
            found.setflags(write=False)
        return found

    def _first(self, family: str, suite: str) -> Sequence[ScoredReply]:
        """Return the replies whose order of prompts and whose clusters stand for all replicates and arms."""
        return self._models[family, self.arms[0], self.replicates[0]].scores[suite]

    def _measured(self, family: str, arm: str, suite: str, measure: Measure) -> Numbers:
        order = column(self._first(family, suite), "prompt_id")
        found = np.empty((len(self.replicates), len(order)))
        for row, model in zip(found, self.models(family, arm), strict=True):
            replies = model.scores[suite]
            own = column(replies, "prompt_id")
            places = {prompt: place for place, prompt in enumerate(own)}
            if len(places) != len(own) or places.keys() != set(order):
                at = f"replicate {model.replicate} of {arm}, {family}"
                raise ValueError(f"{at} answers other prompts of {suite}, or one of them twice")
            numbers = _of_replies(replies, measure)
            row[:] = numbers if own == order else numbers[[places[prompt] for prompt in order]]
        return found

    def _won(self, family: str, arm: str, other: str, suite: str) -> Numbers:
        own, theirs = (self.values(family, name, suite, "judge") for name in (arm, other))
        if np.isnan(own).any() or np.isnan(theirs).any():
            lacking = arm if np.isnan(own).any() else other
            raise ValueError(f"a reply of {lacking}, {family} to {suite} has no judge score")
        return decided(own - theirs, self.tie_margin)

    def prints(self, family: str, arms: Sequence[str], suites: Sequence[str]) -> list[str]:
        """Return the fingerprints behind a figure of some arms on some suites."""
        models = [model for arm in arms for model in self.models(family, arm)]
        return list(dict.fromkeys(model.prints[suite] for model in models for suite in suites))


def _of_replies(replies: Sequence[ScoredReply], measure: Measure) -> Numbers:
    """Return [replies] of what is measured of each; None becomes NaN."""
    if measure == "unfinished":
        return 1.0 - _of_replies(replies, "ended")
    found = column(replies, measure) if isinstance(measure, str) else [measure(reply) for reply in replies]
    return np.array(found, dtype=np.float64)
