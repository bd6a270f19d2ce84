"""How to read a study, in a few sentences that every medium shows, and what it took."""

from collections.abc import Iterator, Mapping
from typing import Any

from salsa.report.grid import BLANK, MISSING
from salsa.report.study.schema import replicates
from salsa.report.study.tables import Table

ROLES: Mapping[str, str] = {
    "sft": "fine-tuned model, before RL",
    "soup": "weight average, before RL",
    "ppo": "PPO",
    "salsa": "SALSA",
    "control": "control",
    "other": "other",
}
REPLICATE = "everything from fine-tuning upwards again, from its own seeds"
_JUDGES: Mapping[str, str] = {
    "gold": "the world's gold reward",
    "reward_model": "the reward model that was optimised",
}
_TINY, _WORLD, _OF_THE_WORLD = "tiny", "zoo", "world_seed"


def about(study: Mapping[str, Any]) -> str:
    """Return in one line what was run: replicates, models, regime, and the level of the intervals if there are any."""
    parts = [replicates(study), models(study) or f"scale {study['scale']}", f"regime {regime(study)}"]
    cells = (cell for table in study["tables"] for row in table["rows"] for cell in row["cells"].values() if cell)
    if any(cell["low"] is not None for cell in cells):
        parts.append(f"{study['level']:.0%} intervals")
    return "  ·  ".join(parts)


def models(study: Mapping[str, Any]) -> str:
    """Return what small models of the embedded world are, and are not; nothing where they are others, or not told."""
    families = _families(study)
    if not families or not all(told["scale"]["name"] == _TINY and _in_the_world(told["data"]) for told in families):
        return ""
    named = ", ".join(study["made_with"]["families"])
    judge = study["settings"].get("judge")
    judged = f"; judge: {_JUDGES.get(judge, judge)}" if isinstance(judge, str) else ""
    return (
        f"tiny models with the architecture of {named} (not the published weights), trained in the embedded "
        f"world{judged}"
    )


def regime(study: Mapping[str, Any]) -> str:
    """Return the regime with what it is, where the study tells: demonstrations and steps of fine-tuning."""
    recipes = (told["sft"] for told in _families(study) if "sft" in told)
    told = dict.fromkeys(f"{each['demonstrations']:,} demonstrations, {each['steps']:,} steps" for each in recipes)
    return f"{study['regime']}: {' or '.join(told)}" if told else str(study["regime"])


def _families(study: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list((study.get("made_with") or {}).get("families", {}).values())


def _in_the_world(data: Mapping[str, Any]) -> bool:
    """Return whether data are the embedded world's; studies that do not name their data have its seed among them."""
    return data["name"] == _WORLD if "name" in data else _OF_THE_WORLD in data


def decided(study: Mapping[str, Any]) -> Iterator[str]:
    """Yield what it takes for a verdict to be decided, where there is one."""
    if study["verdicts"]:
        yield (
            f'"Decided" means that the {study["level"]:.0%} interval lies on one side and that the p value, where '
            f"there is one (corrected where several questions are asked), is at most {1 - study['level']:.2g}."
        )


def marks(study: Mapping[str, Any], shown: list[Table], coloured: bool) -> Iterator[str]:
    """Yield what the marks of cells are, for a medium that gives full intervals and may colour them."""
    cells = [cell for table in shown for row in table.grid.rows for cell in row]
    if any(cell.interval for cell in cells):
        yield f"In brackets: the {study['level']:.0%} interval of each number by itself."
    if coloured and any(cell.tone in ("better", "worse") for cell in cells):
        yield "Coloured: the whole interval lies above (green, ▲) or below (red, ▼) 50 %, where neither is better."


def sentences(study: Mapping[str, Any], shown: list[Table]) -> Iterator[str]:
    """Yield how to read the tables that are shown, in any medium; only what they have is explained."""
    cells = [cell for table in shown for row in table.grid.rows for cell in row]
    intervals = any(cell.interval for cell in cells)
    if study["replicates"] == 1:
        yield (
            f"One replicate, so this is an illustration: another one ({REPLICATE}) gives other models and can turn "
            f"the order round.{' The intervals hold for these trained models only.' if intervals else ''}"
        )
    else:
        yield f"Numbers are means over {replicates(study)}; a replicate is {REPLICATE}."
    if any(table.paper for table in shown):
        yield (
            "The paper's figures stand in columns of their own, as their heading says where they come from: they are "
            "of other models and another judge, so directions may be compared, not values."
        )
    if any(cell.tone == "missing" and cell.text.startswith(MISSING.text) for cell in cells):
        yield f"{MISSING.text}: belongs here, and there is no result (yet)."
    if BLANK in cells:
        yield f"{BLANK.text}: has no meaning here."


def cost(study: Mapping[str, Any]) -> str:
    """Return what the study took; what is not known is left out."""
    known = {key: value for key, value in (study["cost"] or {}).items() if value is not None}
    words = {"stages": "{:,} stages", "distinct": "{:,} of them distinct", "computed_now": "{:,} computed now"}
    parts = [words[key].format(known[key]) for key in words if key in known]
    parts += [f"{duration(known['cpu_seconds'])} of CPU time"] if "cpu_seconds" in known else []
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return CPU seconds in the unit that a reader grasps."""
    for size, unit in ((3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
