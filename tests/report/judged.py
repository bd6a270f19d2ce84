"""The made-up experiment of `factory` where the judge reads replies: it was asked about the policy and the opponent.

SALSA wins four games of five against PPO on every suite, and PPO is split with SFT1; of each suite's prompts the judge
said nothing readable on the last. Only on "single" and "two_turn" there are scores: 7 for SALSA and 5 for PPO.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from salsa.evaluation.judgments import Judgment
from salsa.report.experiment import Evidence, Judge, assemble
from tests.report import factory

COUNT = 20
JUDGE = "gpt-4.1-2025-04-14"
SCORED = ("single", "two_turn")
SPENT = {"requests": 960, "judged": 957, "unparsed": 3, "failed": 0, "calls": 961}
SPENT |= {"tokens_in": 1_900_000, "tokens_out": 192_000, "price": 12.34}


def values(suite: str, given: Sequence[float]) -> dict[str, float]:
    """Return the given numbers, over and over, for all prompts of a suite but the last."""
    return {f"{suite}-{number:03d}": given[number % len(given)] for number in range(COUNT - 1)}


def judgments(scored: Sequence[str] = SCORED, compared: Sequence[str] = factory.SUITES) -> list[Judgment]:
    found = []
    for suite in scored:
        found += [Judgment("PPO", suite, values(suite, [5.0]), fingerprint=f"PPO-{suite}-scores")]
        found += [Judgment("SALSA", suite, values(suite, [7.0]), fingerprint=f"SALSA-{suite}-scores")]
    for suite in compared:
        wins = values(suite, [1.0, 1.0, 1.0, 1.0, 0.0])
        found += [Judgment("PPO", suite, values(suite, [1.0, 0.0]), "SFT1", fingerprint=f"PPO-{suite}-SFT1")]
        found += [Judgment("SALSA", suite, wins, "PPO", fingerprint=f"SALSA-{suite}-PPO")]
    return found


def evidence(found: Sequence[Judgment] | None = None, judging: Mapping[str, Any] = {}) -> Evidence:
    made = factory.evidence(COUNT)
    scores = {
        row: {suite: [replace(reply, judge=None) for reply in given] for suite, given in suites.items()}
        for row, suites in made.scores.items()
    }
    prints = {
        row: {suite: {"respond": own["respond"], "reward": own["judge"]} for suite, own in suites.items()}
        for row, suites in made.fingerprints.items()
    }
    curves = {row: [{**point, "judge": None} for point in points] for row, points in made.curves.items()}
    judged = judgments() if found is None else found
    return replace(made, scores=scores, fingerprints=prints, curves=curves, judgments=judged, judging=judging)


def head(suite: str) -> dict[str, Any]:
    """Return what the report of win rates says of a suite."""
    rate = {"value": 0.8, "low": 0.6, "high": 0.9, "n": 19}
    score = {"value": 7.0, "low": 6.5, "high": 7.5, "n": 38}
    swap = {"complete": 40, "same": 33, "first": 5, "second": 2, "tied": 0}
    swap["consistency"] = {"value": 0.825, "low": 0.7, "high": 0.95, "n": 40}
    salsa = {"score": score, "turns": {"1": score, "2": score}, "against": {"PPO": rate, "gpt-4-0314": None}}
    return {
        "suite": suite,
        "judge": JUDGE,
        "snapshots": [JUDGE],
        "rules": {"PPO": "half votes: each game with a verdict is half a vote", "gpt-4-0314": "first release"},
        "rows": {"SALSA": salsa},
        "bias": {"swap": swap, "first_wins": {"value": 0.55, "low": 0.5, "high": 0.6, "n": 70}, "longer_wins": None},
    }


def experiment(
    found: Sequence[Judgment] | None = None, opponents: Sequence[str] = factory.OPPONENTS, **changes: Any
) -> dict[str, Any]:
    judging = {"judge": JUDGE, **SPENT, "by_suite": dict.fromkeys(SCORED, SPENT)}
    judging |= {"suites": [head(suite) for suite in SCORED]} | changes
    made = assemble(
        replace(factory.heading(), judge=Judge(JUDGE, None, "points of 10")),
        factory.rows(),
        evidence(found, judging),
        suites=factory.SUITES,
        opponents=opponents,
        anchors=factory.ANCHORS,
        rng=np.random.default_rng(0),
        rounds=100,
    )
    copy: dict[str, Any] = json.loads(json.dumps(made, allow_nan=False))
    return copy


def row(made: Mapping[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in made["rows"] if each["name"] == name)
    return found
