"""The schema of `study=` and of `regime=`. Imports no torch."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from pipelines.choices import StudyAbout, StudyKind
from pipelines.ranges import require

SELECTION_REPLICATES = 1000
"""The first replicate that is for choosing coefficients only; those below are reported."""
ALL = "all"
"""Name that stands for every study."""
SFT, SOUP = "SFT1", "soup"
"""Models that no RL made and every study evaluates."""


@dataclass
class Claim:
    """What the paper reports, in words; with pairs of arms of which it says that the first is better.

    `main`: it says yes to the study's main question.
    """

    claim: str = MISSING
    asks: list[list[str]] = field(default_factory=list)
    main: bool = False


@dataclass
class Paper:
    """What is known of the paper's own item; nothing of it enters a computation."""

    label: str = ""
    source: str = ""
    claims: list[Claim] = field(default_factory=list)
    cells: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass
class StudySettings:
    """What a study compares, and how often; a kind of study that does not read a key leaves it out."""

    name: str = MISSING
    kind: StudyKind = StudyKind.none
    title: str = ""
    question: str = ""
    families: list[str] = field(default_factory=list)
    suites: list[str] = field(default_factory=list)
    arms: dict[str, list[str]] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    baseline: str = ""
    asks: list[list[str]] = field(default_factory=list)
    about: StudyAbout = StudyAbout.outcome
    paper: Paper = field(default_factory=Paper)
    axis: str = ""
    places: dict[str, float] = field(default_factory=dict)
    coefficients: list[float] = field(default_factory=list)
    replicates: int = 1
    selection_replicates: int = 1
    selection_prompts: int = 2

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`; an empty name is no study, `ALL` has no keys of its own."""
        if self.name in ("", ALL):
            return
        trains = self.kind not in (StudyKind.line, StudyKind.plane)
        for key in ("families", *(("arms", "coefficients") if trains else ())):
            value = getattr(self, key)
            require(len(value) > 0, f"{at}.{key}", value, "name at least one")
            require(len(set(value)) == len(value), f"{at}.{key}", value, "names one twice")
        if trains:
            self._check_arms(at)
        for key, least in (("replicates", 1), ("selection_replicates", 1), ("selection_prompts", 2)):
            require(getattr(self, key) >= least, f"{at}.{key}", getattr(self, key), f"must be at least {least}")
        most = SELECTION_REPLICATES
        require(self.replicates <= most, f"{at}.replicates", self.replicates, f"must be at most {most}")

    def _check_arms(self, at: str) -> None:
        there_are = f"there are {', '.join(self.arms)}"
        known = self.baseline in (*self.arms, SFT)
        require(known, f"{at}.baseline", self.baseline, f"is neither an arm nor {SFT}; {there_are}")
        require(
            self.kind is not StudyKind.frontier or self.baseline != SFT,
            f"{at}.baseline",
            self.baseline,
            f"has no front, because nothing trains it; {there_are}",
        )
        require(len(self.asks) > 0, f"{at}.asks", [], "name at least one pair of arms: [[SALSA, PPO]]")
        claimed = [pair for claim in self.paper.claims for pair in claim.asks]
        only = "claims about pairs of arms are compared in a comparison; say main: true, or nothing"
        require(not claimed or self.kind is StudyKind.comparison, f"{at}.paper.claims", claimed, only)
        named = [*((f"{at}.asks", pair) for pair in self.asks), *((f"{at}.paper.claims", pair) for pair in claimed)]
        untrained = () if self.kind is StudyKind.frontier else (SFT, SOUP)  # nothing trains these: they have no front
        or_these = f" (or {SFT}, {SOUP})" if untrained else ""
        for key, pair in named:
            fix = f"a question is two different arms{or_these}, of which the first is asked about; {there_are}"
            right = len(pair) == 2 and pair[0] != pair[1] and set(pair) <= {*self.arms, *untrained}
            require(right, key, pair, fix)
        measured = StudyAbout.kl if self.kind is StudyKind.comparison else StudyAbout.length
        right = self.about in (StudyAbout.outcome, measured)
        only = f"a {self.kind.value} asks about the outcome or about {measured.value}"
        require(right, f"{at}.about", self.about.value, only)
        for key in ("roles", "places"):
            unknown = sorted(set(getattr(self, key)) - set(self.arms))
            require(not unknown, f"{at}.{key}", unknown, f"are no arms; {there_are}")
        taken = sorted({SFT, SOUP} & set(self.arms))
        require(not taken, f"{at}.arms", taken, "are names of models that every study has; choose others")
        for coefficient in self.coefficients:
            require(coefficient >= 0, f"{at}.coefficients", coefficient, "must not be negative")


@dataclass
class Regime:
    """A named recipe of the SFT models."""

    name: str = MISSING
