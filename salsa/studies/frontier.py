"""Gold against KL: what each arm reaches at the same distance from SFT1, over coefficients and checkpoints.

The protocol is that of Gao et al. 2022 (arXiv 2210.10760) for over-optimisation, with methods compared at equal KL to a
common anchor instead of at equal coefficient.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from salsa.evaluation.statistics import Estimate, t_interval
from salsa.evaluation.study.frontier import (
    Front,
    area_difference,
    common_span,
    even_levels,
    front,
    matched,
    matched_difference,
    peak,
)
from salsa.evaluation.study.verdict import Verdict
from salsa.studies.evidence import Model
from salsa.studies.pieces import cell, column, figure, point, role, row, series, table
from salsa.studies.settings import SFT, SOUP, Settings

ANCHOR = SFT
"""The model to which all arms' KL is measured."""
LEVELS = 3
"""KL levels at which arms are compared."""
SUPPORT = 25
"""Points of a drawn curve."""


def frontier(models: Sequence[Model], settings: Settings) -> dict[str, Any]:
    """Return tables, figures and verdicts of `study.json`, for each family."""
    found: dict[str, Any] = {"verdicts": [], "headline": 0, "tables": [], "figures": [], "notes": _notes(models)}
    families = list(dict.fromkeys(model.family for model in models))
    for family in families:
        own = [model for model in models if model.family == family]
        at = f", {family}" if len(families) > 1 else ""
        for key, parts in _family(own, settings, at).items():
            found[key] += parts
    return found


def _family(models: Sequence[Model], settings: Settings, at: str) -> dict[str, list[Any]]:
    arms = list(dict.fromkeys(model.arm for model in models if model.arm not in (SFT, SOUP)))
    fronts = {arm: _fronts(models, arm) for arm in arms}
    span = common_span([each for own in fronts.values() for each in own])
    figures = [_coefficients(models, arms, settings, at, *what) for what in _OVER]
    if span is None:
        sentence = f"The arms have no KL to {ANCHOR} in common{at}: a wider grid of coefficients is needed"
        return {"verdicts": [asdict(Verdict(sentence, None))], "tables": [], "figures": figures}
    return {
        "verdicts": [asdict(_verdict(pair, fronts, span, settings, at)) for pair in settings.asks],
        "tables": [_table(models, fronts, span, settings, at)],
        "figures": [_curves(fronts, span, settings, at), *figures],
    }


def _fronts(models: Sequence[Model], arm: str) -> list[Front]:
    """Return a front for each replicate: its checkpoints at all coefficients."""
    replicates = sorted({model.replicate for model in models})
    found = []
    for replicate in replicates:
        own = [model for model in models if (model.arm, model.replicate) == (arm, replicate)]
        points = [each for model in own for each in model.points]
        found.append(front([each.kl[ANCHOR] for each in points], [each.gold for each in points]))
    return found


def _verdict(
    pair: tuple[str, str], fronts: dict[str, list[Front]], span: tuple[float, float], settings: Settings, at: str
) -> Verdict:
    """Return the sentence on the mean height of two fronts over the KL that both reach."""
    first, second = pair
    span = common_span([*fronts[first], *fronts[second]]) or span  # of these two alone, which is wider
    width = float(np.sqrt(span[1]) - np.sqrt(span[0]))
    mean = _over(area_difference(fronts[first], fronts[second], span, settings.level), width)
    where = f"at matched KL to {ANCHOR} ({span[0]:.2g} to {span[1]:.2g} nats){at}"
    bounds = "no interval" if mean.low is None or mean.high is None else f"[{mean.low:+.2f}, {mean.high:+.2f}]"
    figures = f"{mean.value:+.2f} {bounds} points of gold, {mean.n} replicates, not corrected"
    if mean.low is not None and mean.low > 0:
        return Verdict(f"{first} is above {second} {where}: {figures}", "first")
    if mean.high is not None and mean.high < 0:
        return Verdict(f"{second} is above {first} {where}: {figures}", "second")
    return Verdict(f"The data do not decide between {first} and {second} {where}: {figures}", None)


def _over(estimate: Estimate, width: float) -> Estimate:
    low, high = (None if bound is None else bound / width for bound in (estimate.low, estimate.high))
    return Estimate(estimate.value / width, low, high, estimate.n)


