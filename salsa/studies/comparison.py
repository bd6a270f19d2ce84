"""A comparison of arms with a baseline: win rates, gold, KL; each with an interval, and a sentence that is computed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from salsa.evaluation.scores import ScoredReply
from salsa.evaluation.statistics import Estimate, t_interval
from salsa.evaluation.study.crossed import interval, interval_of_suites
from salsa.evaluation.study.verdict import Verdict, can_decide, corrected, verdict
from salsa.studies.cost import cost
from salsa.studies.evidence import Evidence, Numbers
from salsa.studies.pieces import cell, column, figure, point, role, row, series, table
from salsa.studies.settings import SFT, SOUP, Settings
from salsa.studies.training import training

MEAN = "mean"


def comparison(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    """Return tables, figures and verdicts of `study.json`."""
    trained = [arm for arm in evidence.arms if arm not in (SFT, SOUP)]
    rivals = [arm for arm in trained if arm != settings.baseline]
    verdicts, tests = _verdicts(evidence, settings)
    return {
        "verdicts": [asdict(each) for each in verdicts],
        "headline": 0,
        "tables": [
            *(_rates(evidence, other, settings) for other in dict.fromkeys((settings.baseline, SFT))),
            _gold(evidence, settings),
            _behaviour(evidence, settings),
            *([paid] if (paid := cost(evidence, settings)) else []),
        ],
        "figures": [
            *_lines(evidence, trained, settings),
            *_figures(evidence, rivals, settings),
            *training(evidence, trained, settings),
        ],
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
    """One question that was named beforehand; those of one `kind` are corrected for together."""

    family: str
    first: str
    second: str
    suites: Sequence[str]
    kind: str


KINDS = {"main": "the main question", "others": "the other questions", "suites": "the main question on each suite"}


def _asked(evidence: Evidence, settings: Settings) -> list[_Asked]:
    """Return the questions: every pair over all suites, the first pair on each suite, too."""
    found = [
        _Asked(family, first, second, evidence.suites, "others" if index else "main")
        for family in evidence.families
        for index, (first, second) in enumerate(settings.asks)
    ]
    if len(evidence.suites) > 1:
        first, second = settings.asks[0]
        found += [
            _Asked(family, first, second, [suite], "suites")
            for family in evidence.families
            for suite in evidence.suites
        ]
    return sorted(found, key=lambda each: list(KINDS).index(each.kind))


def _verdicts(evidence: Evidence, settings: Settings) -> tuple[list[Verdict], dict[str, int]]:
    """Return a sentence for each question, the main ones first, and how many of each kind there are."""
    asked = _asked(evidence, settings)
    p_values: dict[str, list[float]] = {}
    if len(evidence.replicates) > 1:
        for kind in KINDS:
            tests = [_margins(evidence, each) for each in asked if each.kind == kind]
            p_values[kind] = corrected(tests, settings.rng()) if tests else []
    found = []
    for each in asked:
        p = p_values[each.kind].pop(0) if p_values else None
        rate = _rate(evidence, each.family, each.first, each.second, each.suites, settings)
        place = "the mean of the suites" if len(each.suites) > 1 else each.suites[0]
        where = f"{place} ({each.family})" if len(evidence.families) > 1 else place
        found.append(verdict(each.first, each.second, where, rate, len(evidence.replicates), settings.level, p))
    return found, {kind: sum(each.kind == kind for each in asked) for kind in KINDS}


def _margins(evidence: Evidence, asked: _Asked) -> Numbers:
    """Return [replicates]: win rate less one half, the mean of the suites."""
    tables = [evidence.won(asked.family, asked.first, asked.second, suite) for suite in asked.suites]
    return np.mean([np.nanmean(table, axis=1) for table in tables], axis=0) - 0.5


def _rates(evidence: Evidence, other: str, settings: Settings) -> dict[str, Any]:
    suites = evidence.suites
    keys = [*suites, *([MEAN] if len(suites) > 1 else [])]
    group = f"win rate vs {other}"
    columns = [column(key, group, "%", 1, 100, better="high", even=0.5) for key in keys]
    rows = []
    for family in evidence.families:
        for arm in evidence.arms:
            cells: dict[str, Any] = {}
            for key in keys:
                used = suites if key == MEAN else [key]
                if arm != other:
                    rate = _rate(evidence, family, arm, other, used, settings)
                    cells[key] = cell(rate, evidence.prints(family, [arm, other], used))
            rows.append(row(arm, family if len(evidence.families) > 1 else None, cells, settings))
    name = "main" if other == settings.baseline else f"against {other}"
    caption = (
        f"Win rate against {other} of the same replicate: win + tie / 2, scores within {evidence.tie_margin:g} tie"
    )
    return table(name, f"Win rate against {other}", f"{caption}. {_intervals(evidence, settings)}", columns, rows)


def _gold(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    suites = evidence.suites
    keys = [*suites, *([MEAN] if len(suites) > 1 else [])]
    columns = [column(key, "gold reward", "points", 2, better="high") for key in keys]
    columns.append(column("difference", f"less {settings.baseline}", "points", 2, label=keys[-1], even=0.0))
    rows = []
    for family in evidence.families:
        for arm in evidence.arms:
            own = {suite: evidence.values(family, arm, suite, _judge) for suite in suites}
            base = {suite: evidence.values(family, settings.baseline, suite, _judge) for suite in suites}
            cells: dict[str, Any] = {}
            for key in keys:
                used = suites if key == MEAN else [key]
                estimate = _estimate(evidence, family, [own[suite] for suite in used], used, settings)
                cells[key] = cell(estimate, evidence.prints(family, [arm], used))
            if arm != settings.baseline:
                less = [own[suite] - base[suite] for suite in suites]
                prints = evidence.prints(family, [arm, settings.baseline], suites)
                cells["difference"] = cell(_estimate(evidence, family, less, suites, settings), prints)
            rows.append(row(arm, family if len(evidence.families) > 1 else None, cells, settings))
    return table("gold", "Gold reward", f"Mean gold reward. {_intervals(evidence, settings)}", columns, rows)


def _behaviour(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    """Return the table of what the policies have become: KL to common anchors, reward-model score, length, ends."""
    anchors = list(evidence.models(evidence.families[0], evidence.arms[-1])[0].kl)
    columns = [column(f"kl_{anchor}", "KL of a reply (k1)", "nats", 2, label=anchor) for anchor in anchors]
    columns += [
        column("reward", "replies, mean of the suites", "normalised", 2, label="reward-model score"),
        column("length", "replies, mean of the suites", "tokens", 1, 1),
        column("unfinished", "replies, mean of the suites", "%", 1, 100, "without end"),
        column("recall", "alignment tax", "%", 1, 100, "facts recalled"),
        column("perplexity", "alignment tax", "on held-out text", 2),
        column("coefficient", "trained with", "reward a nat", 2, label="KL coefficient"),
    ]
    measures = {"reward": _reward, "length": _length, "unfinished": _unfinished}
    rows = []
    for family in evidence.families:
        for arm in evidence.arms:
            models = evidence.models(family, arm)
            cells: dict[str, Any] = {}
            for anchor in anchors:
                estimate = t_interval([model.kl[anchor] for model in models], settings.level)
                cells[f"kl_{anchor}"] = cell(estimate, [model.prints["kl"] for model in models])
            for name, measure in measures.items():
                tables = [evidence.values(family, arm, suite, measure) for suite in evidence.suites]
                estimate = _estimate(evidence, family, tables, evidence.suites, settings)
                cells[name] = cell(estimate, evidence.prints(family, [arm], evidence.suites))
            for name in ("recall", "perplexity"):
                kept = [value for model in models if (value := getattr(model, name)) is not None]
                if len(kept) == len(models):
                    cells[name] = cell(t_interval(kept, settings.level), [model.prints["tax"] for model in models])
            if models[0].coefficient is not None:
                cells["coefficient"] = cell(Estimate(models[0].coefficient, None, None, len(models)), [])
            rows.append(row(arm, family if len(evidence.families) > 1 else None, cells, settings))
    caption = (
        "KL(model || anchor) on the model's own replies to the validation suite at temperature 1, t intervals over "
        "replicates. A high score of the reward model that was optimised is no evidence of better replies; gold is."
    )
    return table("behaviour", "What the policies have become", caption, columns, rows)


def _lines(evidence: Evidence, trained: Sequence[str], settings: Settings) -> list[dict[str, Any]]:
    """Return win rate and gold over the axis; a line a family. The baseline's own place is at one half."""
    placed = sorted((arm for arm in trained if arm in settings.places), key=lambda arm: settings.places[arm])
    if len(placed) < 2:
        return []
    rates, golds = [], []
    for family in evidence.families:
        won, gold = [], []
        for arm in placed:
            place = settings.places[arm]
            tables = [evidence.values(family, arm, suite, _judge) for suite in evidence.suites]
            gold.append(point(place, _estimate(evidence, family, tables, evidence.suites, settings)))
            rate = Estimate(0.5, None, None, len(evidence.replicates))
            if arm != settings.baseline:
                rate = _rate(evidence, family, arm, settings.baseline, evidence.suites, settings)
            won.append(point(place, rate, 100))
        rates.append(series(family, "salsa", won))
        golds.append(series(family, "salsa", gold))
    against = f"win rate against {settings.baseline}"
    title = f"{_title(against)}, mean of the suites"
    return [
        figure("win_rate_line", title, "lines", (settings.axis, f"{against}, %"), rates, line=50.0),
        figure("gold_line", "Gold reward, mean of the suites", "lines", (settings.axis, "gold reward, points"), golds),
    ]


