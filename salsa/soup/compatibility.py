"""Whether models can be averaged: same architecture, tokenizer, chat template, tensors; weights that sum to 1."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from salsa.soup.checkpoint import Checkpoint, SoupError

CHAT_TEMPLATE = "chat_template.jinja"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "added_tokens.json",
)

# Entries of config.json that say where a model came from or how it is run, not what it is.
_NOT_ARCHITECTURE = ("_name_or_path", "transformers_version", "use_cache", "dtype", "torch_dtype")


def check_weights(folders: Sequence[Path], weights: Sequence[float], any_sum: bool = False) -> None:
    """Raise SoupError unless there is one finite weight for each model, and their sum is 1 (or may be anything)."""
    if not folders or len(folders) != len(weights):
        raise SoupError(f"a soup needs one weight for each model, got {len(folders)} models and {len(weights)} weights")
    if not all(math.isfinite(weight) for weight in weights) or not any(weights):
        raise SoupError(
            f"the weights of a soup must be finite, and one of them not 0; they must sum to 1: {list(weights)}"
        )
    if not any_sum and abs(sum(weights) - 1) > 1e-6:
        raise SoupError(f"the weights of a soup must sum to 1, got {list(weights)} (sum {sum(weights):g})")


def check_settings(first: Path, other: Path, templates: bool = True) -> None:
    """Raise SoupError for models whose architecture, tokenizer or chat template differ.

    Unless `templates`, one of them may have no chat template.
    """
    _check_json(first, other, "config.json", "architecture", _NOT_ARCHITECTURE)
    # How a text was last padded or cut is stored with the tokenizer and means nothing here.
    _check_json(first, other, "tokenizer.json", "tokenizer", ("padding", "truncation"))
    for name in TOKENIZER_FILES[1:]:
        if _bytes(first / name) != _bytes(other / name):
            raise SoupError(f"the tokenizers differ: {name} of {first} is not that of {other}")
    ours, theirs = _chat_template(first), _chat_template(other)
    if ours != theirs and (templates or not (ours is None or theirs is None)):
        raise SoupError(f"the chat templates of {first} and {other} differ")


def check_forms(first: Checkpoint, other: Checkpoint, formats: bool = True) -> None:
    """Raise SoupError for weights whose names or shapes differ, or their number formats; floating ones if `formats`."""
    only = sorted(set(first.entries) ^ set(other.entries))
    if only:
        holder = first if only[0] in first.entries else other
        raise SoupError(f"{only[0]} is a tensor of {holder.folder} only, not of both {first.folder} and {other.folder}")
    for name, one in first.entries.items():
        two = other.entries[name]
        if one.shape != two.shape:
            raise SoupError(
                f"the tensor {name} has shape {list(one.shape)} in {first.folder} and {list(two.shape)} in "
                f"{other.folder}"
            )
        if one.dtype != two.dtype and (formats or not (one.floating and two.floating)):
            raise SoupError(
                f"the tensor {name} has the number format {one.dtype} in {first.folder} and {two.dtype} in "
                f"{other.folder}; save both in the same one"
            )


def _check_json(first: Path, other: Path, name: str, noun: str, ignored: Sequence[str]) -> None:
    if _bytes(first / name) == _bytes(other / name):
        return  # a tokenizer of many megabytes need not be parsed
    contents = []
    for folder in (first, other):
        content = _json(folder / name) or {}
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


def _chat_template(folder: Path) -> Any:
    text = _bytes(folder / CHAT_TEMPLATE)
    if text is not None:
        return text.decode()
    settings = _json(folder / "tokenizer_config.json")
    return None if settings is None else settings.get("chat_template")


def _json(path: Path) -> dict[str, Any] | None:
    """Return the object that a settings file holds; None if there is no such file."""
    text = _bytes(path)
    if text is None:
        return None
    try:
        content = json.loads(text)
    except ValueError as error:
        raise SoupError(f"{path} is not valid JSON ({error}); save or download the model again") from error
    if not isinstance(content, dict):
        raise SoupError(f"{path} holds no object; save or download the model again")
    return content


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
