"""Made-up studies that have everything: a table over families and suites, an ablation of alpha, and a frontier."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

SUITES = ("single", "two_turn", "hard", "unseen")
FAMILIES = ("Llama2", "Mistral", "Gemma")
ARMS = {"PPO": "ppo", "SALSA": "salsa", "ref SFT2": "control", "start+ref soup": "control"}
_MIDDLE = 0.5
_T = 2.365
"""Of Student's t distribution with seven degrees of freedom: the half-width of a 95 % interval in standard errors."""


def fingerprint(*names: object) -> str:
    """Return a fingerprint that depends on the names alone."""
    return hashlib.sha256("/".join(map(str, names)).encode()).hexdigest()


def estimate(value: float, half: float | None, n: int = 8) -> dict[str, Any]:
    """Return an estimate with a symmetric interval, or with none."""
    ends = (None, None) if half is None else (round(value - half, 4), round(value + half, 4))
    return {"value": round(value, 4), "low": ends[0], "high": ends[1], "n": n}


def cell(value: float, half: float | None, *names: object, n: int = 8, note: str | None = None) -> dict[str, Any]:
    """Return a cell of a table, with a fingerprint for each replicate."""
    prints = [fingerprint(*names, replicate) for replicate in range(n)]
    return {**estimate(value, half, n), "note": note, "fingerprints": prints}


def study(**parts: Any) -> dict[str, Any]:
    """Return a study that has every part, by default an empty one."""
    return {
        "schema": 1,
        "study": "table_1",
        "title": "A study",
        "question": "Does it help?",
        "fingerprint": fingerprint("study"),
        "regime": "V1",
        "scale": "tiny",
        "replicates": 8,
        "level": 0.95,
        "verdicts": [],
        "headline": 0,
        "selection": None,
        "tables": [],
        "figures": [],
        "notes": [],
        "warnings": [],
        "settings": {"replicates": 8},
        "cost": {"stages": 10, "distinct": 8, "cpu_seconds": 100.0, "computed_now": 3},
        "paper": None,
        "missing": [],
    } | parts


def table_1() -> dict[str, Any]:
    """Return win rates against PPO: three families, four suites, four arms, the paper's figures beside them."""
    rng = np.random.default_rng(1)
    return study(
        title="Table 1: SALSA against PPO",
        question="Does a policy whose KL reference is a soup beat one whose reference is SFT1, at each one's best KL "
        "coefficient?",
        verdicts=_verdicts(),
        selection=_selection(rng),
        tables=[_win_rates(rng), _divergences(rng)],
        figures=[_win_rate_figure(), _divergence_figure(rng)],
        notes=[
            "Win rate: win + tie / 2; scores within 0.75 points are a tie.",
            "The suites are those of the embedded world; the paper's are MT-Bench, Arena-Hard and UltraFeedback.",
            "One replicate by itself: `python run.py study=table_1 replicates=1`.",
        ],
        warnings=["The coefficient of PPO (Llama2), 0.025, is at the edge of the grid."],
        missing=[
            {"family": "Gemma", "replicate": 3, "arm": None, "stage": "sft 2", "reason": "out of memory"},
            {"family": "Gemma", "replicate": 5, "arm": "start+ref soup", "stage": "align", "reason": "NaN at step 40"},
        ],
        paper=_paper(),
        settings={
            "study": {"name": "table_1", "replicates": 8},
            "families": list(FAMILIES),
            "policy": {"align": {"steps": 60, "clip": 0.2}, "kl_coef": [0.025, 0.05, 0.1, 0.2, 0.4]},
            "judge": {"name": "gold", "tie": 0.75},
        },
        cost={"stages": 1536, "distinct": 1112, "cpu_seconds": 16200.0, "computed_now": 212},
    )


def _paper() -> dict[str, Any]:
    return {
        "label": "its three families, judged by a large model; figures made up",
        "source": "published reviews",
        "claims": [
            {
                "claim": "all cells are above 50 %, from 50.10 % (Gemma, hard) to 56.20 %",
                "here": "10 of 12 cells are above 50 %, from 49.9 % (Mistral, hard) to 57.4 % (Llama2, single)",
                "holds": False,
            },
            {"claim": "SALSA beats PPO for each family", "here": "it does for Llama2 alone", "holds": None},
            {"claim": "SALSA is above PPO over all", "here": "53.4 % [52.1, 54.7]", "holds": True},
            {"claim": "the mean KL of its policies is larger", "here": None, "holds": None},
        ],
    }


