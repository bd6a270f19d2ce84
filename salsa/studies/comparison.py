"""A comparison of arms with a baseline: win rates, gold, KL; each with an interval, and a sentence that is computed."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from salsa.evaluation.statistics import Estimate, t_interval
from salsa.evaluation.study.verdict import Verdict
from salsa.studies.claims import compared
from salsa.studies.cost import cost
from salsa.studies.estimates import Group, each_family, estimate, groups, mean, rate, share
from salsa.studies.evidence import Evidence, Numbers
from salsa.studies.pieces import cell, column, figure, point, role, row, series, table
from salsa.studies.questions import answers, cells, distances, notes, peak, warnings
from salsa.studies.settings import SFT, SOUP, Settings
from salsa.studies.training import training

MEAN = "mean"


def comparison(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    """Return tables, figures and verdicts of `study.json`."""
    trained = [arm for arm in evidence.arms if arm not in (SFT, SOUP)]
    rivals = [arm for arm in trained if arm != settings.baseline]
    answered = answers(evidence, settings)
    verdicts = answered.verdicts
    if settings.about == "kl":
        verdicts = [*distances(evidence, settings), *verdicts]
    elif (highest := peak(evidence, settings)) is not None:
        verdicts = [highest, *verdicts]
    main = verdicts[0]
    if len(evidence.suites) * len(evidence.families) > 1 and main is answered.verdicts[0]:
        main = Verdict(f"{main.sentence}; {cells(evidence, settings)}", main.decided)
    return {
        "verdicts": [asdict(each) for each in verdicts],
        "headline": 0,
        "second": 1 if len(verdicts) > 1 else None,
        "claims": compared(settings.claims, main, answered.pairs),
        "warnings": warnings(evidence, answered.counts, settings),
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
        "notes": notes(evidence, answered.counts, settings),
    }


def _rates(evidence: Evidence, other: str, settings: Settings) -> dict[str, Any]:
    suites = evidence.suites
    keys = [*suites, *([MEAN] if len(suites) > 1 else [])]
    heading = f"win rate vs {other}"
    columns = [column(key, heading, "%", 1, 100, better="high", even=0.5) for key in keys]
    rows = []
    for group in groups(evidence):
        for arm in evidence.arms:
            cells: dict[str, Any] = {}
            for key in keys:
                used = suites if key == MEAN else [key]
                if arm != other:
                    won = rate(evidence, group, arm, other, used, settings)
                    cells[key] = cell(won, _prints(evidence, group, [arm, other], used))
            rows.append(row(arm, group.label, cells, settings))
    name = "main" if other == settings.baseline else f"against {other}"
    caption = (
        f"Win rate against {other} of the same replicate: win + tie / 2, scores within {evidence.tie_margin:g} tie"
    )
    return table(name, f"Win rate against {other}", f"{caption}. {_intervals(evidence, settings)}", columns, rows)


def _gold(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    suites = evidence.suites
    keys = [*suites, *([MEAN] if len(suites) > 1 else [])]
    columns = [column(key, settings.measure, settings.unit, 2, better="high") for key in keys]
    columns.append(column("difference", f"less {settings.baseline}", settings.unit, 2, label=keys[-1], even=0.0))
    rows = []
    for group in groups(evidence):
        for arm in evidence.arms:
            cells: dict[str, Any] = {}
            for key in keys:
                used = suites if key == MEAN else [key]
                cells[key] = cell(
                    mean(evidence, group, arm, "judge", used, settings), _prints(evidence, group, [arm], used)
                )
            if arm != settings.baseline:
                prints = _prints(evidence, group, [arm, settings.baseline], suites)
                cells["difference"] = cell(_difference(evidence, group, arm, settings), prints)
            rows.append(row(arm, group.label, cells, settings))
    caption = f"Mean {settings.measure}. {_intervals(evidence, settings)}"
    return table("gold", _title(settings.measure), caption, columns, rows)


def _difference(evidence: Evidence, group: Group, arm: str, settings: Settings) -> Estimate:
    """Return what the judge gives an arm more than the baseline, reply by reply, over all suites."""

    def less(family: str, suite: str) -> Numbers:
        own = evidence.values(family, arm, suite, "judge")
        return own - evidence.values(family, settings.baseline, suite, "judge")

    return estimate(evidence, group, less, evidence.suites, settings)


def _prints(evidence: Evidence, group: Group, arms: Sequence[str], suites: Sequence[str]) -> list[str]:
    return [each for family in group.families for each in evidence.prints(family, arms, suites)]


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

    rows = []
    for group in each_family(evidence):
        (family,) = group.families
        for arm in evidence.arms:
            models = evidence.models(family, arm)
            cells: dict[str, Any] = {}
            for anchor in anchors:
                distance = t_interval([model.kl[anchor] for model in models], settings.level)
                cells[f"kl_{anchor}"] = cell(distance, [model.prints["kl"] for model in models])
            for name in ("reward", "length", "unfinished"):
                found = mean(evidence, group, arm, name, evidence.suites, settings)
                cells[name] = cell(found, _prints(evidence, group, [arm], evidence.suites))
            for name in ("recall", "perplexity"):
                kept = [value for model in models if (value := getattr(model, name)) is not None]
                if len(kept) == len(models):
                    found = t_interval(kept, settings.level)
                    prints = [model.prints["tax"] for model in models]
                    cells[name] = cell(share(found) if name == "recall" else found, prints)
            if models[0].coefficient is not None:
                cells["coefficient"] = cell(Estimate(models[0].coefficient, None, None, len(models)), [])
            rows.append(row(arm, group.label, cells, settings))
    caption = (
        "KL(model || anchor) on the model's own replies to the validation suite at temperature 1, t intervals over "
        "replicates. A high score of the reward model that was optimised is no evidence of better replies."
    )
    return table("behaviour", "What the policies have become", caption, columns, rows)


def _lines(evidence: Evidence, trained: Sequence[str], settings: Settings) -> list[dict[str, Any]]:
    """Return win rate and gold over the axis; a line a family. The baseline's own place is at one half."""
    placed = sorted((arm for arm in trained if arm in settings.places), key=lambda arm: settings.places[arm])
    if len(placed) < 2:
        return []
    rates, scores = [], []
    for group in each_family(evidence):
        won, scored = [], []
        for arm in placed:
            place = settings.places[arm]
            scored.append(point(place, mean(evidence, group, arm, "judge", evidence.suites, settings)))
            versus = Estimate(0.5, None, None, len(evidence.replicates))
            if arm != settings.baseline:
                versus = rate(evidence, group, arm, settings.baseline, evidence.suites, settings)
            won.append(point(place, versus, 100))
        rates.append(series(group.label or "mean of the suites", "salsa", won))
        scores.append(series(group.label or "mean of the suites", "salsa", scored))
    against = f"win rate against {settings.baseline}"
    title = f"{_title(against)}, mean of the suites"
    return [
        figure("win_rate_line", title, "lines", (settings.axis, f"{against}, %"), rates, line=50.0),
        figure(
            "gold_line",
            f"{_title(settings.measure)}, mean of the suites",
            "lines",
            (settings.axis, f"{settings.measure}, {settings.unit}"),
            scores,
        ),
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
                point(name, rate(evidence, group, arm, settings.baseline, suites, settings), 100)
                for name, suites in places.items()
            ],
            group.label,
        )
        for group in groups(evidence)
        for arm in rivals
    ]
    return [figure("win_rates", _title(against), "intervals", ("suite", f"{against}, %"), drawn, line=50.0)]


def _title(text: str) -> str:
    return text[:1].upper() + text[1:]


def _intervals(evidence: Evidence, settings: Settings) -> str:
    few = len(evidence.replicates) < 10
    how = "t intervals over replicates" if few else "bootstrap crossed over questions (by cluster) and replicates"
    return f"{settings.level:.0%} intervals: {how}."
