"""Weighted averages of models ("soups", Wortsman et al., arXiv:2203.05482), and where models lie around their base."""

import itertools
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from salsa.models.source import resolve
from salsa.soup.checkpoint import INDEX, SoupError, Tensors, Writer, opened, weight_files

__all__ = ["SHARD_BYTES", "SoupError", "TaskVectors", "average", "task_vectors"]

SHARD_BYTES = 4 * 2**30
"""Most bytes of one file of a soup, and so about the memory that making one takes."""

CHAT_TEMPLATE = "chat_template.jinja"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json")
SETTINGS_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    CHAT_TEMPLATE,
    *TOKENIZER_FILES,
)

# Entries of config.json that say where a model came from or how it is run, not what it is.
_NOT_ARCHITECTURE = ("_name_or_path", "transformers_version", "use_cache", "dtype", "torch_dtype")


def average(folders: Sequence[Path], weights: Sequence[float], out: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Write the model sum_i weights[i] * theta_i to the folder `out`, with the settings files of the first model.

    Sums are taken in float64, with compensation, and rounded once to the number format of the ingredients, so that a
    soup of copies is the model itself, bit for bit, and the order of the ingredients does not matter. Tensors are read
    one at a time; tied tensors, which are stored once, stay tied; integer and bool tensors must agree and are copied.
    If one weight is 1 and the others are 0 the files are copied as they are. A folder may hold a pointer instead of
    files. Weights may be negative (extrapolation).

    Raises:
        SoupError: if the weights do not sum to 1, or the models differ in architecture, tokenizer, chat template,
            names, shapes or formats of tensors (the first difference is named), or a tensor is not finite.
    """
    check_weights(folders, weights)
    sources = [resolve(Path(folder)) for folder in folders]
    for other in sources[1:]:
        check_settings(sources[0], other)
    used = [(source, weight) for source, weight in zip(sources, weights, strict=True) if weight != 0]
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        models = [stack.enter_context(opened(source)) for source in sources]
        for model in models[1:]:
            _check_forms(models[0], model)
        ingredients = [model for model, weight in zip(models, weights, strict=True) if weight != 0]
        if len(used) == 1:
            _copy_weights(ingredients[0], out)
        else:
            _mix(ingredients, [weight for _, weight in used], Writer(out, shard_bytes))
    copy_settings(sources[0], out)


def copy_settings(source: Path, out: Path) -> None:
    """Copy configuration, tokenizer and chat template of a model."""
    for name in SETTINGS_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)


@dataclass(frozen=True)
class TaskVectors:
    """How models differ from their common base: task vector i is theta_i - theta_base, over all floating tensors.

    `norms` [models] are Euclidean; `cosines` [models][models] are of the angles between task vectors (None where one
    of them is zero); `distances` [models][models] are Euclidean between the models.
    """

    norms: tuple[float, ...]
    cosines: tuple[tuple[float | None, ...], ...]
    distances: tuple[tuple[float, ...], ...]


def task_vectors(base: Path, folders: Sequence[Path]) -> TaskVectors:
    """Measure the task vectors of models that were trained from `base`, reading one tensor of each at a time.

    The base may have another number format: published weights in half precision are fine-tuned in float32.

    Raises:
        SoupError: if the models differ in names or shapes of tensors.
    """
    with ExitStack() as stack:
        origin = stack.enter_context(opened(resolve(Path(base))))
        models = [stack.enter_context(opened(resolve(Path(folder)))) for folder in folders]
        for model in models:
            _check_forms(origin, model, formats=False)
        return measured(len(folders), _changes(origin, models))


def _changes(origin: Tensors, models: Sequence[Tensors]) -> Iterator[list[torch.Tensor]]:
    """Yield, tensor by tensor, how each model differs from their common base."""
    for name in origin.files:
        centre = origin.read(name)
        if centre.is_floating_point():
            yield [model.read(name).double() - centre.double() for model in models]


def measured(count: int, changes: Iterable[Sequence[torch.Tensor]]) -> TaskVectors:
    """Return the geometry of `count` task vectors, given in float64 and in parts: for each tensor one a model."""
    gram = torch.zeros(count, count, dtype=torch.float64)
    squares = torch.zeros(count, count, dtype=torch.float64)
    for part in changes:
        steps = [step.flatten() for step in part]
        for i, j in itertools.combinations_with_replacement(range(count), 2):
            gram[i, j] = gram[j, i] = gram[i, j] + torch.dot(steps[i], steps[j])
            # Summed on their own: the difference of large inner products would drown a small distance.
            squares[i, j] = squares[j, i] = squares[i, j] + (steps[i] - steps[j]).square().sum()
    norms = gram.diagonal().sqrt().tolist()
    cosines = tuple(
        tuple(float(gram[i, j]) / (norms[i] * norms[j]) if norms[i] * norms[j] else None for j in range(count))
        for i in range(count)
    )
    return TaskVectors(tuple(norms), cosines, tuple(tuple(row) for row in squares.sqrt().tolist()))


def _mix(models: Sequence[Tensors], weights: Sequence[float], writer: Writer) -> None:
    """Write the weighted sum; leave nothing behind if it fails."""
    try:
        for name in models[0].files:
            writer.add(name, _mixed(name, models, weights))
        writer.close()
    except BaseException:
        writer.discard()
        raise


def _mixed(name: str, models: Sequence[Tensors], weights: Sequence[float]) -> torch.Tensor:
    first = models[0].read(name)
    if not first.is_floating_point():
        for model in models[1:]:
            if not torch.equal(first, model.read(name)):
                raise SoupError(
                    f"the integer tensor {name} differs between {models[0].folder} and {model.folder}, "
                    "and integers have no average"
                )
        return first
    total = torch.zeros(first.shape, dtype=torch.float64)
    lost = torch.zeros_like(total)
    for model, weight in zip(models, weights, strict=True):
        # Compensated summation (Knuth's two-sum): an average often lies half-way between two numbers of the format,
        # and there the last bit of a plain sum, which depends on the order of the models, would decide.
        term = _finite(name, model) * weight
        grown = total + term
        part = grown - total
        lost += (total - (grown - part)) + (term - part)
        total = grown
    return (total + lost).to(first.dtype)


def _finite(name: str, model: Tensors) -> torch.Tensor:
    tensor = model.read(name).double()
    if not torch.isfinite(tensor).all():
        raise SoupError(f"the tensor {name} of {model.folder} holds NaN or infinity; train that model again")
    return tensor


def _copy_weights(model: Tensors, out: Path) -> None:
    for name in model.files:
        if model.read(name).is_floating_point():
            _finite(name, model)
    names = [file.name for file in weight_files(model.folder)]
    for name in [*names, INDEX]:
        if (model.folder / name).is_file():
            shutil.copyfile(model.folder / name, out / name)


def check_weights(folders: Sequence[Path], weights: Sequence[float]) -> None:
    """Raise SoupError unless there is one weight for each model, and their sum is 1."""
    if not folders or len(folders) != len(weights):
        raise SoupError(f"a soup needs one weight for each model, got {len(folders)} models and {len(weights)} weights")
    if not all(math.isfinite(weight) for weight in weights) or abs(sum(weights) - 1) > 1e-6:
        raise SoupError(f"the weights of a soup must sum to 1, got {list(weights)} (sum {sum(weights):g})")


def check_settings(first: Path, other: Path) -> None:
    """Raise SoupError for models whose architecture, tokenizer or chat template differ."""
    _check_json(first, other, "config.json", "architecture", _NOT_ARCHITECTURE)
    # How a text was last padded or cut is stored with the tokenizer and means nothing here.
    _check_json(first, other, "tokenizer.json", "tokenizer", ("padding", "truncation"))
    for name in TOKENIZER_FILES[1:]:
        if _bytes(first / name) != _bytes(other / name):
            raise SoupError(f"the tokenizers differ: {name} of {first} is not that of {other}")
    if _chat_template(first) != _chat_template(other):
        raise SoupError(f"the chat templates of {first} and {other} differ")


def _check_json(first: Path, other: Path, name: str, noun: str, ignored: Sequence[str]) -> None:
    contents = []
    for folder in (first, other):
        content = json.loads(text) if (text := _bytes(folder / name)) is not None else {}
        contents.append({key: value for key, value in content.items() if key not in ignored})
    difference = _difference(contents[0], contents[1], "")
    if difference:
        raise SoupError(f"the {noun}s of {first} and {other} differ ({name}): {difference}")


def _difference(first: Any, other: Any, path: str) -> str | None:
    """Return where two JSON values first differ, and how; None if they are equal."""
    if isinstance(first, dict) and isinstance(other, dict):
        for key in [*first, *(key for key in other if key not in first)]:
            if key not in first or key not in other:
                return f"{path}{key} is only in the {'first' if key in first else 'second'}"
            if found := _difference(first[key], other[key], f"{path}{key}."):
                return found
        return None
    if isinstance(first, list) and isinstance(other, list) and len(first) == len(other):
        pairs = enumerate(zip(first, other, strict=True))
        return next((found for i, (a, b) in pairs if (found := _difference(a, b, f"{path}{i}."))), None)
    if first == other:
        return None
    return f"{path.removesuffix('.')} is {_short(first)} and {_short(other)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _chat_template(folder: Path) -> str | None:
    text = _bytes(folder / CHAT_TEMPLATE)
    if text is not None:
        return text.decode()
    settings = _bytes(folder / "tokenizer_config.json")
    return None if settings is None else json.loads(settings).get("chat_template")


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _check_forms(first: Tensors, other: Tensors, formats: bool = True) -> None:
    """Refuse weights whose names or shapes differ, or their number formats, if those count."""
    only = sorted(set(first.files) ^ set(other.files))
    if only:
        holder = first if only[0] in first.files else other
        raise SoupError(f"{only[0]} is a tensor of {holder.folder} only, not of both {first.folder} and {other.folder}")
    for name in first.files:
        (format_a, shape_a), (format_b, shape_b) = first.form(name), other.form(name)
        if shape_a != shape_b:
            raise SoupError(
                f"the tensor {name} has shape {list(shape_a)} in {first.folder} and {list(shape_b)} in {other.folder}"
            )
        if formats and format_a != format_b:
            raise SoupError(
                f"the tensor {name} has the number format {format_a} in {first.folder} and {format_b} in "
                f"{other.folder}; save both in the same one"
            )
