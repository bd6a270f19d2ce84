"""The questions of a comparison, named before the results, and a computed sentence for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from salsa.evaluation.comparisons import FEW
from salsa.evaluation.statistics import t_interval
from salsa.evaluation.study.verdict import Verdict, can_decide, corrected, verdict
from salsa.studies.estimates import Group, each_family, groups, pooled, rate
from salsa.studies.evidence import Evidence, Numbers
from salsa.studies.sentences import Claims, sentence, signed
from salsa.studies.settings import SFT, Settings

DRAWS = 10_000
"""Draws of replicates for the place of a peak."""
KINDS = {
    "main": "the main question",
    "others": "the other questions",
    "paper": "the paper's claims about further pairs",
    "families": "the main question in each family",
    "suites": "the main question on each suite",
}
"""Families of tests: those of one kind are corrected for together."""


@dataclass(frozen=True)
class _Question:
    """Whether `first` beats `second` on the mean of some suites, in one family or on the mean of several."""

    group: Group
    first: str
    second: str
    suites: Sequence[str]
    kind: str

    @property
    def place(self) -> str:
        """Where it is asked, in words."""
        suites = "the mean of the suites" if len(self.suites) > 1 else self.suites[0]
        if len(self.group.families) > 1:
            return f"{suites} (mean of {', '.join(self.group.families)})"
        return f"{suites} ({self.group.label})" if self.group.label else suites


def distances(evidence: Evidence, settings: Settings) -> list[Verdict]:
    """Return a sentence for each pair of arms: which of the two is further from SFT1 when it is trained."""
    group = groups(evidence)[0]
    reached = {
        arm: np.mean([[model.kl[SFT] for model in evidence.models(family, arm)] for family in group.families], axis=0)
        for arm in dict.fromkeys(arm for pair in settings.asks for arm in pair)
    }
    apart = [reached[first] - reached[second] for first, second in settings.asks]
    p_values: list[float | None] = [None] * len(apart)
    if len(evidence.replicates) > 1:
        p_values = [*corrected(apart, settings.rng())]
    of = f" (mean of {', '.join(group.families)})" if len(group.families) > 1 else ""
    found = []
    for (first, second), difference, p in zip(settings.asks, apart, p_values, strict=True):
        claims = Claims(
            f"{first} ends further from {SFT} than {second}{of}",
            f"{second} ends further from {SFT} than {first}{of}",
            f"The data do not decide whether {first} or {second} ends further from {SFT}{of}",
        )
        more = t_interval(difference, settings.level)
        ends = f"KL of {first} {reached[first].mean():.2f}, of {second} {reached[second].mean():.2f} nats a reply (k1)"
        found.append(sentence(claims, more, f"{ends}, {signed(more, 2)}", settings.level, p, len(apart)))
    return found


def peak(evidence: Evidence, settings: Settings) -> Verdict | None:
    """Return at which place of the study's axis the win rate against the baseline is highest, and how sure that is.

    Replicates are resampled with all arms together; decided is a place that is the highest in `level` of the draws, of
    ten replicates at least, because fewer vary too little when they are resampled. None where fewer than three arms
    have places, or there is one replicate.
    """
    placed = sorted((arm for arm in evidence.arms if arm in settings.places), key=lambda arm: settings.places[arm])
    if len(placed) < 3 or len(evidence.replicates) < 2:
        return None
    group = groups(evidence)[0]

    def margins(arm: str) -> Numbers:
        if arm == settings.baseline:
            return np.zeros(len(evidence.replicates))
        return _margins(evidence, _Question(group, arm, settings.baseline, evidence.suites, "main"))

    won = np.stack([margins(arm) for arm in placed])
    count = won.shape[1]
    draws = settings.rng().multinomial(count, np.full(count, 1 / count), size=DRAWS)
    shares = np.bincount((won @ draws.T).argmax(axis=0), minlength=len(placed)) / DRAWS
    places = [f"{settings.places[arm]:g}" for arm in placed]
    best = int(won.mean(axis=1).argmax())
    often = [f"{places[index]} in {100 * shares[index]:.0f} %" for index in np.argsort(-shares) if shares[index]]
    sentence = (
        f"The win rate against {settings.baseline} over {settings.axis} is highest at {places[best]}: "
        f"{50 + 100 * won[best].mean():.1f} %; in resampled replicates ({count}) the peak is at {', at '.join(often)}"
    )
    return Verdict(sentence, "first" if count >= FEW and shares[best] >= settings.level else None)


@dataclass(frozen=True)
class Answers:
    """A sentence for each question, how many there are of each kind, and what is said of pairs of arms everywhere."""

    verdicts: list[Verdict]
    counts: dict[str, int]
    pairs: dict[tuple[str, str], Verdict]


def answers(evidence: Evidence, settings: Settings) -> Answers:
    """Return what is said to each question; the pairs of `settings.asks` come first, in their order."""
    asked = _asked(evidence, settings)
    p_values: dict[str, list[float]] = {}
    if len(evidence.replicates) > 1:
        for kind in KINDS:
            tests = [_margins(evidence, each) for each in asked if each.kind == kind]
            p_values[kind] = corrected(tests, settings.rng()) if tests else []
    counts = {kind: sum(each.kind == kind for each in asked) for kind in KINDS}
    found = []
    for each in asked:
        p = p_values[each.kind].pop(0) if p_values else None
        share = rate(evidence, each.group, each.first, each.second, each.suites, settings)
        replicates = len(evidence.replicates)
        count = counts[each.kind]
        found.append(verdict(each.first, each.second, each.place, share, replicates, settings.level, p, count))
    pairs = {
        (each.first, each.second): said
        for each, said in zip(asked, found, strict=True)
        if each.kind in ("main", "others", "paper")
    }
    return Answers(found, counts, pairs)


def _asked(evidence: Evidence, settings: Settings) -> list[_Question]:
    """Return every pair over all suites and families; the first pair in each family and on each suite, too.

    The paper's claims are known beforehand: pairs that only they name are asked, too.
    """
    whole = groups(evidence)[0]
    (first, second), *others = settings.asks
    found = [_Question(whole, first, second, evidence.suites, "main")]
    found += [_Question(whole, *pair, evidence.suites, "others") for pair in others]
    asked = {frozenset(pair) for pair in settings.asks}
    claimed = dict.fromkeys(pair for claim in settings.claims for pair in claim.asks if frozenset(pair) not in asked)
    found += [_Question(whole, *pair, evidence.suites, "paper") for pair in claimed]
    if len(evidence.families) > 1:
        found += [_Question(group, first, second, evidence.suites, "families") for group in each_family(evidence)]
    if len(evidence.suites) > 1:
        found += [_Question(whole, first, second, [suite], "suites") for suite in evidence.suites]
    return found


def _margins(evidence: Evidence, asked: _Question) -> Numbers:
    """Return [replicates]: win rate less one half, the mean of suites and families."""

    def won(family: str, suite: str) -> Numbers:
        return evidence.won(family, asked.first, asked.second, suite)

    tables = [pooled(asked.group, suite, won) for suite in asked.suites]
    found: Numbers = np.mean([np.nanmean(table, axis=1) for table in tables], axis=0) - 0.5
    return found


def cells(evidence: Evidence, settings: Settings) -> str:
    """Return in how many cells, of families and suites, the first arm of the main question wins."""
    first, second = settings.asks[0]
    rates = [
        rate(evidence, group, first, second, [suite], settings)
        for group in each_family(evidence)
        for suite in evidence.suites
    ]
    above = sum(each.value > 0.5 for each in rates)
    sure = sum(each.low is not None and each.low > 0.5 for each in rates)
    return f"{above} of {len(rates)} cells (families x suites) are above 50 %, {sure} with the whole interval"


def notes(evidence: Evidence, tests: Mapping[str, int], settings: Settings) -> list[str]:
    """Return what the sentences rest on."""
    found = [
        "A replicate is everything from fine-tuning upwards, drawn anew: SFT models, policies, and preferences and "
        "reward model where they are made here. World, base model and the chosen coefficients are the same in all, so "
        "the intervals are conditional on them.",
    ]
    if len(evidence.families) > 1:
        found.append(
            "Means of families count each of them the same; a replicate has the same seeds in all of them and is drawn "
            "in all together. They speak of these families, not of others."
        )
    if len(evidence.replicates) > 1:
        found.append(
            "Questions were named before the results. p values come from a sign-flip test over replicates and hold, as "
            "t intervals do, for these questions of the suites; Holm's correction is over "
            + ", ".join(f"{tests[kind]} of {says}" for kind, says in KINDS.items() if tests[kind])
            + (
                f"; sentences on KL are corrected for their number, {len(settings.asks)}."
                if settings.about == "kl"
                else "."
            )
        )
    return found


def warnings(evidence: Evidence, tests: Mapping[str, int], settings: Settings) -> list[str]:
    """Return what so few replicates cannot decide."""
    count = len(evidence.replicates)
    if count == 1:
        return ["one replicate is an illustration: nothing is tested"]
    hopeless = [
        says for kind, says in KINDS.items() if tests[kind] and not can_decide(count, tests[kind], settings.level)
    ]
    if settings.about == "kl" and not can_decide(count, len(settings.asks), settings.level):
        hopeless = ["which arm goes further", *hopeless]
    return [f"with {count} replicates no p value can be small enough to decide {' or '.join(hopeless)}"] * bool(
        hopeless
    )
