"""Made-up fronts of gold reward against KL, and soups on the plane through three models."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tests.report.study.pieces import ARMS, cell, estimate, point, study


def frontier() -> dict[str, Any]:
    """Return the frontier of gold reward against the square root of the KL, with four arms and two starts."""
    peaks = {"PPO": (1.05, 3.0), "SALSA": (1.2, 3.6), "ref SFT2": (1.18, 3.9), "start+ref soup": (1.12, 3.2)}
    series = [_front(arm, role, *peaks[arm]) for arm, role in ARMS.items()]
    starts = [
        {"label": "SFT1", "role": "sft", "points": [{"x": 0.0, "value": 0.7, "low": 0.63, "high": 0.77}]},
        {"label": "soup", "role": "soup", "points": [{"x": 1.1, "value": 0.9, "low": 0.83, "high": 0.96}]},
    ]
    return study(
        study="frontier",
        title="Gold reward at matched KL",
        question="Does SALSA reach more gold reward than PPO when both have moved equally far from SFT1?",
        verdicts=[
            {
                "sentence": "SALSA beats PPO at a KL of 10 nats: +0.13 points of gold reward [0.06, 0.20], 8 "
                "replicates",
                "decided": "first",
            },
            {
                "sentence": "The data do not decide between SALSA and ref SFT2 at a KL of 10 nats: +0.02 points [-0.04,"
                " 0.08], 8 replicates",
                "decided": None,
            },
        ],
        tables=[_matched(peaks)],
        figures=[
            {
                "name": "frontier",
                "title": "Gold reward against the distance from SFT1",
                "kind": "paths",
                "x": {"label": "√KL to SFT1, √nats a reply", "log": False},
                "y": {"label": "gold reward, points (higher is better)"},
                "line": None,
                "series": [*series, *starts],
            }
        ],
        notes=["√KL: over it the optimised reward rises almost linearly (Gao et al. 2023)."],
    )


def _matched(peaks: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    columns = [
        {"key": f"at_{level}", "label": f"{level}", "group": "gold reward at KL (nats a reply)", "unit": "points"}
        | {"digits": 2, "scale": 1, "better": "high"}
        for level in (2, 5, 10, 20)
    ]
    columns.append({"key": "peak", "label": "KL of the peak", "group": None, "unit": "nats", "digits": 1, "scale": 1})
    rows = []
    for (arm, role), (height, at) in zip(ARMS.items(), peaks.values(), strict=True):
        # The front of PPO ends before the last level.
        levels = [level for level in (2, 5, 10, 20) if level < 20 or arm != "PPO"]
        cells: dict[str, Any] = {f"at_{level}": _at(arm, level, height, at) for level in levels}
        cells["peak"] = cell(at * at, 1.3, arm, "peak")
        rows.append({"label": arm, "role": role, "group": None, "cells": cells})
    return {
        "name": "matched_KL",
        "caption": "Gold reward between measured points of a replicate's own front; –: outside of its range.",
        "row_header": "policy",
        "columns": columns,
        "rows": rows,
        "paper": None,
    }


def _front(arm: str, role: str, height: float, at: float) -> dict[str, Any]:
    distances: Sequence[float] = [0.9, 1.5, 2.1, 2.8, 3.6, 4.4]
    points = []
    for distance in distances:
        reach = distance * at / 3.3
        x = {"x": reach, "x_low": reach - 0.07, "x_high": reach + 0.07}
        points.append({**x, **point(estimate(_gold(reach, height, at), 0.05))})
    return {"label": arm, "role": role, "points": points}


def _gold(distance: float, height: float, at: float) -> float:
    return height - (height - 0.7) * ((distance - at) / at) ** 2


def _at(arm: str, level: int, height: float, at: float) -> dict[str, Any]:
    note = "5 of 8 replicates reach this KL" if level == 20 else None
    return cell(_gold(math.sqrt(level), height, at), 0.05, arm, level, n=5 if note else 8, note=note)


CORNERS = {"SFT1": (0.0, 0.0), "SFT2": (1.0, 0.0), "SFT3": (0.5, 0.866)}
MODELS: list[dict[str, Any]] = [{"label": label, "x": x, "y": y} for label, (x, y) in CORNERS.items()]


def plane() -> dict[str, Any]:
    """Return the plane through three models: gold reward, score and loss, each best near the barycentre."""
    span = [step / 4 for step in range(-2, 7)]
    grid = [(1 - j - k, j, k) for j in span for k in span if -0.5 <= 1 - j - k <= 1.5] + [(1 / 3, 1 / 3, 1 / 3)]
    return study(
        study="reward_plane",
        title="Soups on the plane through three SFT models",
        question="Is the soup of three SFT models better than each of them, before any RL?",
        verdicts=[{"sentence": "The soup is above its best model: +0.31 [0.20, 0.42] points", "decided": "first"}],
        figures=[
            {
                "name": "plane",
                "title": "Soups of three SFT models before any RL",
                "kind": "plane",
                "x": {"label": "from SFT1 towards SFT2", "log": False},
                "y": {"label": "from that line towards SFT3"},
                "line": None,
                "models": MODELS,
                "note": "Corners stand as far apart as in an equilateral triangle: distances are not to scale.",
                "series": [
                    _panel("Gold reward", "points", 2, "high", 0.9, -0.8, grid),
                    _panel("Reward-model score", "normalised", 2, "high", 0.2, -0.5, grid),
                    _panel("Held-out SFT loss", "nats a token", 3, "low", 1.2, 0.1, grid),
                ],
            }
        ],
    )


def _panel(
    label: str, unit: str, digits: int, better: str, height: float, slope: float, grid: Sequence[tuple[float, ...]]
) -> dict[str, Any]:
    points = []
    for weights in grid:
        value = height + slope * sum((weight - 1 / 3) ** 2 for weight in weights) + 0.1 * slope * weights[0]
        x, y = (sum(w * model[axis] for w, model in zip(weights, MODELS, strict=True)) for axis in ("x", "y"))
        points.append({"x": x, "y": y, "weights": list(weights), **point(estimate(value, abs(0.1 * slope)))})
    told = {"unit": unit, "digits": digits, "better": better, "resolution": abs(0.08 * slope)}
    return {"label": label, "role": "soup", "panel": label, **told, "points": points}
