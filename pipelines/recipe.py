"""Recipes of the soup: the schema of `soup=`, the SFT models each one needs, and what its result is known by.

Imports no torch.
"""

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from pipelines.choices import Criterion, Merge
from pipelines.ranges import require
from salsa.soup import recipes


def _require_models(at: str, ingredients: int, least: int = 2) -> None:
    require(ingredients >= least, f"{at}.ingredients", ingredients, f"a soup needs at least {least} SFT models")


@dataclass
class LineSoup:
    """A point between SFT1 and SFT2."""

    alpha: float = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        require(
            0 <= self.alpha <= 1,
            f"{at}.alpha",
            self.alpha,
            "is the weight of SFT2 and must be in [0, 1] (0 is plain PPO)",
        )


@dataclass
class WeightedSoup:
    """SFT models with a weight each."""

    weights: list[float] = MISSING
    any_sum: bool = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        require(len(self.weights) >= 1, f"{at}.weights", self.weights, "give a weight for each SFT model")
        total = sum(self.weights)
        require(
            self.any_sum or abs(total - 1) <= 1e-6,
            f"{at}.weights",
            self.weights,
            f"must sum to 1, got {total:g} ({at}.any_sum=true takes any)",
        )
        require(any(self.weights), f"{at}.weights", self.weights, "are all zero; there is no such model")


@dataclass
class UniformSoup:
    """The mean of SFT models."""

    ingredients: int = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        _require_models(at, self.ingredients, least=1)


@dataclass
class GreedySoup:
    """The mean of the SFT models that make it better one by one (Wortsman et al. 2022)."""

    ingredients: int = MISSING
    by: Criterion = MISSING
    prompts: int = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        _require_models(at, self.ingredients)
        require(self.prompts >= 2, f"{at}.prompts", self.prompts, "must be at least 2")


@dataclass
class SlerpSoup:
    """Task vectors turned into each other on the sphere (WARP, Rame et al. 2024)."""

    ingredients: int = MISSING
    share: float = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        _require_models(at, self.ingredients)
        require(0 <= self.share <= 1, f"{at}.share", self.share, "is the weight of SFT2 and must be in [0, 1]")


@dataclass
class LitiSoup:
    """A merge of SFT models, part of the way back to the base (WARP, Rame et al. 2024)."""

    ingredients: int = MISSING
    merge: Merge = MISSING
    eta: float = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        _require_models(at, self.ingredients, least=1)


@dataclass
class TaskArithmeticSoup:
    """The base plus scaled task vectors (Ilharco et al. 2023)."""

    scales: list[float] = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        require(len(self.scales) >= 1, f"{at}.scales", self.scales, "give a factor for each SFT model")
        require(any(self.scales), f"{at}.scales", self.scales, "are all zero: that is the base (reference=base)")


Soup = LineSoup | WeightedSoup | UniformSoup | GreedySoup | SlerpSoup | LitiSoup | TaskArithmeticSoup
SCHEMAS: dict[str, type[Soup]] = {
    "line": LineSoup,
    "weighted": WeightedSoup,
    "uniform": UniformSoup,
    "greedy": GreedySoup,
    "slerp": SlerpSoup,
    "liti": LitiSoup,
    "task_arithmetic": TaskArithmeticSoup,
}
"""The options of `soup=` and their keys."""


def ingredients(soup: Soup) -> int:
    """Return how many SFT models a soup is made of."""
    if isinstance(soup, LineSoup):
        return 2
    if isinstance(soup, WeightedSoup):
        return len(soup.weights)
    return len(soup.scales) if isinstance(soup, TaskArithmeticSoup) else soup.ingredients


def weights(soup: Soup) -> list[float] | None:
    """Return the weights of the SFT models and, last, of the base, where these are the whole recipe; else None.

    So different recipes of one and the same model share one artifact.
    """
    if isinstance(soup, LineSoup):
        return recipes.over_base(recipes.line(soup.alpha))
    if isinstance(soup, WeightedSoup):
        return recipes.over_base(recipes.weighted(soup.weights, any_sum=soup.any_sum))
    if isinstance(soup, UniformSoup):
        return recipes.over_base(recipes.uniform(soup.ingredients))
    if isinstance(soup, TaskArithmeticSoup):
        return recipes.task_arithmetic(soup.scales)
    if isinstance(soup, LitiSoup) and (soup.merge is Merge.uniform or soup.ingredients == 1 or soup.eta == 0):
        return list(recipes.liti(recipes.over_base(recipes.uniform(soup.ingredients)), soup.eta))
    if isinstance(soup, SlerpSoup) and soup.ingredients == 2 and soup.share in (0, 1):
        return recipes.over_base(recipes.line(soup.share))
    return None


def heading(soup: Soup) -> dict[str, Any]:
    """Return what a report says of a soup in its title."""
    return {"alpha": float(soup.alpha)} if isinstance(soup, LineSoup) else {"soup": title(soup)}


def title(soup: Soup) -> str:
    """Return what a soup is called."""
    if isinstance(soup, LineSoup):
        return f"alpha {soup.alpha:g}"
    count = ingredients(soup)
    if isinstance(soup, WeightedSoup):
        return f"soup of {' : '.join(f'{weight:g}' for weight in soup.weights)}"
    if isinstance(soup, UniformSoup):
        return f"uniform soup of {count}"
    if isinstance(soup, GreedySoup):
        return f"greedy soup of up to {count} by {soup.by.value}"
    if isinstance(soup, SlerpSoup):
        return f"slerp of {count} task vectors, share {soup.share:g}"
    if isinstance(soup, LitiSoup):
        return f"{soup.merge.value} soup of {count}, {soup.eta:g} of the way from the base"
    return f"task vectors times {', '.join(f'{scale:g}' for scale in soup.scales)}"


def settings(soup: Soup) -> dict[str, Any]:
    """Return the recipe of a soup that no fixed weights describe, as its stage reads it."""
    if isinstance(soup, GreedySoup):
        return {"recipe": "greedy", "by": soup.by.value, "prompts": soup.prompts}
    if isinstance(soup, SlerpSoup):
        return {"recipe": "slerp", "share": float(soup.share)}
    assert isinstance(soup, LitiSoup)
    if soup.eta == 1:
        return {"recipe": "slerp", "share": 0.5}
    return {"recipe": "liti", "merge": soup.merge.value, "eta": float(soup.eta)}
