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
    verdicts, tests = _verdicts(evidence, rivals, settings)
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
    """One comparison with the baseline; `main` ones are named in advance: the first rival, over all suites."""

    family: str
    arm: str
    suites: Sequence[str]
    main: bool


def _asked(evidence: Evidence, rivals: Sequence[str]) -> list[_Asked]:
    """Return what is tested: every rival over all suites, the first one on each suite, too."""
    singles = [[suite] for suite in evidence.suites] if len(evidence.suites) > 1 else []
    found = [
        _Asked(family, arm, suites, arm == rivals[0] and suites is evidence.suites)
        for family in evidence.families
        for arm in rivals
        for suites in (evidence.suites, *(singles if arm == rivals[0] else ()))
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


def _judge(reply: ScoredReply) -> float | None:
    return reply.judge


def _reward(reply: ScoredReply) -> float:
    return reply.reward


def _length(reply: ScoredReply) -> float:
    return reply.length


def _unfinished(reply: ScoredReply) -> float:
    return float(not reply.ended)
