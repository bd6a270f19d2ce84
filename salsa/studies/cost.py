"""What an arm costs: the CPU time of everything that it needs, what its reference adds to that, and what that gains."""

from typing import Any

from salsa.evaluation.statistics import t_interval
from salsa.studies.estimates import each_family, rate
from salsa.studies.evidence import Evidence, Model
from salsa.studies.pieces import cell, column, row, table
from salsa.studies.settings import SFT, SOUP, Settings


def cost(evidence: Evidence, settings: Settings) -> dict[str, Any] | None:
    """Return the table of CPU seconds a replicate; None where they are not known, or the baseline is not trained."""
    arms = [arm for arm in evidence.arms if arm not in (SFT, SOUP)]
    groups = each_family(evidence)
    timed = all(model.needs for group in groups for arm in arms for model in evidence.models(group.families[0], arm))
    if settings.baseline not in arms or not timed:
        return None
    unit = "CPU seconds a replicate"
    columns = [
        column("models", "other SFT models, soup", unit, 1, label="time"),
        column("share", "other SFT models, soup", "% of all", 1, 100, label="share"),
        column("before", "the rest before RL", unit, 1, label="time"),
        column("rl", "RL", unit, 1, label="training"),
        column("all", "together", unit, 1, label="all"),
        column("gain", f"win rate vs {settings.baseline}", "%", 1, 100, label="mean", even=0.5),
    ]
    rows = []
    for group in groups:
        for arm in arms:
            models = evidence.models(group.families[0], arm)
            parts = [_parts(model) for model in models]
            prints = [part for model in models for part in model.needs]
            cells = {
                name: cell(t_interval([part[name] for part in parts], settings.level), prints) for name in parts[0]
            }
            if arm != settings.baseline:
                gain = rate(evidence, group, arm, settings.baseline, evidence.suites, settings)
                cells["gain"] = cell(
                    gain, evidence.prints(group.families[0], [arm, settings.baseline], evidence.suites)
                )
            rows.append(row(arm, group.label, cells, settings))
    caption = (
        "CPU time of what an arm needs, without pre-training, evaluation and the search for coefficients; of the last "
        "attempt where one was interrupted; t intervals over replicates. Other SFT models than SFT1, and soups, are "
        "those behind an arm's start and reference; SFT1, preferences and reward model are the rest. Where preferences "
        "are made from replies of SFT1 and SFT2, every arm has to have SFT2, whatever its reference; with preferences "
        "of one's own it is what the soup costs. In memory a soup is one model, as SFT1 is."
    )
    return table("cost", "What it costs, and what it gains", caption, columns, rows)


def _parts(model: Model) -> dict[str, float]:
    whole, trained = sum(model.needs.values()), model.needs[model.training]
    models = sum(model.needs[part] for part in model.besides)
    return {"models": models, "share": models / whole, "before": whole - models - trained, "rl": trained, "all": whole}
