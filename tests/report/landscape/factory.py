"""Made-up landscapes: models with three weights, quadratic rewards of which every optimum is known, and noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salsa.report.landscape.evidence import Evidence, Geometry, Judge
from salsa.soup.landscape import Weights, line_grid, plane_grid

PROMPTS, SUBJECTS, DOCUMENTS = 240, 60, 80
NAMES = ("SFT1", "SFT2", "SFT3")
POLICIES = ("PPO", "SALSA", "ref SFT2", "start+ref soup")
BASE = np.zeros(6)
MODELS = {
    "SFT1": np.array([4.1, 0.4, 0.3, 0.5, 0.2, 0.1]),
    "SFT2": np.array([0.5, 3.9, 0.2, 0.1, 0.6, 0.2]),
    "SFT3": np.array([0.3, 0.6, 4.4, 0.2, 0.1, 0.5]),
    "PPO": np.array([4.5, 0.5, 0.2, 1.6, 0.2, 0.1]),
    "SALSA": np.array([4.2, 0.9, 0.3, 1.8, 0.9, 0.1]),
    "ref SFT2": np.array([3.9, 1.2, 0.1, 1.7, 1.1, 0.0]),
    "start+ref soup": np.array([2.4, 2.3, 0.2, 1.5, 0.8, 0.2]),
}


@dataclass(frozen=True)
class Vectors:
    norms: Sequence[float]
    cosines: Sequence[Sequence[float | None]]
    distances: Sequence[Sequence[float]]


def vectors(rows: NDArray[np.float64]) -> Vectors:
    """Return the geometry of task vectors that are given as rows."""
    norms = np.linalg.norm(rows, axis=1)
    apart = np.linalg.norm(rows[:, None] - rows, axis=2)
    return Vectors(norms.tolist(), (rows @ rows.T / np.outer(norms, norms)).tolist(), apart.tolist())


def geometry(names: Sequence[str] = NAMES, blocks: int = 4) -> Geometry:
    rng = np.random.default_rng(5)
    layers = ["embed_tokens", *(f"layers.{index}" for index in range(blocks)), "norm", "lm_head"]
    parts = {}
    for number, layer in enumerate(layers):
        size = 0.05 if layer == "norm" else 1 + 0.2 * number
        parts[layer] = vectors(size * (rng.normal(size=(len(names), 200)) / 14 + 0.15 / 14 * rng.normal(size=200)))
    return Geometry("base", names, vectors(np.array([MODELS[name] for name in names])), parts)


def gram(names: Sequence[str]) -> NDArray[np.float64]:
    """Return the inner products of the models' differences to the first of them."""
    rows = np.array([MODELS[name] - MODELS[names[0]] for name in names[1:]])
    return rows @ rows.T


@dataclass(frozen=True)
class World:
    """Prompts and documents whose difficulty is the same at every point, as with common random numbers."""

    prompts: int = PROMPTS
    subjects: int = SUBJECTS
    noise: float = 0.25
    seed: int = 0
    slope: float = 1.0
    """0: all models are equally good."""

    def evaluation(self, theta: NDArray[np.float64]) -> dict[str, Any]:
        """Return the evaluation of the model with these weights: reward falls with the distance from an optimum."""
        shared, own = np.random.default_rng(self.seed), np.random.default_rng(abs(int(1e6 * theta.sum())))
        subjects = np.arange(self.prompts) % self.subjects
        ease = shared.normal(size=self.subjects)[subjects] + shared.normal(size=self.prompts)
        lengths = shared.integers(8, 20, size=self.prompts)
        tokens = shared.integers(40, 90, size=DOCUMENTS)
        hard = shared.gamma(20, 0.05, size=DOCUMENTS)
        far = 0.02 * float((theta - BASE) @ (theta - BASE))
        height = self.slope * quality(theta)
        return {
            "clusters": [f"animal {subject}" for subject in subjects],
            "judge": (height + 0.7 * ease + self.noise * own.normal(size=self.prompts)).tolist(),
            "reward": (0.5 * height - 0.4 + 0.4 * ease + self.noise * own.normal(size=self.prompts)).tolist(),
            "length": lengths.tolist(),
            "ended": [bool(value) for value in own.random(self.prompts) < 0.95],
            "documents": [f"document {number // 2}" for number in range(DOCUMENTS)],
            "loss": (tokens * hard * (1.25 + self.slope * far - 0.1 * height)).tolist(),
            "tokens": tokens.tolist(),
        }


def quality(theta: NDArray[np.float64]) -> float:
    """Return the mean gold reward of a model: best near the middle of the three, and better along the fourth weight."""
    centre = np.array([1.7, 1.6, 1.4])
    return float(1.45 - 0.06 * np.sum((theta[:3] - centre) ** 2) + 0.2 * theta[3])


def soup(weights: Weights) -> NDArray[np.float64]:
    return sum((share * MODELS[name] for share, name in zip(weights, NAMES, strict=False)), start=np.zeros(6))


def evidence(
    models: int = 3,
    policies: Sequence[str] = POLICIES,
    world: World | None = None,
    intervals: tuple[int, int] = (10, 6),
    beyond: tuple[float, float] = (0.5, 1 / 3),
) -> Evidence:
    """Return evidence on a line and a plane with so many intervals, that go so far beyond the models."""
    made = world or World()
    line = {weights: made.evaluation(soup(weights)) for weights in line_grid(intervals[0], beyond[0])}
    grid = plane_grid(intervals[1], beyond[1])
    plane = {weights: made.evaluation(soup(weights)) for weights in grid} if models == 3 else None
    names = NAMES[:models]
    measured = {name: made.evaluation(MODELS[name]) for name in policies}
    own = geometry([*names, *policies])
    return Evidence(names, policies, gram([*names, *policies]), line, plane, measured, own, Judge())


def without(given: Evidence, key: str) -> Evidence:
    """Return the evidence with one quantity left out of every evaluation."""

    def cut(points: Mapping[Any, Mapping[str, Any]]) -> dict[Any, dict[str, Any]]:
        return {name: {own: value for own, value in point.items() if own != key} for name, point in points.items()}

    plane = None if given.plane is None else cut(given.plane)
    return replace(given, line=cut(given.line), plane=plane, measured=cut(given.measured))