def _verdicts() -> list[dict[str, Any]]:
    return [
        {
            "sentence": "SALSA beats PPO over all families and suites: 53.4 % [52.1, 54.7], 8 replicates",
            "decided": "first",
        },
        {"sentence": "SALSA beats PPO for Llama2: 55.1 % [53.2, 57.0], 8 replicates", "decided": "first"},
        {
            "sentence": "The data do not decide between SALSA and PPO for Mistral: 50.9 % [48.8, 53.1], 8 replicates",
            "decided": None,
        },
        {
            "sentence": "The data do not decide between SALSA and ref SFT2: 49.2 % [47.9, 50.6], 8 replicates",
            "decided": None,
        },
        {"sentence": "PPO beats start+ref soup for Gemma: 46.8 % [44.9, 48.7], 8 replicates", "decided": "second"},
    ]


_SHIFTS = {"SALSA": 0.034, "ref SFT2": 0.041, "start+ref soup": 0.012, "SFT1": -0.09, "soup": -0.05}
_OF_FAMILY = {"Llama2": 0.018, "Mistral": -0.022, "Gemma": -0.03}
_OF_SUITE = {"single": 0.015, "two_turn": 0.0, "hard": -0.012, "unseen": 0.006}


def rate(family: str, arm: str, suite: str) -> dict[str, Any]:
    """Return the share that an arm wins against PPO."""
    value = _MIDDLE + _SHIFTS[arm] + _OF_FAMILY[family] + _OF_SUITE[suite]
    few = family == "Gemma" and suite == "unseen"
    note = "2 of 8 replicates are missing" if few else None
    half = 0.02 + 0.008 * (suite == "hard") + 0.02 * few
    return cell(value, half, family, arm, suite, n=6 if few else 8, note=note)


def _win_rates(rng: np.random.Generator) -> dict[str, Any]:
    roles = {"SFT1": "sft", "soup": "soup", **{arm: role for arm, role in ARMS.items() if arm != "PPO"}}
    rows = []
    for family in FAMILIES:
        for arm, role in roles.items():
            cells: dict[str, Any] = {suite: rate(family, arm, suite) for suite in SUITES}
            values = [each["value"] for each in cells.values()]
            cells["mean"] = cell(float(np.mean(values)), 0.012 + 0.003 * rng.random(), family, arm, "mean")
            rows.append({"label": arm, "role": role, "group": family, "cells": cells})
    rows[-1]["cells"]["hard"] = None
    unit = {"unit": "%", "digits": 1, "scale": 100, "even": 0.5, "better": "high"}
    columns = [{"key": suite, "label": suite, "group": "win rate against PPO", **unit} for suite in (*SUITES, "mean")]
    unknown = "not known to us"
    paper = {
        "Llama2: SALSA": {"single": "51.00", "hard": unknown},
        "Mistral: SALSA": {"single": unknown, "hard": unknown},
        "Gemma: SALSA": {"single": unknown, "hard": "52.00"},
    }
    return {
        "name": "main",
        "title": "Win rates against PPO",
        "caption": "Gold reward decides each comparison; ties count one half. Bold: best of the family.",
        "row_header": "policy",
        "columns": columns,
        "rows": rows,
        "paper": {"label": "paper (its models and judge; figures made up)", "cells": paper},
    }


