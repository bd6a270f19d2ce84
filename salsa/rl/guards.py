"""Guards of a training: what shows that it is in trouble, and what is done about it."""

import logging
import math
from collections.abc import Mapping
from typing import NamedTuple

from salsa.rl.settings import Guard, GuardSettings

LOG = logging.getLogger(__name__)

NAMES = ("non_finite", "kl", "entropy", "short", "unfinished")


class GuardError(ArithmeticError):
    """A guard stopped a training; the last checkpoint from before it is kept."""


class Crossing(NamedTuple):
    """A guard whose limit was crossed: its name, what it leads to, and a sentence with value, limit and remedy."""

    guard: str
    action: str
    says: str


def crossings(values: Mapping[str, float], guards: GuardSettings) -> list[Crossing]:
    """Return the guards that the metrics of an iteration cross; a metric that is missing crosses nothing."""
    broken = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
    skipped = ("policy/skipped_updates", "critic/skipped_updates")
    broken += [f"{name} = {values[name]:g}" for name in skipped if values.get(name)]
    found = []
    if broken:
        # A policy that has gone astray breaks its own figures first.
        rewarded = math.isfinite(values.get("kl/reply_k1", 0.0)) and not math.isfinite(values.get("reward/score", 0.0))
        steadier = "a lower learning_rate or gradient_clip may help"
        says = f"{', '.join(broken)}; {'look at the terms of the reward (rewards)' if rewarded else steadier}"
        found.append(Crossing("non_finite", guards.non_finite, says))
    checks: tuple[tuple[str, Guard, str, bool, str], ...] = (
        ("kl", guards.kl, "kl/reply_k1", True, "a higher kl_coef or a lower learning_rate holds the policy closer"),
        ("entropy", guards.entropy, "reply/entropy", False, "the policy says one thing only; a higher kl_coef helps"),
        ("short", guards.short, "reply/length", False, "replies have collapsed; look at the reward of short replies"),
        (
            "unfinished",
            guards.unfinished,
            "reply/unfinished",
            True,
            "replies run to their limit: raise generation.max_new_tokens, lower missing_end_score, or hold the policy "
            "closer with another kl_coef",
        ),
    )
    for name, guard, metric, above, remedy in checks:
        value = values.get(metric)
        if value is None or guard.action == "ignore":
            continue
        if value > guard.limit if above else value < guard.limit:
            side = "above" if above else "below"
            found.append(Crossing(name, guard.action, f"{metric} is {value:.4g}, {side} {guard.limit:g}: {remedy}"))
    return found


def act(found: list[Crossing], fresh: list[Crossing], iteration: int) -> bool:
    """Do what the crossed guards lead to; return whether the update of this iteration is to be skipped.

    The `fresh` ones, crossed for the first time in a training, are written to the log, and every skip is.

    Raises:
        GuardError: if one of them stops the training.
    """
    for crossing in found:
        text = f"guard {crossing.guard} at iteration {iteration}: {crossing.says}"
        if crossing.action == "stop":
            raise GuardError(text)
        if crossing in fresh or crossing.action == "skip":
            LOG.warning("%s%s", text, "; its update is skipped" if crossing.action == "skip" else "")
    return any(crossing.action == "skip" for crossing in found)
