"""What an arm costs: the CPU time of everything that it needs, and how much of that is there for the soup alone."""

from typing import Any

import numpy as np

from salsa.evaluation.statistics import t_interval
from salsa.studies.evidence import Evidence
from salsa.studies.pieces import cell, column, row, table
from salsa.studies.settings import SFT, SOUP, Settings

SHARED = (SFT, "preferences", "reward model")
"""What plain PPO needs, too."""
ONLY_FOR_SOUPS = ("SFT2", SOUP)
PLAIN = "ppo"
"""Role of an arm that needs SFT1 only."""


def cost(evidence: Evidence, settings: Settings) -> dict[str, Any] | None:
    """Return the table of CPU seconds a replicate; None where they are not known."""
    arms = [arm for arm in evidence.arms if arm not in (SFT, SOUP)]
    models = {(family, arm): evidence.models(family, arm) for family in evidence.families for arm in arms}
    if not evidence.costs or any(model.seconds is None for own in models.values() for model in own):
        return None
    unit = "CPU seconds a replicate"
    columns = [
        column("before", "before RL", unit, 1, label="SFT1, preferences, reward model"),
        column("soup", "before RL", unit, 1, label="SFT2 and the soup"),
        column("rl", "by RL", unit, 1, label="training"),
        column("all", "together", unit, 1, label="all"),
    ]
    rows = []
    for (family, arm), own in models.items():
        known = evidence.costs[family]
        before = np.sum([known[name] for name in SHARED], axis=0)
        trained = np.array([model.seconds for model in own], dtype=np.float64)
        parts = {"before": before, "rl": trained, "all": before + trained}
        if settings.roles.get(arm) != PLAIN:
            parts["soup"] = np.sum([known[name] for name in ONLY_FOR_SOUPS], axis=0)
            parts["all"] = parts["all"] + parts["soup"]
        prints = [model.prints["kl"] for model in own]
        cells = {name: cell(t_interval(values, settings.level), prints) for name, values in parts.items()}
        rows.append(row(arm, family if len(evidence.families) > 1 else None, cells, settings))
    caption = (
        "CPU time of what an arm needs, without pre-training, evaluation and the search for its coefficient; t "
        "intervals over replicates. In this design the preferences are made from replies of SFT1 and SFT2 for all arms."
    )
    return table("cost", "What it costs", caption, columns, rows)
