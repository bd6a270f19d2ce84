"""Assembles `experiment.json`: everything a run found out, each figure with its interval and its fingerprint."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from salsa.evaluation.scores import ScoredReply
from salsa.evaluation.statistics import (
    LEVEL,
    ROUNDS,
    Estimate,
    as_win_rate,
    cluster_bootstrap_means,
    mean_of_suites,
    outcomes,
)
from salsa.report import samples
from salsa.report.schema import POOLED, ROLES, SCHEMA, finite

MORE_REPLICATES = "python run.py -m replicate=0,1,2,3,4,5,6,7"

Suites = Mapping[str, Sequence[ScoredReply]]


@dataclass(frozen=True)
class Judge:
    """Who decides: the judge's name, the margin within which two scores are a tie, and the unit of a score."""

    name: str
    tie_margin: float
    unit: str = "points"


@dataclass(frozen=True)
class Row:
    """One model of the table. `init`, `reference` and `kl_coef` are None for models that no RL made."""

    name: str
    role: str
    init: str | None
    reference: str | None
    kl_coef: float | None
    fingerprint: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"row {self.name!r}: role is {self.role!r}; it must be one of {', '.join(ROLES)}")


@dataclass(frozen=True)
class Divergence:
    """Estimates of KL(model || anchor) in nats a reply at temperature 1, on the model's own replies.

    With l the log-ratio of a token: k1 sums l, k3 sums exp(-l) - 1 + l. Both are unbiased; k3 varies less when the
    two models are close, and their disagreement is a warning.
    """

    k1: Estimate
    k3: Estimate
    fingerprint: str = ""


@dataclass(frozen=True)
class Tax:
    """What alignment costs: recall of facts (0 to 1; None where there are none) and held-out perplexity."""

    recall: float | None
    perplexity: float
    fingerprint: str = ""


@dataclass(frozen=True)
class RewardModelReport:
    """How good the reward model is on held-out pairs; `reliability` holds `predicted`, `observed`, `count` a bin."""

    accuracy: Estimate
    brier: float
    ece: float
    correlation: float | None
    pairs: int
    reliability: Sequence[Mapping[str, float]] = ()
    fingerprint: str = ""


@dataclass(frozen=True)
class Heading:
    """What an experiment is: its identity, names and settings, the judge, and the studies that decide the claim."""

    fingerprint: str
    title: str
    model: str
    judge: Judge
    settings: Mapping[str, Any] = field(default_factory=dict)
    replicates: int = 1
    studies: Sequence[str] = ("table_1",)


@dataclass(frozen=True)
class Evidence:
    """Everything that was measured, by row name: whatever is absent here is shown as missing.

    `scores[row][suite]` are replies, `fingerprints[row][suite]` names the artifacts ("respond", "judge") behind
    them, `kl[row][anchor]` and `tax[row]` are estimates, `curves[row]` measurements over PPO steps on fixed prompts,
    `training[row]` the logged metrics of each PPO step. `judge_model` is the judge where that is a second reward
    model. `left_out[suite]` says of how many `prompts` how many are `too_long` for the models' context.
    """

    scores: Mapping[str, Suites]
    fingerprints: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    kl: Mapping[str, Mapping[str, Divergence]] = field(default_factory=dict)
    tax: Mapping[str, Tax] = field(default_factory=dict)
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    training: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    reward_model: RewardModelReport | None = None
    judge_model: RewardModelReport | None = None
    left_out: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def assemble(
    heading: Heading,
    rows: Sequence[Row],
    evidence: Evidence,
    *,
    suites: Sequence[str],
    opponents: Sequence[str],
    anchors: Sequence[str],
    rng: np.random.Generator,
    sample_count: int = 20,
    rounds: int = ROUNDS,
    level: float = LEVEL,
) -> dict[str, Any]:
    """Return the dictionary of `experiment.json` (plain JSON values; all numbers finite or None, with a warning).

    Every row is compared with each of `opponents` (names of rows) on every suite and over all of them. Rows of one
    suite share their resamples, so a row's interval does not depend on which other rows there are. Raises
    ValueError naming what is unknown, twice there, or answered on other prompts.
    """
    _check_names(rows, evidence, suites, opponents, anchors)
    base = int(rng.integers(2**63))
    described = []
    for row in rows:
        scores = evidence.scores.get(row.name, {})
        against = {name: evidence.scores.get(name, {}) for name in opponents if name != row.name}
        prepared = {
            suite: _table(row.name, suite, scores, against, heading.judge) for suite in suites if suite in scores
        }
        entry: dict[str, Any] = {**asdict(row), "suites": {}}
        for suite, table in prepared.items():
            entry["suites"][suite] = {
                **_estimates([table], _stream(base, suite), rounds, level),
                "fingerprints": dict(evidence.fingerprints.get(row.name, {}).get(suite, {})),
            }
        # With one suite the mean over suites is that suite: the same stream gives the same interval.
        pooled = _stream(base, suites[0] if len(suites) == 1 else "")
        complete = bool(prepared) and len(prepared) == len(suites)
        entry["pooled"] = _estimates(list(prepared.values()), pooled, rounds, level) if complete else None
        entry["kl"] = {anchor: asdict(estimate) for anchor, estimate in evidence.kl.get(row.name, {}).items()}
        entry["tax"] = asdict(evidence.tax[row.name]) if row.name in evidence.tax else None
        described.append(entry)
    experiment = {
        "schema": SCHEMA,
        "fingerprint": heading.fingerprint,
        "title": heading.title,
        "model": heading.model,
        "replicates": heading.replicates,
        "note": note(heading.replicates, heading.studies, level),
        "settings": heading.settings,
        "judge": asdict(heading.judge),
        "level": level,
        "suites": list(suites),
        "opponents": list(opponents),
        "anchors": list(anchors),
        "reward_model": asdict(evidence.reward_model) if evidence.reward_model else None,
        "judge_model": asdict(evidence.judge_model) if evidence.judge_model else None,
        "left_out": evidence.left_out,
        "rows": described,
        "curves": evidence.curves,
        "training": evidence.training,
        "samples": samples.choose([row.name for row in rows], suites, evidence.scores, sample_count),
    }
    experiment, warnings = finite(experiment)
    return {**experiment, "warnings": warnings}


