"""The greedy soup: models are tried best first, and one is kept only if the mean with it is better than without.

Wortsman et al., arXiv:2203.05482, recipe 1. As in their program, better is strictly better: a copy of an ingredient
adds nothing, and is left out.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher"]
"""Which of two scores is better: the lower one (a loss) or the higher one (a reward)."""
Score = Callable[[Sequence[float]], float]
"""The held-out score of the soup with the given weights, one a model."""


@dataclass(frozen=True)
class Decision:
    """Whether a model was taken: `score` is that of the mean with it, `best` the one to beat (None for the first)."""

    ingredient: int
    name: str
    score: float
    best: float | None
    taken: bool


@dataclass(frozen=True)
class Selection:
    """A greedy soup: its `weights` (one a model, 0 for those left out), its `score`, and how it came about.

    `alone` are the scores of the models by themselves; `order` are their indices, best first, in which `decisions`
    were made.
    """

    weights: tuple[float, ...]
    score: float
    alone: tuple[float, ...]
    order: tuple[int, ...]
    decisions: tuple[Decision, ...]


def greedy(names: Sequence[str], score: Score, better: Better) -> Selection:
    """Choose among models, known by `names`, those whose mean is never worse than the best model alone.

    Models with equal scores are tried in the order given. `score` is asked once for each model by itself and once for
    each mean that is tried. It should not see the data of the final evaluation.

    Raises:
        ValueError: if there is no model, `better` is neither "lower" nor "higher", or a score is not finite.
    """
    if not names:
        raise ValueError("a greedy soup needs a model to begin with, got none")
    if better not in ("lower", "higher"):
        raise ValueError(f'better={better!r}: give "lower" for a loss or "higher" for a reward')
    sign = 1.0 if better == "higher" else -1.0
    alone = tuple(_measured(names, [index], score) for index in range(len(names)))
    order = sorted(range(len(names)), key=lambda index: -sign * alone[index])
    taken, best = [order[0]], alone[order[0]]
    decisions = [Decision(order[0], names[order[0]], best, None, True)]
    for index in order[1:]:
        found = _measured(names, [*taken, index], score)
        keep = sign * found > sign * best
        decisions.append(Decision(index, names[index], found, best, keep))
        if keep:
            taken.append(index)
            best = found
    return Selection(_mean(taken, len(names)), best, alone, tuple(order), tuple(decisions))


def _measured(names: Sequence[str], indices: Sequence[int], score: Score) -> float:
    """Return the score of the mean of some models."""
    value = float(score(_mean(indices, len(names))))
    if not math.isfinite(value):
        trial = " + ".join(names[index] for index in indices)
        raise ValueError(f"the score of {trial} is {value}; leave out a model that gives such a score, or mend it")
    return value


def _mean(indices: Sequence[int], count: int) -> tuple[float, ...]:
    return tuple(1.0 / len(indices) if index in indices else 0.0 for index in range(count))
