"""What arms become while they are trained: gold, reward-model score, and KL to common anchors."""

from collections.abc import Callable, Sequence
from typing import Any

from salsa.evaluation.statistics import t_interval
from salsa.studies.evidence import Evidence, Point
from salsa.studies.pieces import figure, point, role, series
from salsa.studies.settings import Settings


def training(evidence: Evidence, arms: Sequence[str], settings: Settings) -> list[dict[str, Any]]:
    """Return the curves of arms that were traced: scores, a panel a family, and KL, a panel an anchor."""
    traced = [arm for arm in arms if all(model.points for model in evidence.models(evidence.families[0], arm))]
    if not traced:
        return []
    several = len(evidence.families) > 1
    figures = []
    judged = f"{settings.measure[0].upper()}{settings.measure[1:]} over training"
    scores = (
        ("gold", judged, f"{settings.measure}, {settings.unit}"),
        ("reward", "Reward-model score over training, which is optimised", "score, normalised"),
    )
    for name, title, label in scores:
        drawn = [
            series(arm, role(arm, settings), _curve(evidence, family, arm, settings, name), family if several else None)
            for family in evidence.families
            for arm in traced
        ]
        figures.append(figure(f"{name}_training", title, "curves", ("PPO iterations", label), drawn))
    anchors = list(evidence.models(evidence.families[0], traced[0])[0].points[0].kl)
    drawn = [
        series(
            arm,
            role(arm, settings),
            _curve(evidence, family, arm, settings, anchor),
            f"to {anchor}{f', {family}' if several else ''}",
        )
        for family in evidence.families
        for anchor in anchors
        for arm in traced
    ]
    axes = ("PPO iterations", "KL, nats a reply (k1)")
    return [*figures, figure("kl_training", "KL over training, to the same anchors for all", "curves", axes, drawn)]


def _curve(evidence: Evidence, family: str, arm: str, settings: Settings, name: str) -> list[dict[str, Any]]:
    """Return the mean over replicates at each step that all of them have, with t intervals."""
    measure: Callable[[Point], float] = (
        (lambda each: float(getattr(each, name))) if name in ("gold", "reward") else (lambda each: each.kl[name])
    )
    by_step = [{each.step: measure(each) for each in model.points} for model in evidence.models(family, arm)]
    steps = sorted(set.intersection(*(set(values) for values in by_step)))
    return [point(step, t_interval([values[step] for values in by_step], settings.level)) for step in steps]
