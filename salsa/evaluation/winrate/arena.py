"""Arena-Hard's leaderboard: expected win rates against the baseline, with both kinds of interval, and style control."""

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import numpy as np

from salsa.evaluation.battles import Battle, Table, arena, matches
from salsa.evaluation.resampling import percentiles
from salsa.evaluation.sheet import Sheet, of_battles
from salsa.evaluation.style import FEATURES, RULES, Style, Styled, controlled
from salsa.evaluation.winrate import pairs
from salsa.evaluation.winrate.settings import Settings, comparisons, counted, finite, methods, parts
from salsa.judging.verdict import Verdict

BATTLE_ROUNDS = 100
"""Rounds of the bootstrap over battles in both releases."""
LEVELS = {"first": 0.95, "current": 0.90}
"""Percentiles 2.5 and 97.5 in the first release, 5 and 95 in the current one."""
CONTROLS = {"style": FEATURES, "length": FEATURES[:1]}
StyleOf = Callable[[str, str, int], Style | None]


def section(
    verdicts: Sequence[Verdict],
    given: Sequence[Battle],
    styles: StyleOf,
    length_of: pairs.LengthOf,
    settings: Settings,
) -> dict[str, Any]:
    """Return what verdicts, or battles that were given as such, say of models and a baseline."""
    release = settings.release or _release(verdicts)
    found = matches(verdicts)
    battles = [*given, *(battle for match in found for battle in arena(match, release, settings.weight))]
    fought = [battle for battle in battles if battle.first != battle.second]
    counts = counted(verdicts)
    baseline, inferred = _baseline(fought, settings.baseline, bool(given), counts)
    sheet = of_battles(fought, baseline)
    star = baseline is not None and all(baseline in (battle.first, battle.second) for battle in fought)
    rated = pairs.ratings(fought, baseline, settings)
    rows = _models(fought, sheet, baseline, release, settings)
    ratings = {row["model"]: row["value"] for row in rated}
    for row in rows:
        row |= {"rating": ratings.get(row["model"]), "counts": counts.get(row["model"])}
    named = [name for name in counts if name and name != baseline and name not in sheet.models]
    rows += [{"model": name, "score": None, "counts": counts[name]} for name in named]
    return {
        "rule": f"{release} release: strong verdicts count {settings.weight:g} times",
        "release": release,
        "baseline": baseline,
        "baseline_inferred": inferred,
        "closed_form": star,
        "counts": counts[""],
        "matches": pairs.matched(found),
        "battles": {
            "rows": len(battles),
            "weight": float(sum(battle.weight for battle in fought)),
            "self": len(battles) - len(fought),
        },
        "models": rows,
        "ratings": rated,
        "style": _style(fought, baseline, release, styles, settings),
        "judge_bias": pairs.bias(verdicts, found, length_of, settings),
        "comparisons": comparisons(sheet, settings) if baseline and len(sheet.models) > 1 else [],
        "replicates": methods(sheet, settings),
    }


def _release(verdicts: Sequence[Verdict]) -> str:
    """Return whose rules count: the current release's for its own prompts, and for suites that end in its _v2."""
    current = any(verdict.grammar == "arena_current" or verdict.suite.endswith("_v2") for verdict in verdicts)
    return "current" if current else "first"


def _baseline(
    battles: Sequence[Battle], named: str | None, given: bool, judged: Container[str]
) -> tuple[str | None, bool]:
    """Return the baseline and whether it was inferred: the one model that is in every battle, if none is named.

    Of two models that only met each other it is the first of battle files, and the one that is not the compared
    model of verdicts. One that is named counts where any of its games were judged, with a verdict or without.
    """
    models = [{battle.first, battle.second} for battle in battles]
    if named is not None and (named in judged or any(named in pair for pair in models)):
        return named, False
    common = set.intersection(*models) if models else set()
    if len(common) == 2:
        side = {battle.first if given else battle.second for battle in battles}
        return (side.pop(), True) if len(side) == 1 else (None, False)
    return (common.pop(), True) if common else (None, False)