def _divergences(rng: np.random.Generator) -> dict[str, Any]:
    rows = []
    for family in FAMILIES:
        for number, (arm, role) in enumerate(ARMS.items()):
            cells = {}
            for place, anchor in enumerate(("SFT1", "SFT2", "soup")):
                value = 6 + 3 * number - place + float(rng.random())
                cells[anchor] = cell(value, 0.8, family, arm, anchor)
            cells["length"] = cell(31.2 + 2 * number, 1.1, family, arm, "length")
            rows.append({"label": arm, "role": role, "group": family, "cells": cells})
    unit = {"unit": "nats a reply", "digits": 2, "scale": 1}
    columns = [{"key": anchor, "label": anchor, "group": "KL (k1) to", **unit} for anchor in ("SFT1", "SFT2", "soup")]
    length = {"key": "length", "label": "length", "group": None, "unit": "tokens", "digits": 1, "scale": 1}
    caption = "KL of each policy to common anchors, on its own replies at temperature 1."
    return {
        "name": "divergence",
        "caption": caption,
        "row_header": "policy",
        "columns": [*columns, length],
        "rows": rows,
        "paper": None,
    }


def _win_rate_figure() -> dict[str, Any]:
    series = [
        {
            "label": arm,
            "role": role,
            "panel": family,
            "points": [{"x": suite, **_point(rate(family, arm, suite))} for suite in SUITES],
        }
        for family in FAMILIES
        for arm, role in ARMS.items()
        if arm != "PPO"
    ]
    series[-1]["points"][2] |= {"value": None, "low": None, "high": None}
    return {
        "name": "win_rates",
        "title": "Win rate against PPO on each suite",
        "kind": "intervals",
        "x": {"label": "suite", "log": False},
        "y": {"label": "win rate against PPO, %", "scale": 100},
        "line": 0.5,
        "series": series,
    }


def _point(found: dict[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in ("value", "low", "high")}


def _divergence_figure(rng: np.random.Generator) -> dict[str, Any]:
    """Return KL over training, many points a line."""
    series = []
    for number, (arm, role) in enumerate(ARMS.items()):
        steps = list(range(0, 61, 2))
        noise = np.cumsum(rng.normal(0, 0.12, len(steps)))
        values = [(5 + 2 * number) * (1 - math.exp(-step / 25)) for step in steps] + noise
        points = [
            {"x": step, **_point(estimate(float(value), 0.25 + 0.012 * step))}
            for step, value in zip(steps, values, strict=True)
        ]
        series.append({"label": arm, "role": role, "points": points})
    return {
        "name": "divergence",
        "title": "KL to SFT1 over training (Llama2)",
        "kind": "curves",
        "x": {"label": "PPO step", "log": False},
        "y": {"label": "KL to SFT1, nats a reply (k1)"},
        "line": None,
        "series": series,
    }


def _selection(rng: np.random.Generator) -> dict[str, Any]:
    grid = [0.025, 0.05, 0.1, 0.2, 0.4]
    chosen = []
    for family in FAMILIES:
        for number, arm in enumerate(ARMS):
            peak = (number + FAMILIES.index(family)) % len(grid)
            curve = [
                {"coefficient": value, "rate": estimate(0.6 - 0.02 * abs(place - peak) + 0.004 * rng.random(), 0.018)}
                for place, value in enumerate(grid)
            ]
            edge = peak in (0, len(grid) - 1)
            chosen.append({"family": family, "arm": arm, "coefficient": grid[peak], "edge": edge, "curve": curve})
    rule = (
        "highest mean win rate against SFT1 on the validation suite; of equals the larger one, which stays closer to "
        "the reference"
    )
    return {"suite": "validation", "rule": rule, "replicates": 3, "prompts": 400, "grid": grid, "chosen": chosen}


def alpha() -> dict[str, Any]:
    """Return an ablation of alpha: win rate and gold reward over the weight of SFT2, tuned and untuned."""
    alphas = [0.0, 0.25, 0.5, 0.75, 1.0]
    names = {"KL coefficient tuned for each alpha": 0.06, "KL coefficient of PPO": 0.045}
    columns = [
        {"key": f"{value:g}", "label": f"α = {value:g}", "group": "win rate against PPO", "unit": "%", "digits": 1}
        | {"scale": 100, "even": 0.5, "better": "high"}
        for value in alphas
    ]
    rows, series = [], []
    for number, (name, height) in enumerate(names.items()):
        shares = [0.5 + height * (4 * value * (1 - value)) + (0.03 - 0.02 * number) * value for value in alphas]
        cells = {
            f"{value:g}": cell(share, None if value == 0 else 0.016, name, value)
            for value, share in zip(alphas, shares, strict=True)
        }
        rows.append({"label": name, "role": "salsa", "group": None, "cells": cells})
        points = [{"x": value, **_point(cells[f"{value:g}"])} for value in alphas]
        series.append({"label": name, "role": "salsa", "points": points})
    return study(
        study="alpha",
        title="Ablation: the weight of SFT2 in the soup",
        question="Which mixture of the two fine-tuned models is the best reference, with the KL coefficient tuned for "
        "each?",
        verdicts=[
            {
                "sentence": "α = 0.5 beats PPO on the mean over suites: 57.5 % [55.9, 59.1], 8 replicates",
                "decided": "first",
            },
            {
                "sentence": "The data do not decide between α = 0.5 and α = 0.75: 50.6 % [48.7, 52.5], 8 replicates",
                "decided": None,
            },
        ],
        tables=[
            {
                "name": "alpha",
                "title": "Win rates over alpha",
                "caption": "α is the weight of SFT2; α = 0 is PPO itself, so its win rate is 50 % without error.",
                "row_header": "coefficient",
                "columns": columns,
                "rows": rows,
                "paper": {
                    "label": "paper (second-hand)",
                    "cells": {"KL coefficient tuned for each alpha": {"0.5": "not known to us", "1": "43.07"}},
                },
            }
        ],
        figures=[
            {
                "name": "alpha",
                "title": "Win rate against PPO over the weight of SFT2",
                "kind": "lines",
                "x": {"label": "α, weight of SFT2 in the soup", "log": False},
                "y": {"label": "win rate against PPO, %", "scale": 100},
                "line": 0.5,
                "series": series,
            },
            {
                "name": "lengths",
                "title": "Length of replies over the KL coefficient",
                "kind": "lines",
                "x": {"label": "KL coefficient", "log": True},
                "y": {"label": "tokens a reply"},
                "line": None,
                "series": list(_lengths()),
            },
        ],
        notes=["In the paper the other fine-tuned model alone (α = 1) is below PPO."],
    )


def _lengths() -> Iterator[dict[str, Any]]:
    for (arm, role), fall in zip(ARMS.items(), (0.3, 0.9, 0.8, 0.5), strict=True):
        grid = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8)
        points = [{"x": value, **_point(estimate(36 * math.exp(-fall * value), 1.2))} for value in grid]
        yield {"label": arm, "role": role, "points": points}


