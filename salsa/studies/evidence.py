"""The evidence of a study: its models with their scored replies and KL, as arrays over replicates and questions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from salsa.evaluation.scores import ScoredReply
from salsa.evaluation.statistics import outcomes

Numbers = NDArray[np.float64]


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
    the CPU seconds of all that its training needs, by the fingerprint of the artifact, of which `training` is its own,
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


class Evidence:
    """The models of a study by family, arm and replicate; raises ValueError for a gap or a model twice."""

    def __init__(self, models: Sequence[Model], suites: Sequence[str], tie_margin: float) -> None:
        self.suites = list(suites)
        self.tie_margin = tie_margin
        self.families = list(dict.fromkeys(model.family for model in models))
        self.arms = list(dict.fromkeys(model.arm for model in models))
        self.replicates = sorted({model.replicate for model in models})
        self._models = {(model.family, model.arm, model.replicate): model for model in models}
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
        return [reply.cluster for reply in self.models(family, self.arms[0])[0].scores[suite]]

    def values(self, family: str, arm: str, suite: str, value: Callable[[ScoredReply], float | None]) -> Numbers:
        """Return [replicates, questions] of something measured of replies; NaN where there is none."""
        order = [reply.prompt_id for reply in self.models(family, self.arms[0])[0].scores[suite]]
        found = np.full((len(self.replicates), len(order)), np.nan)
        for place, model in enumerate(self.models(family, arm)):
            by_prompt = {reply.prompt_id: value(reply) for reply in model.scores[suite]}
            if by_prompt.keys() != set(order):
                raise ValueError(f"replicate {model.replicate} of {arm}, {family} answers other prompts of {suite}")
            found[place] = [np.nan if by_prompt[name] is None else by_prompt[name] for name in order]
        return found

    def won(self, family: str, arm: str, other: str, suite: str) -> Numbers:
        """Return [replicates, questions]: what an arm won from another one of the same replicate (1, tie .5, 0)."""
        order = [reply.prompt_id for reply in self.models(family, self.arms[0])[0].scores[suite]]
        found = np.empty((len(self.replicates), len(order)))
        pairs = zip(self.models(family, arm), self.models(family, other), strict=True)
        for place, (own, theirs) in enumerate(pairs):
            won = outcomes(own.scores[suite], theirs.scores[suite], self.tie_margin)
            by_prompt = dict(zip((reply.prompt_id for reply in own.scores[suite]), won, strict=True))
            found[place] = [by_prompt[name] for name in order]
        return found

    def prints(self, family: str, arms: Sequence[str], suites: Sequence[str]) -> list[str]:
        """Return the fingerprints behind a figure of some arms on some suites."""
        models = [model for arm in arms for model in self.models(family, arm)]
        return list(dict.fromkeys(model.prints[suite] for model in models for suite in suites))
