"""A comparison of arms with a baseline: win rates, gold, KL; each with an interval, and a sentence that is computed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from salsa.evaluation.scores import ScoredReply
from salsa.evaluation.statistics import Estimate, t_interval
from salsa.evaluation.study.crossed import interval, interval_of_suites
from salsa.evaluation.study.verdict import Verdict, can_decide, corrected, verdict
from salsa.studies.evidence import Evidence, Numbers

MEAN = "mean"
SFT = "SFT1"


@dataclass(frozen=True)
class Settings:
    """What a comparison is computed with; `roles` colour the arms, `seed` is that of the resampling.

    `places` are the arms' places on an axis called `axis`, where they have one, such as weights or numbers of models.
    """

    baseline: str
    roles: Mapping[str, str]
    rounds: int
    level: float
    seed: int
    axis: str = ""
    places: Mapping[str, float] = field(default_factory=dict)

    def rng(self) -> np.random.Generator:
        """Return a fresh stream: all figures see the same draws."""
        return np.random.default_rng(self.seed)


def comparison(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    """Return tables, figures and verdicts of `study.json`."""
    trained = [arm for arm in evidence.arms if arm not in (SFT, "soup")]
    rivals = [arm for arm in trained if arm != settings.baseline]
    verdicts, tests = _verdicts(evidence, rivals, settings)
    return {
        "verdicts": [asdict(each) for each in verdicts],
        "headline": 0,
        "tables": [
            *(_rates(evidence, other, settings) for other in dict.fromkeys((settings.baseline, SFT))),
            _gold(evidence, settings),
            _behaviour(evidence, settings),
        ],
        "figures": [*_lines(evidence, trained, settings), *_figures(evidence, rivals, settings)],
        "notes": _notes(evidence, tests, settings),
    }


def _rate(evidence: Evidence, family: str, arm: str, other: str, suites: Sequence[str], settings: Settings) -> Estimate:
    tables = [evidence.won(family, arm, other, suite) for suite in suites]
    return _estimate(evidence, family, tables, suites, settings)


def _estimate(
    evidence: Evidence, family: str, tables: Sequence[Numbers], suites: Sequence[str], settings: Settings
) -> Estimate:
    clusters = [evidence.clusters(family, suite) for suite in suites]
    if len(suites) == 1:
        found = interval(tables[0], clusters[0], settings.rng(), settings.rounds, settings.level)
    else:
        found = interval_of_suites(tables, clusters, settings.rng(), settings.rounds, settings.level)
    return found.estimate


@dataclass(frozen=True)
class _Asked:
    """One comparison with the baseline; `main` ones are named in advance: the first rival, over all suites."""

    family: str
    arm: str
    suites: Sequence[str]
    main: bool


def _asked(evidence: Evidence, rivals: Sequence[str]) -> list[_Asked]:
    single = [[suite] for suite in evidence.suites] if len(evidence.suites) > 1 else []
    found = [
        _Asked(family, arm, suites, arm == rivals[0] and len(suites) == len(evidence.suites))
        for family in evidence.families
        for arm in rivals
        for suites in (evidence.suites, *single)
    ]
    return sorted(found, key=lambda each: not each.main)


def _verdicts(evidence: Evidence, rivals: Sequence[str], settings: Settings) -> tuple[list[Verdict], dict[bool, int]]:
    """Return a sentence for each comparison, the main ones first, and how many are corrected for together."""
    asked = _asked(evidence, rivals)
    p_values: dict[bool, list[float]] = {}
    if len(evidence.replicates) > 1:
        for main in (True, False):
            tests = [_margins(evidence, each, settings) for each in asked if each.main is main]
            p_values[main] = corrected(tests, settings.rng()) if tests else []
    found = []
    for each in asked:
        p = p_values[each.main].pop(0) if p_values else None
        rate = _rate(evidence, each.family, each.arm, settings.baseline, each.suites, settings)
        place = "the mean of the suites" if len(each.suites) > 1 else each.suites[0]
        where = f"{place} ({each.family})" if len(evidence.families) > 1 else place
        found.append(verdict(each.arm, settings.baseline, where, rate, len(evidence.replicates), settings.level, p))
    return found, {main: sum(each.main is main for each in asked) for main in (True, False)}


def _margins(evidence: Evidence, asked: _Asked, settings: Settings) -> Numbers:
    """Return [replicates]: win rate less one half, the mean of the suites."""
    tables = [evidence.won(asked.family, asked.arm, settings.baseline, suite) for suite in asked.suites]
    return np.mean([np.nanmean(table, axis=1) for table in tables], axis=0) - 0.5


def _rates(evidence: Evidence, other: str, settings: Settings) -> dict[str, Any]:
    suites = evidence.suites
    columns = [_column(suite, f"win rate vs {other}", "%", 1, 100) for suite in suites]
    columns += [_column(MEAN, f"win rate vs {other}", "%", 1, 100)] if len(suites) > 1 else []
    rows = []
    for family in evidence.families:
        for arm in evidence.arms:
            cells: dict[str, Any] = {}
            for key in (column["key"] for column in columns):
                used = suites if key == MEAN else [key]
                if arm != other:
                    rate = _rate(evidence, family, arm, other, used, settings)
                    cells[key] = _cell(rate, evidence.prints(family, [arm, other], used))
            rows.append(_row(evidence, family, arm, cells, settings))
    name = "main" if other == settings.baseline else f"against {other}"
    caption = (
        f"Win rate against {other} of the same replicate: win + tie / 2, scores within {evidence.tie_margin:g} tie"
    )
    return _table(name, f"{caption}. {_intervals(evidence, settings)}", columns, rows)


def _gold(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    suites = evidence.suites
    keys = [*suites, *([MEAN] if len(suites) > 1 else [])]
    columns = [_column(key, "gold reward", "points", 2, 1) for key in keys]
    columns.append(_column("difference", f"less {settings.baseline}", "points", 2, 1) | {"label": keys[-1]})
    rows = []
    for family in evidence.families:
        for arm in evidence.arms:
            own = {suite: evidence.values(family, arm, suite, _judge) for suite in suites}
            base = {suite: evidence.values(family, settings.baseline, suite, _judge) for suite in suites}
            cells: dict[str, Any] = {}
            for key in keys:
                used = suites if key == MEAN else [key]
                estimate = _estimate(evidence, family, [own[suite] for suite in used], used, settings)
                cells[key] = _cell(estimate, evidence.prints(family, [arm], used))
            if arm != settings.baseline:
                less = [own[suite] - base[suite] for suite in suites]
                prints = evidence.prints(family, [arm, settings.baseline], suites)
                cells["difference"] = _cell(_estimate(evidence, family, less, suites, settings), prints)
            rows.append(_row(evidence, family, arm, cells, settings))
    return _table("gold", f"Mean gold reward. {_intervals(evidence, settings)}", columns, rows)


def _behaviour(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    """Return the table of what the policies have become: KL to common anchors, reward-model score, length, ends."""
    anchors = list(evidence.models(evidence.families[0], evidence.arms[-1])[0].kl)
    columns = [_column(f"kl_{anchor}", "KL of a reply (k1)", "nats", 2, 1) | {"label": anchor} for anchor in anchors]
    columns += [
        _column("reward", "replies, mean of the suites", "normalised", 2, 1) | {"label": "reward-model score"},
        _column("length", "replies, mean of the suites", "tokens", 1, 1),
        _column("unfinished", "replies, mean of the suites", "%", 1, 100) | {"label": "without end"},
        _column("coefficient", "trained with", "reward a nat", 2, 1) | {"label": "KL coefficient"},
    ]
    measures = {"reward": _reward, "length": _length, "unfinished": _unfinished}
    rows = []
    for family in evidence.families:
        for arm in evidence.arms:
            models = evidence.models(family, arm)
            cells: dict[str, Any] = {}
            for anchor in anchors:
                estimate = t_interval([model.kl[anchor] for model in models], settings.level)
                cells[f"kl_{anchor}"] = _cell(estimate, [model.prints["kl"] for model in models])
            for name, measure in measures.items():
                tables = [evidence.values(family, arm, suite, measure) for suite in evidence.suites]
                estimate = _estimate(evidence, family, tables, evidence.suites, settings)
                cells[name] = _cell(estimate, evidence.prints(family, [arm], evidence.suites))
            if models[0].coefficient is not None:
                cells["coefficient"] = _cell(Estimate(models[0].coefficient, None, None, len(models)), [])
            rows.append(_row(evidence, family, arm, cells, settings))
    caption = (
        "KL(model || anchor) on the model's own replies to the validation suite at temperature 1, t intervals over "
        "replicates. A high score of the reward model that was optimised is no evidence of better replies; gold is."
    )
    return _table("behaviour", caption, columns, rows)


def _lines(evidence: Evidence, trained: Sequence[str], settings: Settings) -> list[dict[str, Any]]:
    """Return win rate and gold over the axis; a line a family. The baseline's own place is at one half."""
    placed = sorted((arm for arm in trained if arm in settings.places), key=lambda arm: settings.places[arm])
    if len(placed) < 2:
        return []
    rates: list[dict[str, Any]] = []
    golds: list[dict[str, Any]] = []
    for family in evidence.families:
        won, gold = [], []
        for arm in placed:
            place = settings.places[arm]
            tables = [evidence.values(family, arm, suite, _judge) for suite in evidence.suites]
            gold.append({"x": place, **_scaled(_estimate(evidence, family, tables, evidence.suites, settings), 1)})
            if arm == settings.baseline:
                won.append({"x": place, "value": 50.0, "low": None, "high": None})
            else:
                rate = _rate(evidence, family, arm, settings.baseline, evidence.suites, settings)
                won.append({"x": place, **_scaled(rate, 100)})
        rates.append({"label": family, "role": "salsa", "points": won})
        golds.append({"label": family, "role": "salsa", "points": gold})
    against = f"win rate against {settings.baseline}"
    return [
        _line(
            "win_rate_line", f"{against.capitalize()}, mean of the suites", settings.axis, f"{against}, %", 50.0, rates
        ),
        _line("gold_line", "Gold reward, mean of the suites", settings.axis, "gold reward, points", None, golds),
    ]


