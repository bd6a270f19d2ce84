"""Gold against KL: what each arm reaches at the same distance from SFT1, over coefficients and checkpoints.

The protocol is that of Gao et al. 2022 (arXiv 2210.10760) for over-optimisation, with methods compared at equal KL to a
common anchor instead of at equal coefficient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from salsa.evaluation.statistics import Estimate, t_interval
from salsa.evaluation.study.frontier import (
    Front,
    Matched,
    Span,
    area_difference,
    common_span,
    even_levels,
    front,
    matched,
    matched_difference,
    peak,
)
from salsa.evaluation.study.verdict import Verdict, can_decide, corrected
from salsa.studies.claims import compared
from salsa.studies.evidence import Model, Numbers
from salsa.studies.pieces import cell, column, figure, point, role, row, series, table
from salsa.studies.sentences import Claims, sentence, signed
from salsa.studies.settings import SFT, SOUP, Settings

ANCHOR = SFT
"""The model to which all arms' KL is measured."""
LONE_END = 1.5
"""Mean length of replies in tokens below which most of them are nothing but their end."""
LEVELS = 3
"""KL levels at which arms are compared."""
SUPPORT = 25
"""Points of a drawn curve."""


def frontier(models: Sequence[Model], settings: Settings) -> dict[str, Any]:
    """Return tables, figures and verdicts of `study.json`, for each family."""
    families = list(dict.fromkeys(model.family for model in models))
    own = {family: [model for model in models if model.family == family] for family in families}
    at = {family: f", {family}" if len(families) > 1 else "" for family in families}
    fronts = {family: _by_arm(own[family]) for family in families}
    spans = {family: common_span([each for arm in fronts[family].values() for each in arm]) for family in families}
    verdicts = _verdicts(fronts, at, settings)
    if settings.about == "length":
        verdicts = [*_lengths(own, at, settings), *verdicts]
    figures: list[dict[str, Any]] = []
    for family in families:
        figures += [_curves(fronts[family], settings, at[family])]
        figures += [
            _coefficients(own[family], list(fronts[family]), settings, at[family], *what) for what in _over(settings)
        ]
    return {
        "verdicts": [asdict(each) for each in verdicts],
        "headline": 0,
        "second": 1 if len(verdicts) > 1 else None,
        "claims": _claims(own[families[0]], verdicts[0], settings),
        "warnings": _warnings(models, settings),
        "tables": [
            _table(own[family], fronts[family], span, settings, at[family]) for family, span in spans.items() if span
        ],
        "figures": figures,
        "notes": _notes(models, settings),
    }


def _by_arm(models: Sequence[Model]) -> dict[str, list[Front]]:
    arms = dict.fromkeys(model.arm for model in models if model.arm not in (SFT, SOUP))
    return {arm: _fronts(models, arm) for arm in arms}


def _fronts(models: Sequence[Model], arm: str) -> list[Front]:
    """Return a front for each replicate: its checkpoints at all coefficients."""
    replicates = sorted({model.replicate for model in models})
    found = []
    for replicate in replicates:
        own = [model for model in models if (model.arm, model.replicate) == (arm, replicate)]
        points = [each for model in own for each in model.points]
        found.append(front([each.kl[ANCHOR] for each in points], [each.gold for each in points]))
    return found


def _verdicts(
    fronts: Mapping[str, Mapping[str, list[Front]]], at: Mapping[str, str], settings: Settings
) -> list[Verdict]:
    """Return a sentence for each pair of arms in each family, on the mean height of their fronts over shared KL.

    The first pair is corrected for the number of families, the others for their number in all of them.
    """
    asked = [(family, pair) for pair in settings.asks for family in fronts]
    gaps = [_gaps(fronts[family], pair) for family, pair in asked]
    p_values: list[float | None] = [None] * len(asked)
    counts = [0] * len(asked)
    for places in (range(len(fronts)), range(len(fronts), len(asked))):
        tested = [place for place in places if len(gaps[place][0]) > 1]
        found = corrected([gaps[place][0] for place in tested], settings.rng())
        for place, value in zip(tested, found, strict=True):
            p_values[place], counts[place] = value, len(tested)
    verdicts = []
    for (family, pair), (gap, span), p, count in zip(asked, gaps, p_values, counts, strict=True):
        verdicts.append(_sentence(pair, gap, span, at[family], settings, p, count))
    return verdicts


def _sentence(
    pair: tuple[str, str],
    gap: Sequence[float],
    span: Span | None,
    at: str,
    settings: Settings,
    p: float | None,
    count: int,
) -> Verdict:
    first, second = pair
    if span is None:
        return Verdict(f"{first} and {second} have no KL to {ANCHOR} in common{at}: nothing to compare there", None)
    where = f"at matched KL to {ANCHOR} ({span[0]:.2f} to {span[1]:.2f} nats){at}"
    claims = Claims(
        f"{first} is above {second} {where}",
        f"{second} is above {first} {where}",
        f"The data do not decide between {first} and {second} {where}",
    )
    mean = t_interval(gap, settings.level)
    figures = f"{signed(mean, 2)} {settings.unit} of {settings.measure}"
    return sentence(claims, mean, figures, settings.level, p, count)