def _table(
    models: Sequence[Model],
    fronts: dict[str, list[Front]],
    span: tuple[float, float],
    settings: Settings,
    at: str,
) -> dict[str, Any]:
    levels = even_levels(span, LEVELS + 2)[1:-1]
    columns = [
        column(f"kl{index}", "gold at KL", "points", 2, label=f"{kl:.2f} nats") for index, kl in enumerate(levels)
    ]
    less = f"less {settings.baseline} at KL"
    columns += [column(f"less{index}", less, "points", 2, label=f"{kl:.2f} nats") for index, kl in enumerate(levels)]
    columns += [
        column("mean", f"less {settings.baseline}", "points", 2, label="mean over the shared KL", even=0.0),
        column("peak", "highest", "points", 2, label="gold"),
        column("peak_kl", "highest", "nats", 2, label="at KL"),
    ]
    width = float(np.sqrt(span[1]) - np.sqrt(span[0]))
    rows = []
    for arm, own in fronts.items():
        prints = [model.prints["kl"] for model in models if model.arm == arm]
        cells: dict[str, Any] = {}
        for index, found in enumerate(matched(own, levels, settings.level)):
            cells[f"kl{index}"] = None if found.gold is None else cell(found.gold, prints, _outside(found.outside))
        if arm != settings.baseline:
            base = fronts[settings.baseline]
            both = [*prints, *(model.prints["kl"] for model in models if model.arm == settings.baseline)]
            for index, found in enumerate(matched_difference(own, base, levels, settings.level)):
                cells[f"less{index}"] = None if found.gold is None else cell(found.gold, both, _outside(found.outside))
            cells["mean"] = cell(_over(area_difference(own, base, span, settings.level), width), both)
        highest = peak(own, settings.level)
        cells |= {"peak": cell(highest.gold, prints), "peak_kl": cell(highest.kl, prints)}
        rows.append(row(arm, None, cells, settings))
    caption = (
        f"Gold reward at the same KL to {ANCHOR} (k1, on replies to the validation suite at temperature 1), "
        "interpolated in sqrt(KL) between each replicate's own coefficients and checkpoints; "
        f"{settings.level:.0%} t intervals over replicates, not corrected for several comparisons. The highest point "
        "of a front is biased upwards."
    )
    return table(f"matched KL{at}", f"Gold at the same KL{at}", caption, columns, rows)


def _outside(count: int) -> str | None:
    return f"{count} replicates do not reach this KL" if count else None


def _curves(fronts: dict[str, list[Front]], span: tuple[float, float], settings: Settings, at: str) -> dict[str, Any]:
    levels = even_levels(span, SUPPORT)
    drawn = [
        series(
            arm,
            role(arm, settings),
            [
                point(float(np.sqrt(found.kl)), found.gold)
                for found in matched(own, levels, settings.level)
                if found.gold is not None
            ],
        )
        for arm, own in fronts.items()
    ]
    axes = (f"square root of the KL to {ANCHOR}, sqrt(nats)", "gold reward, points")
    return figure(f"frontier{_file(at)}", f"Gold reward against distance{at}", "curves", axes, drawn)


_OVER = (
    ("gold", "Gold reward", "gold reward, points"),
    ("reward", "Reward-model score, which is optimised", "score, normalised"),
    ("length", "Length of replies", "tokens"),
    ("unfinished", "Replies without end", "share"),
    ("kl", f"KL to {ANCHOR}", "nats a reply (k1)"),
)
"""What is drawn over the KL coefficient: name, title, label of the axis."""


def _coefficients(
    models: Sequence[Model], arms: Sequence[str], settings: Settings, at: str, name: str, title: str, label: str
) -> dict[str, Any]:
    """Return a figure of something at the end of training, over the KL coefficient."""
    drawn = []
    for arm in arms:
        grid = sorted({model.coefficient for model in models if model.arm == arm and model.coefficient is not None})
        points = []
        for coefficient in grid:
            ends = [model.points[-1] for model in models if (model.arm, model.coefficient) == (arm, coefficient)]
            values = [each.kl[ANCHOR] if name == "kl" else float(getattr(each, name)) for each in ends]
            points.append(point(coefficient, t_interval(values, settings.level)))
        drawn.append(series(arm, role(arm, settings), points))
    full = f"{title} after training{at}"
    return figure(f"{name}_over_coefficient{_file(at)}", full, "lines", ("KL coefficient", label), drawn, log=True)


def _file(at: str) -> str:
    return at.replace(", ", "_")


def _notes(models: Sequence[Model]) -> list[str]:
    count = len({model.replicate for model in models})
    return [
        f"{count} replicates: everything from fine-tuning upwards is drawn anew in each. World and base model are the "
        "same in all, so the intervals are conditional on them.",
        "Points are the coefficients of the grid and the checkpoints along each training.",
    ]
