"""Weighted sums of a stage's models as model folders, whether these are full models or adapters over one base."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipelines.work import Work
from salsa.models.source import is_adapter
from salsa.soup.adapters import average_adapters, blend_adapters
from salsa.soup.average import Coefficients, average, combine

TRIAL = "trial"
"""Folder of a model that a stage measures and does not keep, in its unfinished work."""


def write_sum(models: Sequence[Path], weights: Sequence[float], out: Path, way_to_base: str) -> None:
    """Write sum_i w_i model_i to `out`; of adapters, whose weights must sum to 1, one that names `way_to_base`."""
    if is_adapter(models[0]):
        average_adapters(models, weights, out, way_to_base)
    else:
        average(models, weights, out, any_sum=True)


def write_blend(models: Sequence[Path], base: Path, coefficients: Coefficients, out: Path, way_to_base: str) -> None:
    """Write sum_i c_i model_i + c_base base to `out`; `coefficients` are over [*models, base], tensor by tensor.

    Of adapters only the models' coefficients count: the base is what they change.
    """
    if is_adapter(models[0]):
        blend_adapters(models, lambda name: coefficients(name)[:-1], out, way_to_base)
    else:
        combine([*models, base], coefficients, out)


@contextmanager
def trial(work: Work, models: Sequence[Path], weights: Sequence[float]) -> Iterator[Path]:
    """Give the folder of sum_i w_i model_i for as long as it is measured; of one whole model, that model's own."""
    used = [(model, weight) for model, weight in zip(models, weights, strict=True) if weight != 0]
    if len(used) == 1 and used[0][1] == 1:
        yield used[0][0]
        return
    folder = work.unfinished / TRIAL
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        base = str(work.inputs["base"].path) if "base" in work.inputs else ""
        write_sum([model for model, _ in used], [weight for _, weight in used], folder, base)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