def _gaps(fronts: Mapping[str, list[Front]], pair: tuple[str, str]) -> tuple[list[float], Span | None]:
    """Return the mean height of a replicate's first front above its second, and the KL that both arms reach in all."""
    first, second = (fronts[arm] for arm in pair)
    span = common_span([*first, *second])
    if span is None:
        return [], None
    width = float(np.sqrt(span[1]) - np.sqrt(span[0]))
    return [(one.area(span) - other.area(span)) / width for one, other in zip(first, second, strict=True)], span


def _claims(models: Sequence[Model], main: Verdict, settings: Settings) -> list[dict[str, Any]]:
    """Return the paper's claims beside what is found; that replies die out is more than that they get shorter."""
    if settings.about != "length":
        return compared(settings.claims, main)
    arm = settings.asks[0][0]
    own = [model for model in models if model.arm == arm and model.coefficient is not None]
    top = max(model.coefficient for model in own if model.coefficient is not None)
    length = t_interval([model.points[-1].length for model in own if model.coefficient == top], settings.level)
    low, high = (length.value if bound is None else bound for bound in (length.low, length.high))
    decided: Literal["first", "second"] | None = "first" if high < LONE_END else "second" if low > LONE_END else None
    says = f"At a coefficient of {top:g} the replies of {arm} have {length.value:.1f} tokens [{low:.1f}, {high:.1f}]"
    return compared(settings.claims, Verdict(says, decided))


def _lengths(own: Mapping[str, Sequence[Model]], at: Mapping[str, str], settings: Settings) -> list[Verdict]:
    """Return whether the replies of each arm get shorter from the least coefficient to the greatest, main arm first.

    They are corrected for their number, arms times families.
    """
    arms = dict.fromkeys(arm for pair in settings.asks for arm in pair)
    ends = {(family, arm): _ends(models, arm) for family, models in own.items() for arm in arms}
    ends = {place: found for place, found in ends.items() if len(found[1])}
    p_values: list[float | None] = [None] * len(ends)
    if all(len(low) > 1 for _, low, _ in ends.values()):
        p_values = [*corrected([low - high for _, low, high in ends.values()], settings.rng())]
    found = []
    for ((family, arm), (grid, low, high)), p in zip(ends.items(), p_values, strict=True):
        shorter, change = (t_interval(sign * (low - high), settings.level) for sign in (1, -1))
        over = f"as the KL coefficient grows from {grid[0]:g} to {grid[1]:g}{at[family]}"
        claims = Claims(
            f"The replies of {arm} get shorter {over}",
            f"The replies of {arm} get longer {over}",
            f"The data do not decide whether the replies of {arm} get shorter {over}",
        )
        figures = f"from {low.mean():.1f} to {high.mean():.1f} tokens, {signed(change, 1)}"
        found.append(sentence(claims, shorter, figures, settings.level, p, len(ends)))
    return found


def _ends(models: Sequence[Model], arm: str) -> tuple[tuple[float, float], Numbers, Numbers]:
    """Return the least and the greatest coefficient of an arm, and the lengths there of replicates that have both."""
    lengths: dict[float, dict[int, float]] = {}
    for model in models:
        if model.arm == arm and model.coefficient is not None:
            lengths.setdefault(model.coefficient, {})[model.replicate] = model.points[-1].length
    grid = min(lengths), max(lengths)
    low, high = (lengths[coefficient] for coefficient in grid)
    both = sorted(low.keys() & high.keys())
    first, last = (np.array([end[replicate] for replicate in both]) for end in (low, high))
    return grid, first, last


def _per_width(estimate: Estimate, width: float) -> Estimate:
    low, high = (None if bound is None else bound / width for bound in (estimate.low, estimate.high))
    return Estimate(estimate.value / width, low, high, estimate.n)


