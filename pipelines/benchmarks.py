"""Published benchmarks as suites: the schema of `suite.benchmarks`. Imports no torch."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from pipelines.choices import Question
from pipelines.ranges import require
from salsa.data.suites import name_problem

ALL = "all"
"""Stands for every category in `baselines`."""


@dataclass
class Benchmark:
    """Questions that models answer and a judge reads, with the protocol that goes with them.

    The values here are those of a benchmark of one's own, for which only its questions are named.
    """

    questions: str = MISSING
    references: str | None = None
    reference_categories: list[str] = field(default_factory=list)
    baselines: dict[str, str] = field(default_factory=dict)
    prompts: int | None = None
    temperature: float | None = None
    temperatures: dict[str, float] = field(default_factory=dict)
    max_new_tokens: int | None = None
    kinds: list[Question] = field(default_factory=lambda: [Question.pair])
    levels: int | None = None
    judge_prompts: str | None = None

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        name = at.rpartition(".")[2]
        problem = name_problem(name)
        require(not problem, at, name, f"a suite cannot be called so: {problem}; choose another name")
        categories = self.reference_categories
        require(
            not categories or self.references is not None,
            f"{at}.reference_categories",
            categories,
            f"says for which categories {at}.references counts; name that file, or set this to []",
        )
        if self.prompts is not None:
            require(self.prompts >= 2, f"{at}.prompts", self.prompts, "must be at least 2")
        for key, value in {"temperature": self.temperature, **self.temperatures}.items():
            where = f"{at}.temperature" if key == "temperature" else f"{at}.temperatures.{key}"
            require(value is None or value >= 0, where, value, "must not be negative (0 takes the likeliest token)")
        if self.max_new_tokens is not None:
            require(self.max_new_tokens >= 1, f"{at}.max_new_tokens", self.max_new_tokens, "must be at least 1")
        check_kinds(f"{at}.kinds", self.kinds)
        require(self.levels in (None, 3, 5), f"{at}.levels", self.levels, "our own prompts have 3 or 5 levels")
        require(
            not self.baselines or Question.pair in self.kinds,
            f"{at}.baselines",
            self.baselines,
            f"are for comparing two models; add pair to {at}.kinds",
        )

    def generation(self, usual: dict[str, Any]) -> dict[str, Any]:
        """Return how the questions are answered; what the benchmark leaves open is as `usual`."""
        own = {"temperature": self.temperature, "max_new_tokens": self.max_new_tokens}
        settings = usual | {key: value for key, value in own.items() if value is not None}
        return settings | ({"temperatures": dict(self.temperatures)} if self.temperatures else {})


def check_kinds(at: str, kinds: list[Question]) -> None:
    """Check what a judge is to be asked of a suite."""
    require(len(kinds) > 0, at, [], "name at least one of single and pair")
    require(len(set(kinds)) == len(kinds), at, [kind.value for kind in kinds], "names a kind twice")