def note(replicates: int, studies: Sequence[str], level: float = LEVEL) -> str:
    """Return the sentence that keeps a reader from taking one replicate for a result."""
    named = " or ".join(studies)
    decides = (
        f" What decides is the study {named}: many replicates, everything from fine-tuning upwards again. Until it is "
        f"there, `{MORE_REPLICATES}` shows how far replicates differ."
        if named
        else ""
    )
    intervals = f"The {level:.0%} intervals resample questions by cluster and hold for these trained models only"
    if replicates == 1:
        return (
            f"One replicate is an illustration, not a result. {intervals}: "
            f"another seed gives other models and can turn the order round.{decides}"
        )
    return f"{replicates} replicates. {intervals}.{decides}"


def _check_names(
    rows: Sequence[Row],
    evidence: Evidence,
    suites: Sequence[str],
    opponents: Sequence[str],
    anchors: Sequence[str],
) -> None:
    names = [row.name for row in rows]
    for kind, listed in (("row", names), ("suite", suites), ("opponent", opponents), ("anchor", anchors)):
        twice = sorted({name for name in listed if list(listed).count(name) > 1})
        if twice:
            raise ValueError(f"{kind} {twice[0]!r} is there twice; each {kind} needs its own name")
    if POOLED in suites:
        raise ValueError(f"a suite cannot be named {POOLED!r}: that is the column of the mean over suites")
    given = {f"evidence.{kind}": list(getattr(evidence, kind)) for kind in _BY_ROW}
    for kind, listed in {**given, "opponents": list(opponents)}.items():
        unknown = [name for name in listed if name not in names]
        if unknown:
            raise ValueError(f"{kind} names {unknown[0]!r}, which is no row; the rows are {', '.join(names)}")
    for row, scores in evidence.scores.items():
        unknown = [suite for suite in scores if suite not in suites]
        if unknown:
            raise ValueError(f"row {row!r} has suite {unknown[0]!r}; the suites are {', '.join(suites)}")
    for row, estimates in evidence.kl.items():
        unknown = [anchor for anchor in estimates if anchor not in anchors]
        if unknown:
            raise ValueError(f"row {row!r} has a KL to {unknown[0]!r}; the anchors are {', '.join(anchors)}")


_BY_ROW = ("scores", "fingerprints", "kl", "tax", "curves", "training")


@dataclass(frozen=True)
class _Table:
    """One row's results on one suite: named columns over prompts; `won` names the columns that are win rates."""

    columns: Mapping[str, np.ndarray]
    won: Mapping[str, np.ndarray]
    clusters: Sequence[str]


def _table(row: str, suite: str, own: Suites, against: Mapping[str, Suites], judge: Judge) -> _Table:
    scored = own[suite]
    if not scored:
        raise ValueError(f"row {row!r} has no replies to suite {suite!r}; leave the suite out to show it as missing")
    columns = {
        "reward": np.array([reply.reward for reply in scored]),
        "length": np.array([reply.length for reply in scored]),
        "unfinished": np.array([float(not reply.ended) for reply in scored]),
    }
    won = {}
    if any(reply.judge is not None for reply in scored):
        unjudged = next((reply.prompt_id for reply in scored if reply.judge is None), None)
        if unjudged is not None:
            raise ValueError(f"row {row!r}, suite {suite!r}: prompt {unjudged!r} has no judge score, others have")
        columns["judge"] = np.array([reply.judge for reply in scored], dtype=np.float64)
        for name, suites in against.items():
            if suite not in suites or all(reply.judge is None for reply in suites[suite]):
                continue
            try:
                won[name] = outcomes(scored, suites[suite], judge.tie_margin)
            except ValueError as error:
                raise ValueError(f"{row!r} against {name!r} on suite {suite!r}: {error}") from error
    return _Table(columns, won, [reply.cluster for reply in scored])


def _estimates(tables: Sequence[_Table], rng: np.random.Generator, rounds: int, level: float) -> dict[str, Any]:
    """Return the estimates of one suite (one table) or of the mean over suites; what a suite lacks is None."""
    names = [name for name in ("judge", "reward", "length", "unfinished") if all(name in t.columns for t in tables)]
    opponents = [name for name in tables[0].won if all(name in table.won for table in tables)]
    stacked = [
        np.stack([*(table.columns[name] for name in names), *(table.won[name] for name in opponents)], axis=1)
        for table in tables
    ]
    clusters = [table.clusters for table in tables]
    if len(tables) == 1:
        estimates = cluster_bootstrap_means(stacked[0], clusters[0], rng, rounds, level)
    else:
        estimates = mean_of_suites(stacked, clusters, rng, rounds, level)
    result: dict[str, Any] = {"judge": None}
    result |= {name: asdict(estimate) for name, estimate in zip(names, estimates, strict=False)}
    result["win_rate"] = {
        name: asdict(as_win_rate(estimate, np.concatenate([table.won[name] for table in tables])))
        for name, estimate in zip(opponents, estimates[len(names) :], strict=True)
    }
    return result


def _stream(base: int, suite: str) -> np.random.Generator:
    """Return the generator of one suite, the same for every row; the name enters, so order does not matter."""
    return np.random.default_rng(np.random.SeedSequence(base, spawn_key=(zlib.crc32(suite.encode()),)))