def _table(
    models: Sequence[Model],
    fronts: Mapping[str, list[Front]],
    span: Span,
    settings: Settings,
    at: str,
) -> dict[str, Any]:
    levels = even_levels(span, LEVELS + 2)[1:-1]
    columns = [
        column(f"kl{index}", f"{settings.measure} at KL", settings.unit, 2, label=f"{kl:.2f} nats")
        for index, kl in enumerate(levels)
    ]
    less = f"less {settings.baseline} at KL"
    columns += [
        column(f"less{index}", less, settings.unit, 2, label=f"{kl:.2f} nats") for index, kl in enumerate(levels)
    ]
    columns += [
        column(
            "mean",
            f"less {settings.baseline}",
            settings.unit,
            2,
            label="mean over the KL that all arms reach",
            even=0.0,
        ),
        column("peak", "highest", settings.unit, 2, label=settings.measure),
        column("peak_kl", "highest", "nats", 2, label="at KL"),
    ]
    width = float(np.sqrt(span[1]) - np.sqrt(span[0]))
    rows = []
    for arm, own in fronts.items():
        prints = [model.prints["kl"] for model in models if model.arm == arm]
        cells: dict[str, Any] = {}
        for index, found in enumerate(matched(own, levels, settings.level)):
            cells[f"kl{index}"] = _reached(found, prints)
        if arm != settings.baseline:
            base = fronts[settings.baseline]
            both = [*prints, *(model.prints["kl"] for model in models if model.arm == settings.baseline)]
            for index, found in enumerate(matched_difference(own, base, levels, settings.level)):
                cells[f"less{index}"] = _reached(found, both)
            cells["mean"] = cell(_per_width(area_difference(own, base, span, settings.level), width), both)
        highest = peak(own, settings.level)
        cells |= {"peak": cell(highest.gold, prints), "peak_kl": cell(highest.kl, prints)}
        rows.append(row(arm, None, cells, settings))
    caption = (
        f"{_title(settings.measure)} at the same KL to {ANCHOR} (k1, on replies to the validation suite at temperature "
        "1), interpolated in sqrt(KL) between each replicate's own coefficients and checkpoints; "
        f"{settings.level:.0%} t intervals over replicates, not corrected for several comparisons. The highest point "
        "of a front is biased upwards."
    )
    return table(f"matched KL{at}", f"{_title(settings.measure)} at the same KL{at}", caption, columns, rows)


def _reached(found: Matched, prints: Sequence[str]) -> dict[str, Any]:
    """Return the cell of what was found at a KL, with a note on the replicates that do not reach it."""
    if found.gold is None:
        return {
            "value": None,
            "low": None,
            "high": None,
            "n": 0,
            "note": "no replicate reaches this KL",
            "fingerprints": [],
        }
    return cell(found.gold, prints, f"{found.outside} replicates do not reach this KL" if found.outside else None)


def _curves(fronts: Mapping[str, list[Front]], settings: Settings, at: str) -> dict[str, Any]:
    """Return the figure of the fronts, each over the KL that all of its own replicates reach."""
    drawn = []
    for arm, own in fronts.items():
        span = common_span(own)
        found = matched(own, even_levels(span, SUPPORT), settings.level) if span else []
        points = [point(float(np.sqrt(each.kl)), each.gold) for each in found if each.gold is not None]
        drawn.append(series(arm, role(arm, settings), points))
    axes = (f"square root of the KL to {ANCHOR}, sqrt(nats)", f"{settings.measure}, {settings.unit}")
    return figure(f"frontier{_file(at)}", f"{_title(settings.measure)} against distance{at}", "curves", axes, drawn)


def _over(settings: Settings) -> list[tuple[str, str, str]]:
    """Return what is drawn over the KL coefficient: name, title, label of the axis."""
    return [
        ("gold", _title(settings.measure), f"{settings.measure}, {settings.unit}"),
        ("reward", "Reward-model score (what is optimised)", "score, normalised"),
        ("length", "Length of replies", "tokens"),
        ("unfinished", "Replies without end", "%"),
        ("kl", f"KL to {ANCHOR}", "nats a reply (k1)"),
    ]


def _title(text: str) -> str:
    return text[0].upper() + text[1:]


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
            points.append(point(coefficient, t_interval(values, settings.level), 100 if label == "%" else 1))
        drawn.append(series(arm, role(arm, settings), points))
    full = f"{title} after training{at}"
    return figure(
        f"{name}_over_coefficient{_file(at)}", full, "lines", ("KL coefficient, reward a nat", label), drawn, log=True
    )


def _file(at: str) -> str:
    return at.replace(", ", "_")


def _notes(models: Sequence[Model], settings: Settings) -> list[str]:
    count = len({model.replicate for model in models})
    families = len({model.family for model in models})
    others = families * (len(settings.asks) - 1)
    return [
        f"{count} replicates: everything from fine-tuning upwards is drawn anew in each. World and base model are the "
        "same in all, so the intervals are conditional on them.",
        "Points are the coefficients of the grid and the checkpoints along each training.",
        "Questions were named before the results; p values come from a sign-flip test over replicates. At matched KL, "
        f"Holm's correction is over {families} of the main question and {others} of the others; sentences on length "
        "are corrected for their number, arms times families.",
    ]


def _warnings(models: Sequence[Model], settings: Settings) -> list[str]:
    count = len({model.replicate for model in models})
    families = len({model.family for model in models})
    arms = len({arm for pair in settings.asks for arm in pair}) if settings.about == "length" else 1
    most = families * max(len(settings.asks) - 1, arms)
    if count == 1:
        return ["one replicate is an illustration: nothing is tested"]
    says = f"with {count} replicates no p value can be small enough to decide all questions"
    return [] if can_decide(count, most, settings.level) else [says]
