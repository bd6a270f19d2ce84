"""The plan of a soup: its models found and compared, its size known, room for it at hand; no weight is read for it."""

import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from salsa.models.source import ADAPTER_CONFIGURATION, ADAPTER_WEIGHTS, UnavailableModelError
from salsa.soup import formats, recipes, writer
from salsa.soup.average import SHARD_BYTES
from salsa.soup.checkpoint import Checkpoint, SoupError, opened, opened_files
from salsa.soup.compatibility import check_forms, check_settings
from salsa.soup.draft import Draft, DraftError, standing
from salsa.soup.ingredients import Ingredient, IngredientError, gathered, located
from salsa.soup.request import RECIPES, Request, UsageError
from salsa.soup.trials import Heldout, read
from salsa.store.quantities import shown_size


@dataclass(frozen=True)
class Size:
    """How large a model is: its tensors, and the bytes and number of the files that hold them."""

    tensors: int
    bytes: int
    files: int


@dataclass(frozen=True)
class Plan:
    """What is made of which models, as far as can be told without reading weights."""

    request: Request
    models: tuple[Ingredient, ...]
    base: Ingredient | None
    heldout: Heldout | None
    size: Size

    @property
    def adapters(self) -> bool:
        """Whether the models are LoRA adapters."""
        return self.models[0].base is not None

    @property
    def weights(self) -> list[float] | None:
        """The weights of the models, and last that of the base where the recipe reads it.

        None where only measuring the models tells them, or each tensor has its own.
        """
        request, count = self.request, len(self.models)
        if request.recipe == "uniform":
            return recipes.uniform(count)
        if request.weights is not None:
            return recipes.weighted(request.weights, any_sum=request.any_sum)
        if request.alpha is not None:
            return recipes.line(request.alpha)
        if request.scales is not None:
            return recipes.task_arithmetic(request.scales)
        if request.merge == "uniform" and request.eta is not None:
            return recipes.liti(recipes.over_base(recipes.uniform(count)), request.eta)
        return None


def planned(request: Request) -> Plan:
    """Find the models and check all that can be checked without reading weights.

    Raises:
        UsageError: if a base is missing, or named where adapters name theirs.
        IngredientError, UnavailableModelError: if a model is missing, or of another kind than the others.
        SoupError: if models differ in architecture, tokenizer, chat template, or tensors.
        DataError: if the held-out rows of a greedy soup cannot be read.
        DraftError: if the soup cannot be put where it is asked for.
    """
    draft = None if request.out is None else Draft(request.out, replace=request.force)
    if draft is not None:
        draft.check()
    models = gathered(request.models, download=not request.dry_run)
    base = None if request.base is None else located(request.base, download=not request.dry_run)
    _check_base(request, models[0], base)
    heldout = None if request.validation is None else read(request.validation)
    size = _adapters_size(models) if models[0].base else _models_size(request, models, base)
    if draft is not None:
        _check_apart(draft, [*models, *([base] if base else [])])
        _check_room(draft, size)
    return Plan(request, models, base, heldout, size)


def _check_base(request: Request, first: Ingredient, base: Ingredient | None) -> None:
    recipe = request.recipe
    if first.base is None:
        if base is None and request.out is not None and "base" in RECIPES[recipe]:
            raise UsageError(f"--base is missing: --recipe {recipe} needs the model that all were trained from")
        if base is not None and base.base is not None:
            raise IngredientError(f"--base {base.name} is a LoRA adapter; give the full model that all come from")
        return
    if base is not None:
        raise UsageError(f"--base {base.name}: adapters name their base themselves ({first.base}); leave --base out")
    if request.any_sum and abs(sum(request.weights or ()) - 1) > 1e-6:
        raise UsageError(
            "--any-sum: the base of adapters is in each model once, so only weights that sum to 1 make an adapter; "
            "scale what the models learnt with --recipe task_arithmetic --scales"
        )
    if recipe == "greedy" and first.base.folder is None:
        raise IngredientError(
            f"--recipe greedy tries each soup, and the base of the adapters, {first.base}, is not on this machine; get "
            f"it with `hf download {first.base.name}`"
        )


