"""What an arm costs: the CPU time of everything that it needs, and how much of that the baseline does not need."""

from typing import Any

from salsa.evaluation.statistics import t_interval
from salsa.studies.evidence import Evidence, Model
from salsa.studies.pieces import cell, column, row, table
from salsa.studies.settings import SFT, SOUP, Settings


def cost(evidence: Evidence, settings: Settings) -> dict[str, Any] | None:
    """Return the table of CPU seconds a replicate; None where they are not known, or the baseline is not trained."""
    arms = [arm for arm in evidence.arms if arm not in (SFT, SOUP)]
    models = {(family, arm): evidence.models(family, arm) for family in evidence.families for arm in arms}
    if settings.baseline not in arms or not all(model.needs for own in models.values() for model in own):
        return None
    unit = "CPU seconds a replicate"
    columns = [
        column("shared", "before RL", unit, 1, label=f"as for {settings.baseline}"),
        column("extra", "before RL", unit, 1, label="besides"),
        column("rl", "by RL", unit, 1, label="training"),
        column("all", "together", unit, 1, label="all"),
    ]
    rows = []
    for (family, arm), own in models.items():
        parts: dict[str, list[float]] = {"shared": [], "extra": [], "rl": [], "all": []}
        for model, base in zip(own, models[family, settings.baseline], strict=True):
            for name, seconds in _parts(model, base).items():
                parts[name].append(seconds)
        prints = [part for model in own for part in model.needs]
        cells = {name: cell(t_interval(values, settings.level), prints) for name, values in parts.items()}
        rows.append(row(arm, family if len(evidence.families) > 1 else None, cells, settings))
    caption = (
        f"CPU time of what an arm needs, and of that what {settings.baseline} does not need (other SFT models, soups); "
        "without pre-training, evaluation and the search for coefficients; of the last attempt where one was "
        "interrupted; t intervals over replicates. The preferences are made from replies of SFT1 and SFT2 for all arms."
    )
    return table("cost", "What it costs", caption, columns, rows)


def _parts(model: Model, base: Model) -> dict[str, float]:
    before = {part: seconds for part, seconds in model.needs.items() if part != model.training}
    extra = sum(seconds for part, seconds in before.items() if part not in base.needs)
    trained = model.needs[model.training]
    return {"shared": sum(before.values()) - extra, "extra": extra, "rl": trained, "all": sum(model.needs.values())}