def _line(
    name: str, title: str, axis: str, label: str, line: float | None, series: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "name": name,
        "title": title,
        "kind": "lines",
        "x": {"label": axis, "log": False},
        "y": {"label": label},
        "line": line,
        "series": list(series),
    }


def _figures(evidence: Evidence, rivals: Sequence[str], settings: Settings) -> list[dict[str, Any]]:
    figures = []
    for family in evidence.families:
        series = []
        for arm in rivals:
            points = []
            for suites in (*([suite] for suite in evidence.suites), evidence.suites):
                if len(suites) > 1 or len(evidence.suites) == 1 or suites is not evidence.suites:
                    rate = _rate(evidence, family, arm, settings.baseline, suites, settings)
                    label = suites[0] if len(suites) == 1 else MEAN
                    points.append({"x": label, **_scaled(rate, 100)})
            series.append({"label": arm, "role": settings.roles.get(arm, "other"), "points": _once(points)})
        figures.append(
            {
                "name": f"win_rates_{family}" if len(evidence.families) > 1 else "win_rates",
                "title": f"Win rate against {settings.baseline}, {family}",
                "kind": "intervals",
                "x": {"label": "suite", "log": False},
                "y": {"label": f"win rate against {settings.baseline}, %"},
                "line": 50.0,
                "series": series,
            }
        )
    return figures