def _models(
    battles: Sequence[Battle], sheet: Sheet, baseline: str | None, release: str, settings: Settings
) -> list[dict[str, Any]]:
    """Return the rows of the leaderboard: scores are of the games with the baseline alone, and there are none without.

    They are the Bradley-Terry fit to these games, in closed form.
    """
    met = [battle for battle in battles if baseline in (battle.first, battle.second)]
    figures = parts(sheet, settings)
    intervals = battle_intervals(met, baseline, release, settings) if met else {}
    rows = []
    for model in sheet.models:
        own = figures[model]
        score = _percent(own["all"]) if baseline is not None else None
        rows.append(
            {
                "model": model,
                "score": score["value"] if score else None,
                "questions": score
                and {key: score[key] for key in ("low", "high", "n")}
                | {"rounds": settings.rounds, "level": settings.level},
                "battles": intervals.get(model),
                "raw_win_rate": own["all"] and own["all"]["value"],
                "categories": {name: _percent(part) for name, part in own["categories"].items()},
            }
        )
    return sorted(rows, key=lambda row: -(row["score"] if row["score"] is not None else row["raw_win_rate"] or -1.0))


def battle_intervals(
    battles: Sequence[Battle], baseline: str | None, release: str, settings: Settings
) -> dict[str, dict[str, Any]]:
    """Return the releases' own interval of each model's score: 100 rounds over battles, in percent.

    A strong verdict is so many battles that are drawn one by one. Battles are drawn from all models' together in the
    first release, and from each model's own in the current one.
    """
    table = Table([*battles])
    names = [model for model in table.models if model != baseline]
    cells = np.zeros((len(names), 3))
    for battle in table.battles:
        own = battle.second if battle.first == baseline else battle.first
        won = battle.outcome if battle.first == own else 1 - battle.outcome
        cells[names.index(own), int(2 * won)] += battle.weight
    cells = np.round(cells).astype(np.int64)
    rng, total = settings.rng(), int(cells.sum())
    if release == "first":
        drawn = rng.multinomial(total, cells.ravel() / total, size=BATTLE_ROUNDS).reshape(BATTLE_ROUNDS, -1, 3)
    else:
        drawn = np.stack([rng.multinomial(row.sum(), row / row.sum(), size=BATTLE_ROUNDS) for row in cells], axis=1)
    fought = drawn.sum(axis=2)
    with np.errstate(invalid="ignore"):
        rates = np.where(fought > 0, drawn @ np.array([0.0, 0.5, 1.0]) / fought, np.nan)
    low, high = percentiles(rates, LEVELS[release])
    return {
        name: {
            "low": finite(100 * low[index]),
            "high": finite(100 * high[index]),
            "rounds": BATTLE_ROUNDS,
            "level": LEVELS[release],
        }
        for index, name in enumerate(names)
    }


def _percent(estimate: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {key: value if key == "n" or value is None else 100 * value for key, value in estimate.items()}


def _style(
    battles: Sequence[Battle], baseline: str | None, release: str, styles: StyleOf, settings: Settings
) -> dict[str, Any] | None:
    """Return scores with style, and with length only, held equal, over battles whose replies are known."""
    if baseline is None:
        return None
    fights: dict[tuple[str, str, int, str], list[float]] = {}
    for battle in battles:
        if baseline in (battle.first, battle.second):
            model = battle.second if battle.first == baseline else battle.first
            own = fights.setdefault((model, battle.question, battle.turn, battle.cluster), [0.0, 0.0, 0.0])
            outcome = battle.outcome if battle.first == model else 1 - battle.outcome
            for place, value in enumerate((battle.weight * outcome, battle.weight, 1)):
                own[place] += value
    known, unknown = [], 0
    for (model, question, turn, cluster), (won, weight, rows) in fights.items():
        pair = [styles(name, question, turn) for name in (model, baseline)]
        if pair[0] is None or pair[1] is None:
            unknown += int(rows)
        else:
            known.append(Styled(model, cluster, won, weight, pair[0], pair[1]))
    if not known:
        return None
    rounds = min(settings.rounds, 200)
    found: dict[str, Any] = {"rule": RULES[release].text, "replies": len(known), "unknown_battles": unknown}
    found["rounds"] = rounds
    for name, features in CONTROLS.items():
        held = controlled(known, features, settings.rng(), rounds, settings.level, release)
        found[name] = {
            "models": {
                model: dict(
                    zip(("value", "low", "high"), (None if v is None else 100 * v for v in values), strict=True)
                )
                for model, values in held.win_rates.items()
            },
            "coefficients": held.coefficients,
            "constant": list(held.constant),
        }
    return found
