"""Assembles `experiment.json`: everything a run found out, each figure with its interval and its fingerprint."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from salsa.evaluation.judgments import Judgment
from salsa.evaluation.statistics import (
    LEVEL,
    ROUNDS,
    Estimate,
    as_win_rate,
    mean_of_suites,
)
from salsa.report import samples
from salsa.report.outcomes import ByScores, ByVerdicts, Suites
from salsa.report.schema import POOLED, ROLES, SCHEMA, finite

MORE_REPLICATES = "python run.py -m replicate=0,1,2,3,4,5,6,7"


@dataclass(frozen=True)
class Judge:
    """Who decides: the judge's name, the margin within which two scores are a tie, and the unit of a score.

    A judge that reads replies says itself what is a tie, and has no margin.
    """

    name: str
    tie_margin: float | None
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
    model. `left_out[suite]` says of how many `prompts` how many are `too_long` for the models' context, and of a
    benchmark how many are in the training data (`contaminated`) and how many replies its end has `cut`, if any.

    `judgments` are what a judge that reads replies said; with them (an empty list too) the judge scores of `scores`
    count for nothing. `judging` is what is told of asking it: see `salsa.report.judging`.
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
    judgments: Sequence[Judgment] | None = None
    judging: Mapping[str, Any] = field(default_factory=dict)


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
    if evidence.judgments is None:
        found: ByScores | ByVerdicts = ByScores(evidence.scores, heading.judge.tie_margin, suites)
    else:
        found = ByVerdicts(evidence.scores, evidence.judgments, {row.name: row.fingerprint for row in rows})
    resampling = _Resampling(int(rng.integers(2**63)), rounds, level, found.gaps)
    described = []
    for row in rows:
        scores = evidence.scores.get(row.name, {})
        against = [name for name in opponents if name != row.name]
        prepared = {suite: _table(row.name, suite, found, against) for suite in suites if suite in scores}
        entry: dict[str, Any] = {**asdict(row), "suites": {}}
        for suite, table in prepared.items():
            prints = {**evidence.fingerprints.get(row.name, {}).get(suite, {}), **found.fingerprints(row.name, suite)}
            entry["suites"][suite] = {**_estimates({suite: table}, resampling), "fingerprints": prints}
        complete = bool(prepared) and len(prepared) == len(suites)
        entry["pooled"] = _pooled(prepared, found, resampling) if complete else None
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
        "samples": samples.choose([row.name for row in rows], suites, found.replies, sample_count),
    }
    if evidence.judgments is not None:
        parts = {"scored": found.scored, "compared": found.compared}
        own = {name: [suite for suite in suites if suite in part] for name, part in parts.items()}
        experiment["judging"] = {**evidence.judging, **own}
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
    _check_judgments(evidence.judgments or (), names, suites)
    for row, estimates in evidence.kl.items():
        unknown = [anchor for anchor in estimates if anchor not in anchors]
        if unknown:
            raise ValueError(f"row {row!r} has a KL to {unknown[0]!r}; the anchors are {', '.join(anchors)}")


_BY_ROW = ("scores", "fingerprints", "kl", "tax", "curves", "training")


def _check_judgments(judgments: Sequence[Judgment], names: Sequence[str], suites: Sequence[str]) -> None:
    seen = set()
    for each in judgments:
        told = f"the judgment of {each.row!r} on {each.suite!r}"
        unknown = [name for name in (each.row, each.opponent) if name is not None and name not in names]
        if unknown:
            raise ValueError(f"{told} names {unknown[0]!r}, which is no row; the rows are {', '.join(names)}")
        if each.suite not in suites:
            raise ValueError(f"{told}: there is no such suite; the suites are {', '.join(suites)}")
        if (each.row, each.suite, each.against) in seen:
            raise ValueError(f"{told}{f' against {each.against!r}' if each.against else ''} is there twice")
        seen.add((each.row, each.suite, each.against))


@dataclass(frozen=True)
class _Table:
    """One row's results on one suite: named columns over prompts; `won` names the columns that are win rates."""

    columns: Mapping[str, np.ndarray]
    won: Mapping[str, np.ndarray]
    clusters: Sequence[str]


