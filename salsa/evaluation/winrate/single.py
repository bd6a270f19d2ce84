"""Scores of single replies: MT-Bench's means by model, turn and category."""

from collections.abc import Sequence
from typing import Any

from salsa.evaluation.published.rows import Row
from salsa.evaluation.sheet import of_scores
from salsa.evaluation.winrate.settings import Settings, comparisons, counted, methods, parts
from salsa.judging.verdict import Verdict

LOWEST, HIGHEST = 1.0, 10.0
"""The scale that judges are asked for."""


def section(verdicts: Sequence[Verdict], appended: Sequence[Row], settings: Settings) -> dict[str, Any]:
    """Return what the scores of one suite by one judge say; `appended` are all its rows, duplicates too."""
    sheet = of_scores(verdicts)
    figures, counts, shown = parts(sheet, settings), counted(verdicts), fastchat(appended)
    models = [
        {
            "model": model,
            "counts": counts[model],
            "score": figures.get(model, {}).get("all"),
            "turns": figures.get(model, {}).get("turns", {}),
            "categories": figures.get(model, {}).get("categories", {}),
            "fastchat": shown.get(model),
        }
        for model in counts
        if model
    ]
    models.sort(key=lambda row: -((row["score"] or {}).get("value") or 0.0))
    outside = sum(verdict.score is not None and not LOWEST <= verdict.score <= HIGHEST for verdict in verdicts)
    return {
        "rule": "mean over surviving judgments",
        "counts": counts[""],
        "outside_scale": outside,
        "models": models,
        "comparisons": comparisons(sheet, settings) if len(sheet.models) > 1 else [],
        "replicates": methods(sheet, settings),
    }


def fastchat(appended: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Return what FastChat's `show_result.py` prints: means of the stored scores of all rows, -1 left out."""
    stored: dict[str, list[tuple[int, float]]] = {}
    for row in appended:
        for each in row.judged:
            if isinstance(each.stored, float):
                stored.setdefault(row.model, []).append((each.verdict.turn, each.stored))
    return {
        model: {
            "score": _mean([score for _, score in scores]),
            "turns": {
                str(turn): _mean([score for own, score in scores if own == turn])
                for turn in sorted({own for own, _ in scores})
            },
            "rows": len(scores),
        }
        for model, scores in stored.items()
    }


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores)