def _figures(evidence: Evidence, rivals: Sequence[str], settings: Settings) -> list[dict[str, Any]]:
    against = f"win rate against {settings.baseline}"
    places = {suite: [suite] for suite in evidence.suites}
    places |= {MEAN: evidence.suites} if len(evidence.suites) > 1 else {}
    drawn = [
        series(
            arm,
            role(arm, settings),
            [
                point(name, _rate(evidence, family, arm, settings.baseline, suites, settings), 100)
                for name, suites in places.items()
            ],
            family if len(evidence.families) > 1 else None,
        )
        for family in evidence.families
        for arm in rivals
    ]
    return [figure("win_rates", _title(against), "intervals", ("suite", f"{against}, %"), drawn, line=50.0)]


def _title(text: str) -> str:
    return text[:1].upper() + text[1:]


def _notes(evidence: Evidence, tests: Mapping[str, int], settings: Settings) -> list[str]:
    count = len(evidence.replicates)
    notes = [
        "A replicate is everything from fine-tuning upwards, drawn anew: SFT models, policies, and preferences and "
        "reward model where they are made here. World, base model and the chosen coefficients are the same in all, so "
        "the intervals are conditional on them.",
    ]
    if count == 1:
        return [*notes, "One replicate is an illustration: nothing is tested."]
    notes.append(
        "Questions were named before the results. p values come from a sign-flip test over replicates and hold, as t "
        "intervals do, for these questions of the suites; Holm's correction is over "
        + ", ".join(f"{tests[kind]} of {says}" for kind, says in KINDS.items() if tests[kind])
        + "."
    )
    hopeless = [
        says for kind, says in KINDS.items() if tests[kind] and not can_decide(count, tests[kind], settings.level)
    ]
    if hopeless:
        notes.append(f"With {count} replicates no p value can be small enough to decide {' or '.join(hopeless)}.")
    return notes


def _intervals(evidence: Evidence, settings: Settings) -> str:
    few = len(evidence.replicates) < 10
    how = "t intervals over replicates" if few else "bootstrap crossed over questions (by cluster) and replicates"
    return f"{settings.level:.0%} intervals: {how}."


def _judge(reply: ScoredReply) -> float | None:
    return reply.judge


def _reward(reply: ScoredReply) -> float:
    return reply.reward


def _length(reply: ScoredReply) -> float:
    return reply.length


def _unfinished(reply: ScoredReply) -> float:
    return float(not reply.ended)
