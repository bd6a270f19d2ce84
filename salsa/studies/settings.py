"""What a study is computed with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from salsa.studies.claims import Claim

SFT, SOUP = "SFT1", "soup"
"""Models that no RL made and every study has."""


@dataclass(frozen=True)
class Settings:
    """What a comparison is computed with; `roles` colour the arms, `seed` is that of the resampling.

    `asks` are pairs of arms that are tested, named before the results; the first pair is the main one.
    `measure` is what the judge's scores are called, `unit` their unit.
    `claims` are those of the paper.
    `about` is what the questions are about: the outcome (win rates, gold at matched KL), "kl", or "length".
    `places` are the arms' places on an axis called `axis`, where they have one, such as weights or numbers of models.
    """

    baseline: str
    asks: Sequence[tuple[str, str]]
    roles: Mapping[str, str]
    rounds: int
    level: float
    seed: int
    measure: str = "gold reward"
    unit: str = "points"
    about: str = "outcome"
    axis: str = ""
    claims: Sequence[Claim] = ()
    places: Mapping[str, float] = field(default_factory=dict)

    def rng(self) -> np.random.Generator:
        """Return a fresh stream: all figures see the same draws."""
        return np.random.default_rng(self.seed)