def _table(row: str, suite: str, found: ByScores | ByVerdicts, opponents: Sequence[str]) -> _Table:
    replies = found.replies[row][suite]
    if not replies:
        raise ValueError(f"row {row!r} has no replies to suite {suite!r}; leave the suite out to show it as missing")
    columns = {
        "reward": np.array([reply.reward for reply in replies]),
        "length": np.array([reply.length for reply in replies]),
        "unfinished": np.array([float(not reply.ended) for reply in replies]),
    }
    scores = found.scores(row, suite)
    if scores is not None:
        columns["judge"] = scores
    won = {name: results for name in opponents if (results := found.won(row, suite, name)) is not None}
    return _Table(columns, won, [reply.cluster for reply in replies])


@dataclass(frozen=True)
class _Resampling:
    """How intervals are made: the base of the random streams, rounds, level, and whether prompts may be missing."""

    base: int
    rounds: int
    level: float
    gaps: bool


_COLUMNS = ("judge", "reward", "length", "unfinished")


def _pooled(tables: Mapping[str, _Table], found: ByScores | ByVerdicts, resampling: _Resampling) -> dict[str, Any]:
    """Return the means over suites; of scores and win rates over those suites that the judge was asked about."""
    result: dict[str, Any] = {"judge": None}
    parts = {"judge": found.scored, "win_rate": found.compared}
    parts |= dict.fromkeys(("reward", "length", "unfinished"), tuple(tables))
    for suites in dict.fromkeys(tuple(suite for suite in tables if suite in chosen) for chosen in parts.values()):
        own = [name for name, chosen in parts.items() if set(chosen) & set(tables) == set(suites)]
        if suites:
            result |= _estimates({suite: tables[suite] for suite in suites}, resampling, own)
    return {name: result.get(name) for name in _COLUMNS} | {"win_rate": result.get("win_rate", {})}


def _estimates(
    tables: Mapping[str, _Table], resampling: _Resampling, wanted: Sequence[str] = (*_COLUMNS, "win_rate")
) -> dict[str, Any]:
    """Return the estimates of one suite (one table) or of the mean over suites; what a suite lacks is None."""
    given = list(tables.values())
    names = [name for name in _COLUMNS if name in wanted and all(name in table.columns for table in given)]
    rates = given[0].won if "win_rate" in wanted else {}
    opponents = [name for name in rates if all(name in table.won for table in given)]
    result: dict[str, Any] = {"judge": None} if "judge" in wanted else {}
    columns = [[*(table.columns[name] for name in names), *(table.won[name] for name in opponents)] for table in given]
    estimates = _means(tables, columns, resampling)
    result |= {name: asdict(estimate) for name, estimate in zip(names, estimates, strict=False)}
    if "win_rate" in wanted:
        result["win_rate"] = {
            name: asdict(as_win_rate(estimate, np.concatenate([table.won[name] for table in given])))
            for name, estimate in zip(opponents, estimates[len(names) :], strict=True)
        }
    return result


def _means(
    tables: Mapping[str, _Table], columns: Sequence[Sequence[np.ndarray]], resampling: _Resampling
) -> list[Estimate]:
    if not columns[0]:
        return []
    stacked = [np.stack(own, axis=1) for own in columns]
    clusters = [table.clusters for table in tables.values()]
    # With one suite the mean over suites is that suite: the same stream gives the same interval.
    rng = _stream(resampling.base, next(iter(tables)) if len(tables) == 1 else "")
    return mean_of_suites(stacked, clusters, rng, resampling.rounds, resampling.level, gaps=resampling.gaps)


def _stream(base: int, suite: str) -> np.random.Generator:
    """Return the generator of one suite, the same for every row; the name enters, so order does not matter."""
    return np.random.default_rng(np.random.SeedSequence(base, spawn_key=(zlib.crc32(suite.encode()),)))
