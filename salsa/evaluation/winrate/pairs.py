"""Win rates of pairwise judgments: FastChat's rule and ours, ratings of many models, and the judge's biases."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from salsa.evaluation import biases, bradley_terry
from salsa.evaluation.battles import Battle, Match, Table, fastchat, half_votes, matches
from salsa.evaluation.sheet import Sheet, of_battles
from salsa.evaluation.winrate.settings import Settings, comparisons, counted, methods, parts, told
from salsa.judging.verdict import Verdict

LengthOf = Callable[[str, Verdict], float | None]
RULES = {
    "fastchat": "FastChat: an error in either game drops the row; disagreement, or a tie in the first game, is a tie",
    "half_votes": "half votes: each game with a verdict is half a vote, whatever the other game says",
}
_RULES: dict[str, Callable[[Match], list[Battle]]] = {"fastchat": fastchat, "half_votes": half_votes}


def section(verdicts: Sequence[Verdict], length_of: LengthOf, settings: Settings, main: str) -> dict[str, Any]:
    """Return what pairwise verdicts of one suite by one judge say; `main` is the rule of ratings and comparisons."""
    found, counts = matches(verdicts), counted(verdicts)
    baseline = settings.baseline if settings.baseline in counts else None
    battles = {name: [battle for match in found for battle in rule(match)] for name, rule in _RULES.items()}
    sheets = {name: of_battles(own, baseline) for name, own in battles.items()}
    figures = {name: rates(battles[name], sheets[name], settings) for name in _RULES}
    names = [model for model in counts if model and model != baseline]
    models: list[dict[str, Any]] = [
        {"model": model, "counts": counts[model]} | {rule: figures[rule].get(model) for rule in _RULES}
        for model in names
    ]
    models.sort(key=lambda row: -((row[main] or {}).get("value") or 0.0))
    return {
        "rule": main,
        "rules": RULES,
        "baseline": baseline,
        "counts": counts[""],
        "matches": matched(found),
        "models": models,
        "ratings": ratings(battles[main], baseline, settings),
        "judge_bias": bias(verdicts, found, length_of, settings),
        # Against each other, one model's wins are the other's losses: there is nothing to pair.
        "comparisons": comparisons(sheets[main], settings) if baseline and len(sheets[main].models) > 1 else [],
        "replicates": methods(sheets[main], settings),
    }


def rates(battles: Sequence[Battle], sheet: Sheet, settings: Settings) -> dict[str, dict[str, Any]]:
    """Return each model's wins, ties, losses, win rate and adjusted win rate (win + tie / 2) with its interval."""
    tally = {model: [0.0, 0.0, 0.0] for model in sheet.models}
    against = {model for battle in battles for model in (battle.first, battle.second)} - set(sheet.models)
    for battle in battles:
        if battle.first == battle.second or (against and not against & {battle.first, battle.second}):
            continue
        for model, outcome in ((battle.first, battle.outcome), (battle.second, 1 - battle.outcome)):
            if model in tally:
                tally[model][{1.0: 0, 0.5: 1, 0.0: 2}[outcome]] += battle.weight
    found = {}
    for model, figures in parts(sheet, settings).items():
        win, tie, loss = tally[model]
        total = win + tie + loss
        found[model] = {
            **(figures["all"] or {}),
            "win": win,
            "tie": tie,
            "loss": loss,
            "win_rate": win / total,
            "loss_rate": loss / total,
            "turns": figures["turns"],
            "categories": figures["categories"],
        }
    return found


def matched(found: Sequence[Match]) -> dict[str, int]:
    """Return how many matches there are, and how many have two verdicts, one or none."""
    verdicts = [sum(outcome is not None for outcome in match.outcomes) for match in found]
    return {
        "all": len(found),
        "both_judged": verdicts.count(2),
        "one_judged": verdicts.count(1),
        "none_judged": verdicts.count(0),
        "one_order_only": sum(match.forward is None or match.backward is None for match in found),
    }


def ratings(battles: Sequence[Battle], baseline: str | None, settings: Settings) -> list[dict[str, Any]]:
    """Return Bradley-Terry ratings, the highest first, of all models that met; nothing for fewer than two."""
    table = Table(battles)
    if len(table.models) < 2:
        return []
    found = bradley_terry.ratings(
        table.wins(), table.models, baseline, settings.rng(), min(settings.rounds, 1000), settings.level
    )
    listed = [{"model": model} | asdict(rating) for model, rating in found.items()]
    places = {"above": 0, "": 1, "below": 2, "not compared": 3}
    return sorted(listed, key=lambda row: (places[row["why"]], -(row["value"] or 0.0)))


def bias(
    verdicts: Sequence[Verdict], found: Sequence[Match], length_of: LengthOf, settings: Settings
) -> dict[str, Any]:
    """Return the judge's swap consistency, and how often the first and the longer reply win."""
    pairs = [verdict for verdict in verdicts if verdict.model_a != verdict.model_b]
    swapped = biases.swap(found, settings.rng(), settings.rounds, settings.level)
    first = biases.position(pairs, settings.rng(), settings.rounds, settings.level)
    longer = biases.length(pairs, length_of, settings.rng(), settings.rounds, settings.level)
    return {"swap": asdict(swapped), "first_wins": told(first), "longer_wins": told(longer)}
