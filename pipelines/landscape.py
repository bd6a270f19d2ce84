"""Landscapes: the schema of `landscape=`, and the stages that evaluate soups on a line and on a plane through models.

Imports no torch.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from pipelines.plan import Plan, Stage
from pipelines.ranges import require

SFT = re.compile(r"sft_([1-9]\d*)")
"""Name of an SFT model; there are as many as are asked for."""

Model = tuple[str, Stage]
"""A model's name in tables and its stage."""


@dataclass
class Landscape:
    """Points on the line through two models, and on the plane through three."""

    models: list[str] = MISSING
    intervals: int = MISSING
    beyond: float = MISSING
    plane_intervals: int = MISSING
    plane_beyond: float = MISSING
    suite: str = MISSING
    prompts: int = MISSING
    documents: int = MISSING
    policies: bool = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        require(len(self.models) in (0, 2, 3), f"{at}.models", self.models, "name two models, three, or none: []")
        require(len(set(self.models)) == len(self.models), f"{at}.models", self.models, "names a model twice")
        for key, most in (("intervals", 1000), ("plane_intervals", 50)):
            value = getattr(self, key)
            require(
                1 <= value <= most, f"{at}.{key}", value, f"must be in [1, {most}]: every point is a model to measure"
            )
        for key in ("beyond", "plane_beyond"):
            require(0 <= getattr(self, key) <= 5, f"{at}.{key}", getattr(self, key), "must be in [0, 5]")
        for key in ("prompts", "documents"):
            require(getattr(self, key) >= 2, f"{at}.{key}", getattr(self, key), "must be at least 2")


@dataclass(frozen=True)
class Points:
    """Adds points to a plan: what all of them are evaluated with, and the inputs beside their models."""

    plan: Plan
    config: Mapping[str, Any]
    inputs: Mapping[str, Stage]

    def add(self, models: Sequence[Model], weights: Sequence[float]) -> Stage:
        """Add a point; models of weight 0 are no part of it, so that points of a line are also those of an edge."""
        used = [(name, stage, weight) for (name, stage), weight in zip(models, weights, strict=True) if weight != 0]
        says = " + ".join(name if weight == 1 else f"{weight:.3g} {name}" for name, _, weight in used)
        # In an order of their own: a point is the same one whichever end a line begins at.
        used.sort(key=lambda each: each[1].fingerprint)
        config = dict(self.config) | {"weights": [weight for _, _, weight in used]}
        inputs = {f"ingredient_{index}": stage for index, (_, stage, _) in enumerate(used, start=1)}
        return self.plan.add("point", f"point {says.replace('+ -', '- ')}", config, inputs | dict(self.inputs))


def model(name: str, named: Mapping[str, Model], sft: Callable[[int], Stage]) -> Model:
    """Return a model by its name in the configuration, with its name in tables; SFT models are made as asked for.

    Raises `ConfigurationError` for an unknown name.
    """
    if found := SFT.fullmatch(name):
        return f"SFT{found[1]}", sft(int(found[1]))
    there_are = ", ".join(["sft_1", "sft_2", "...", *named])
    require(name in named, "landscape.models", name, f"there is no such model; there are {there_are}")
    return named[name]


def check_span(models: Sequence[Model], soup: Stage) -> None:
    """Raise `ConfigurationError` for models that span no line or plane, as far as a plan can tell."""
    names = [name for name, _ in models]
    stages = [stage.fingerprint for _, stage in models]
    for index, stage in enumerate(stages):
        same = f"{names[index]} is {names[stages.index(stage)]}; name models that differ"
        require(stages.index(stage) == index, "landscape.models", names, same)
    own = {stage for role, stage in soup.inputs.items() if role.startswith("ingredient_")}
    average = soup.config.get("recipe") == "average" and "base_weight" not in soup.config
    on_line = len(models) == 3 and soup.fingerprint in stages and average and own <= set(stages)
    require(not on_line, "landscape.models", names, "the soup lies on the line between the others; name another model")


def add(
    points: Points,
    landscape: Landscape,
    drawing: Mapping[str, Any],
    models: Sequence[Model],
    policies: Mapping[str, Stage],
    base: Stage,
) -> Stage:
    """Add the points of a landscape and the stage that draws it; return the latter.

    `drawing` is what that stage reads beside the points; `policies` are the trained models by their names in tables.
    """
    inputs = {f"model_{index}": stage for index, (_, stage) in enumerate(models, start=1)} | {"base": base}
    shapes: dict[str, list[dict[str, Any]]] = {}
    for shape, grid in grids(landscape).items():
        stages = [points.add(models[: len(weights)], weights) for weights in grid]
        keys = [f"point_{stage.fingerprint[:12]}" for stage in stages]
        inputs |= dict(zip(keys, stages, strict=True))
        shapes[shape] = [{"weights": list(weights), "point": key} for weights, key in zip(grid, keys, strict=True)]
    for index, (name, stage) in enumerate(policies.items(), start=1):
        inputs |= {f"policy_{index}": stage, f"policy_{index}_point": points.add([(name, stage)], (1.0,))}
    names = {"models": [name for name, _ in models], "policies": list(policies)}
    return points.plan.add("landscape", "landscape", dict(drawing) | names | shapes, inputs)


def grids(landscape: Landscape) -> dict[str, list[tuple[float, ...]]]:
    """Return the weights of the models at each point of the line, and of the plane if there are three models."""
    # Imported here: NumPy takes longer to start than a plan without landscape takes to make.
    from salsa.soup.landscape import line_grid, plane_grid

    line = {"line": line_grid(landscape.intervals, landscape.beyond)}
    if len(landscape.models) == 2:
        return line
    return line | {"plane": plane_grid(landscape.plane_intervals, landscape.plane_beyond)}