def _models_size(request: Request, models: Sequence[Ingredient], base: Ingredient | None) -> Size:
    """Compare full models and return the size of their soup."""
    averaged = request.out is not None and "base" not in RECIPES[request.recipe]
    first = models[0]
    for other in models[1:]:
        check_settings(first.folder, other.folder, averaged)
    if base is not None:
        check_settings(first.folder, base.folder, False)
    with ExitStack() as stack:
        checkpoints = [stack.enter_context(opened(model.folder)) for model in models]
        for checkpoint in checkpoints[1:]:
            check_forms(checkpoints[0], checkpoint, formats=averaged)
        if base is not None:
            checkpoints.append(stack.enter_context(opened(base.folder)))
            check_forms(checkpoints[0], checkpoints[-1], formats=False)
        _check_formats(checkpoints)
        return _laid_out(request, checkpoints)


def _laid_out(request: Request, models: Sequence[Checkpoint]) -> Size:
    entries = models[0].entries
    weights = request.weights or ()
    if sum(weight != 0 for weight in weights) == 1 and 1 in weights:
        layout = writer.copied(models[weights.index(1)])
    else:
        forms = [(entry.name, entry.dtype, entry.shape) for entry in entries.values()]
        layout = writer.planned(forms, request.shard_bytes or SHARD_BYTES)
    return Size(len(entries), sum(shard.bytes for shard in layout.shards), len(layout.shards))


def _check_formats(checkpoints: Iterable[Checkpoint]) -> None:
    for checkpoint in checkpoints:
        for entry in checkpoint.entries.values():
            if not (entry.floating or entry.dtype in formats.WHOLE):
                raise SoupError(
                    f"the tensor {entry.name} of {checkpoint.folder} has the number format {entry.dtype}; only "
                    f"{', '.join(formats.FLOATING)} have averages: save the model in one of them"
                )


def _adapters_size(models: Sequence[Ingredient]) -> Size:
    """Compare adapters and return the size of their soup, whose ranks add up: at most that of all together."""
    names: set[str] = set()
    total = 0
    for model in models:
        file = model.folder / ADAPTER_WEIGHTS
        if not file.is_file():
            raise UnavailableModelError(
                f"{model.folder} holds {ADAPTER_CONFIGURATION} but no {ADAPTER_WEIGHTS}; save the adapter again"
            )
        check_settings(models[0].folder, model.folder)
        with opened_files(model.folder, [file]) as checkpoint:
            names.update(checkpoint.entries)
            total += file.stat().st_size
    return Size(len(names), total, 1)


def _check_apart(draft: Draft, models: Iterable[Ingredient]) -> None:
    """Refuse a place in a model, and one that holds a model: that would be replaced before it is known to be right."""
    for model in models:
        for folder in (model.folder, model.base.folder if model.base else None):
            if folder is None:
                continue
            real = Path(os.path.realpath(folder))
            if draft.out.is_relative_to(real):
                raise DraftError(f"--out {draft.shown} lies in the folder of {model.name}; give a folder elsewhere")
            if real.is_relative_to(draft.out):
                raise DraftError(f"--out {draft.shown} holds the folder of {model.name}; give a folder elsewhere")


def _check_room(draft: Draft, size: Size) -> None:
    free = free_bytes(draft)
    if size.bytes > free:
        raise DraftError(
            f"--out {draft.shown}: the soup takes {shown_size(size.bytes)}, and {shown_size(free)} are free on that "
            f"disk; make room for {shown_size(size.bytes - free)} more, or give a folder on another disk"
        )


def free_bytes(draft: Draft) -> int:
    """Return how much room there is where the folder will be."""
    return shutil.disk_usage(standing(draft.out.parent)).free
