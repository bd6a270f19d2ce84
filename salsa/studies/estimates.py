"""Estimates over replicates: of one family of base models, or of the mean of several."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from salsa.evaluation.statistics import Estimate
from salsa.evaluation.study.crossed import interval_of_suites
from salsa.studies.evidence import Evidence, Measure, Numbers
from salsa.studies.settings import Settings


@dataclass(frozen=True)
class Group:
    """Families whose mean is shown, and what it is called; a single family needs no name."""

    label: str | None
    families: Sequence[str]


def groups(evidence: Evidence) -> list[Group]:
    """Return what a table has rows of: of several families their mean, which comes first, and each of them."""
    if len(evidence.families) == 1:
        return [Group(None, evidence.families)]
    return [Group("mean of the families", evidence.families), *each_family(evidence)]


def each_family(evidence: Evidence) -> list[Group]:
    """Return a group for each family."""
    return [Group(family if len(evidence.families) > 1 else None, [family]) for family in evidence.families]


def rate(evidence: Evidence, group: Group, arm: str, other: str, suites: Sequence[str], settings: Settings) -> Estimate:
    """Return the share that an arm wins from another one of the same replicate, the mean of suites and families.

    The interval is cut where a share ends: t intervals know nothing of that.
    """
    found = estimate(evidence, group, lambda family, suite: evidence.won(family, arm, other, suite), suites, settings)
    return share(found)


def share(found: Estimate) -> Estimate:
    """Return the estimate of a share with its interval cut where shares end."""
    if found.low is None or found.high is None:
        return found
    return Estimate(found.value, max(0.0, found.low), min(1.0, found.high), found.n)


def mean(
    evidence: Evidence,
    group: Group,
    arm: str,
    measure: Measure,
    suites: Sequence[str],
    settings: Settings,
) -> Estimate:
    """Return the mean over replicates of something measured of an arm's replies, the mean of suites and families."""
    return estimate(
        evidence, group, lambda family, suite: evidence.values(family, arm, suite, measure), suites, settings
    )


def estimate(
    evidence: Evidence,
    group: Group,
    numbers: Callable[[str, str], Numbers],
    suites: Sequence[str],
    settings: Settings,
) -> Estimate:
    """Return the mean with its interval of `numbers(family, suite)` [replicates, questions].

    Families have the same weight. A replicate is the same seeds, demonstrations and prompts in all of them, so it is
    drawn in all together, and so is a question. Raises ValueError for families with other questions.
    """
    tables = [pooled(group, suite, numbers) for suite in suites]
    clusters = [_clusters(evidence, group, suite) for suite in suites]
    return interval_of_suites(tables, clusters, settings.rng(), settings.rounds, settings.level).estimate


def pooled(group: Group, suite: str, numbers: Callable[[str, str], Numbers]) -> Numbers:
    """Return [replicates, questions] of `numbers(family, suite)`: their mean over families, NaN where one has none."""
    found = [numbers(family, suite) for family in group.families]
    return found[0] if len(found) == 1 else np.mean(found, axis=0)


def _clusters(evidence: Evidence, group: Group, suite: str) -> list[str]:
    first, *others = (evidence.clusters(family, suite) for family in group.families)
    if any(other != first for other in others):
        raise ValueError(f"the families {', '.join(group.families)} do not share the questions of {suite}")
    return first
