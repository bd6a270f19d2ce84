"""Recipes of soups: what coefficient each model has in the merge. One small function a recipe; none touches a weight.

The simple ones give weights over the models. Those that need the models' common base give coefficients over
[*models, base]: with c_i on model i and 1 - sum_i c_i on the base, the merge is base + sum_i c_i (model_i - base).
Soups of reward models (WARM, Rame et al., arXiv:2401.12187: `uniform`) and of policies that were trained on different
rewards (rewarded soups, Rame et al., arXiv:2306.04488: `weighted`) are made by the same recipes. The greedy soup, which
asks a score, is in `greedy`.

Plans import this module: NumPy and what reads files are imported where they are needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from pathlib import Path

    from salsa.soup.average import Coefficients

_LEAST_SINE = 1e-6
"""Below this sine of the angle between two task vectors, the arc between them is taken for the line."""
_CANCELLED = 1e-12
"""A squared norm below this share of the terms that it is summed from is rounding, and the vector is zero."""


def line(alpha: float) -> list[float]:
    """Return the weights of the point (1 - alpha) model_1 + alpha model_2; outside [0, 1] it lies beyond a model.

    Raises:
        SoupError: if alpha is not finite.
    """
    _check_finite("alpha", [alpha])
    return [1.0 - alpha, float(alpha)]


def uniform(count: int) -> list[float]:
    """Return the weights of the mean of `count` models (Wortsman et al., arXiv:2203.05482); WARM's, of reward models.

    Raises:
        SoupError: if there is no model.
    """
    _require(count >= 1, "count", count, "a soup needs a model")
    return [1.0 / count] * count


def weighted(weights: Sequence[float], *, any_sum: bool = False) -> list[float]:
    """Return given weights if they make an average: they are finite and sum to 1 (or to anything, with `any_sum`).

    Raises:
        SoupError: if they do not.
    """
    _check_finite("weights", weights)
    fix = f"they must sum to 1, and sum to {sum(weights):g}"
    _require(any_sum or abs(sum(weights) - 1) <= 1e-6, "weights", list(weights), fix)
    return [float(weight) for weight in weights]


def task_arithmetic(scales: Sequence[float]) -> list[float]:
    """Return the coefficients over [*models, base] of base + sum_i scales[i] (model_i - base).

    Ilharco et al., arXiv:2212.04089; a negative scale makes a model forget its task.

    Raises:
        SoupError: if there is no scale or one is not finite.
    """
    _check_finite("scales", scales)
    return [*(float(scale) for scale in scales), 1.0 - sum(scales)]


def over_base(weights: Sequence[float]) -> list[float]:
    """Return weights over models as coefficients over [*models, base], in which the base has none."""
    return [*weights, 0.0]


@overload
def liti(merge: Sequence[float], eta: float) -> list[float]: ...
@overload
def liti(merge: Coefficients, eta: float) -> Coefficients: ...
def liti(merge: Sequence[float] | Coefficients, eta: float) -> list[float] | Coefficients:
    """Return (1 - eta) base + eta merge, linear interpolation towards the initialisation (WARP, arXiv:2406.16768).

    `merge` is over [*models, base], as is the result: a list, such as `over_base(uniform(2))`, or coefficients by
    tensor, such as those of `slerp`. eta 0 is the base, 1 the merge; beyond 1 it is left behind.

    Raises:
        SoupError: if eta is not finite.
    """
    _check_finite("eta", [eta])
    if callable(merge):
        return lambda name: _part_of_the_way(merge(name), eta)
    return _part_of_the_way(merge, eta)


def slerp(
    base: Path | None,
    models: Sequence[Path],
    share: float = 0.5,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Coefficients:
    """Return coefficients over [*models, base] of the spherical interpolation of task vectors (WARP, arXiv:2406.16768).

    Two task vectors d_i = model_i - base with the angle W between them give sin((1 - share) W) / sin(W) d_1 +
    sin(share W) / sin(W) d_2; from the third on, model m goes into the merge of those before it with the share 1 / m.
    Each tensor is turned by itself: the paper merges layer by layer, because the angles differ between layers, and one
    angle for all would keep the norm of none of them. Where sin(W) < 1e-6 or a task vector is zero, it is the line.
    (mergekit's slerp interpolates full weights, which are almost parallel, and is in effect the line.)

    All models are read once, a piece at a time, for the angles; `progress` is told bytes read and bytes in all.
    Adapters have coefficients by layer in place of tensor; their base is the one they name, also if `base` is None.

    Raises:
        SoupError: if there is no model, `share` is not finite, the models do not fit each other or the base, or a
            tensor holds NaN or infinity.
    """
    from salsa.soup.geometry import grams

    _check_finite("share", [share])
    _require(len(models) >= 1, "models", [], "a soup needs a model")
    found = {name: arc(gram.tolist(), share) for name, gram in grams(base, models, progress)}
    # What has no task vector - whole numbers, the head of a reward model's adapter - has no angle.
    straight = arc([[0.0] * len(models)] * len(models), share)

    def coefficients(name: str) -> list[float]:
        changes = found.get(name, straight)
        return [*changes, 1.0 - sum(changes)]

    return coefficients


def arc(gram: Sequence[Sequence[float]], share: float) -> list[float]:
    """Return the coefficients of task vectors, given by their inner products, in their spherical interpolation."""
    merge = [1.0] + [0.0] * (len(gram) - 1)
    for index in range(1, len(gram)):
        part = share if index == 1 else 1.0 / (index + 1)
        square = _square(gram, merge)
        inner = sum(scale * row[index] for scale, row in zip(merge, gram, strict=True))
        before, new = _turned(square, gram[index][index], inner, part)
        merge = [scale * before for scale in merge]
        merge[index] = new
    return merge


def _turned(first: float, second: float, inner: float, share: float) -> tuple[float, float]:
    """Return the coefficients of two vectors, given by their squared norms and inner product, on the arc between."""
    size = math.sqrt(first) * math.sqrt(second)
    if size > 0:
        angle = math.acos(max(-1.0, min(1.0, inner / size)))
        sine = math.sin(angle)
        if sine >= _LEAST_SINE:
            return math.sin((1.0 - share) * angle) / sine, math.sin(share * angle) / sine
    return 1.0 - share, share


def _square(gram: Sequence[Sequence[float]], vector: Sequence[float]) -> float:
    """Return the squared norm of a combination of vectors; 0 where only rounding is left of it."""
    terms = [a * b * value for a, row in zip(vector, gram, strict=True) for b, value in zip(vector, row, strict=True)]
    square = math.fsum(terms)
    return square if square > _CANCELLED * math.fsum(map(abs, terms)) else 0.0


def _part_of_the_way(merge: Sequence[float], eta: float) -> list[float]:
    *models, base = merge
    return [*(eta * weight for weight in models), eta * base + (1.0 - eta)]


def _check_finite(name: str, values: Sequence[float]) -> None:
    _require(len(values) >= 1, name, list(values), "a soup needs a model")
    _require(all(map(math.isfinite, values)), name, list(values), "give finite numbers")


def _require(condition: bool, name: str, value: object, fix: str) -> None:
    if not condition:
        from salsa.soup.checkpoint import SoupError

        raise SoupError(f"{name}={value}: {fix}")