def _once(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({point["x"]: point for point in points}.values())


def _notes(evidence: Evidence, tests: Mapping[bool, int], settings: Settings) -> list[str]:
    count = len(evidence.replicates)
    notes = [
        f"{count} replicates: everything from fine-tuning upwards (SFT models, preferences, reward model, policies) is "
        "drawn anew in each. World and base model are the same in all, so the intervals are conditional on them.",
        "p values come from a sign-flip test over replicates and hold, as t intervals do, for these questions. The "
        f"main comparison was named beforehand: Holm's correction is over its {tests[True]} (one a family), and "
        f"for all others together over {tests[False]}.",
    ]
    if tests[False] and not can_decide(count, tests[False], settings.level):
        notes.append(f"With {count} replicates no p value of the others can be small enough to decide one of them.")
    return notes


def _intervals(evidence: Evidence, settings: Settings) -> str:
    few = len(evidence.replicates) < 10
    how = "t intervals over replicates" if few else "bootstrap crossed over questions (by cluster) and replicates"
    return f"{settings.level:.0%} intervals: {how}."


def _table(name: str, caption: str, columns: Sequence[Any], rows: Sequence[Any]) -> dict[str, Any]:
    return {
        "name": name,
        "caption": caption,
        "row_header": "model",
        "columns": list(columns),
        "rows": list(rows),
        "paper": None,
    }


def _column(key: str, group: str, unit: str, digits: int, scale: int) -> dict[str, Any]:
    return {"key": key, "label": key, "group": group, "unit": unit, "digits": digits, "scale": scale}


def _row(evidence: Evidence, family: str, arm: str, cells: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    role = {SFT: "sft", "soup": "soup"}.get(arm) or settings.roles.get(arm, "other")
    return {"label": arm, "role": role, "group": family if len(evidence.families) > 1 else None, "cells": dict(cells)}


def _cell(estimate: Estimate, prints: Sequence[str]) -> dict[str, Any]:
    return {**asdict(estimate), "note": None, "fingerprints": list(prints)}


def _scaled(estimate: Estimate, scale: float) -> dict[str, Any]:
    values = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {key: None if value is None else scale * value for key, value in values.items()}


def _judge(reply: ScoredReply) -> float | None:
    return reply.judge


def _reward(reply: ScoredReply) -> float:
    return reply.reward


def _length(reply: ScoredReply) -> float:
    return reply.length


def _unfinished(reply: ScoredReply) -> float:
    return float(not reply.ended)