def frontier() -> dict[str, Any]:
    """Return the frontier of gold reward against the square root of the KL, with four arms and two starts."""
    peaks = {"PPO": (1.05, 3.0), "SALSA": (1.2, 3.6), "ref SFT2": (1.18, 3.9), "start+ref soup": (1.12, 3.2)}
    series = [_front(arm, role, *peaks[arm]) for arm, role in ARMS.items()]
    starts = [
        {"label": "SFT1", "role": "sft", "points": [{"x": 0.0, "value": 0.7, "low": 0.63, "high": 0.77}]},
        {"label": "soup", "role": "soup", "points": [{"x": 1.1, "value": 0.9, "low": 0.83, "high": 0.96}]},
    ]
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
        tables=[
            {
                "name": "matched_KL",
                "caption": "Gold reward between measured points of a replicate's own front; –: outside of its range.",
                "row_header": "policy",
                "columns": columns,
                "rows": rows,
                "paper": None,
            }
        ],
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


def _front(arm: str, role: str, height: float, at: float) -> dict[str, Any]:
    distances: Sequence[float] = [0.9, 1.5, 2.1, 2.8, 3.6, 4.4]
    points = []
    for distance in distances:
        reach = distance * at / 3.3
        x = {"x": reach, "x_low": reach - 0.07, "x_high": reach + 0.07}
        points.append({**x, **_point(estimate(_gold(reach, height, at), 0.05))})
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
        points.append({"x": x, "y": y, "weights": list(weights), **_point(estimate(value, abs(0.1 * slope)))})
    told = {"unit": unit, "digits": digits, "better": better, "resolution": abs(0.08 * slope)}
    return {"label": label, "role": "soup", "panel": label, **told, "points": points}


EXAMPLES = {"plane": plane, "table_1": table_1, "alpha": alpha, "frontier": frontier}
