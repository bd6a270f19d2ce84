"""Where a model's files are: in a local folder, in a folder that a pointer names, or on the Hugging Face hub.

Imports neither torch nor the hub's client, so that what is missing is said before any work.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from salsa.hub import HubError, Repository, ask, cache_folder, cached, explain, is_local, obstacle

POINTER = "pointer.json"
ADAPTER_CONFIGURATION = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
MODEL_TYPES = {"llama2": "llama", "mistral": "mistral", "gemma": "gemma"}
"""What `config.json` calls the families."""

_WANTED = ["*.json", "*.safetensors", "*.model", "*.jinja", "merges.txt"]
# Second copies of the weights, and what lies in subfolders.
_UNWANTED = ["consolidated*", "*/*"]
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")
_INDEX = "model.safetensors.index.json"


class UnavailableModelError(RuntimeError):
    """A model whose files are missing, incomplete, or of a kind that is not loaded; the message says what to do."""


def write_pointer(folder: Path, name: str, revision: str | None = None) -> None:
    """Make `folder` stand for the model `name`: a hub repository or the absolute path of a local folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"name": name, "revision": revision}, indent=2) + "\n"
    (folder / POINTER).write_text(text, encoding="utf-8")


def check(name: str, revision: str | None = None) -> Path | None:
    """Make sure that the model `name` (a hub repository or a local path) can be had, without downloading weights.

    Takes less than a second on a machine without network; what is in the hub's local cache counts as available.
    Returns the folder of the model's files if they are on this machine.

    Raises:
        UnavailableModelError: if it cannot be had; the message says what is missing and what to do.
    """
    if is_local(name):
        folder = _complete(Path(name).expanduser())
        if not has_tokenizer(folder):
            raise UnavailableModelError(f"{folder} holds a model without a tokenizer; put its tokenizer.json there")
        return folder
    repository = Repository("model", name, revision)
    found = _cached(repository)
    if found is not None:
        return found
    reason = obstacle()
    if reason:
        raise UnavailableModelError(_out_of_reach(repository, reason))
    try:
        files = ask(repository).files
    except HubError as error:
        raise UnavailableModelError(str(error)) from error
    if not any(file.endswith(".safetensors") and "/" not in file for file in files):
        raise UnavailableModelError(f"the hub's model {name} has no *.safetensors file, and no other kind is loaded")
    return None


def check_configuration(folder: Path, family: str, context: int) -> None:
    """Make sure that a model is of the family that it is taken for, and can read `context` tokens.

    Raises:
        UnavailableModelError: if it is not or cannot.
    """
    configuration = read_configuration(folder)
    kind = configuration.get("model_type")
    if kind != MODEL_TYPES[family]:
        fitting = [name for name, model_type in MODEL_TYPES.items() if model_type == kind]
        fix = f"use model={fitting[0]}" if fitting else f"give one of the families {', '.join(MODEL_TYPES)}"
        raise UnavailableModelError(
            f"{folder} holds a model of type {kind!r}, which is not of the family {family}; {fix}"
        )
    longest = configuration.get("max_position_embeddings")
    if longest is not None and context > longest:
        raise UnavailableModelError(
            f"the model in {folder} reads at most {longest} tokens; use base.context={longest} or less (now {context})"
        )


def read_configuration(folder: Path) -> dict[str, Any]:
    """Return what a model folder's `config.json` says; raise UnavailableModelError if it is not JSON."""
    path = folder / "config.json"
    try:
        configuration = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnavailableModelError(f"{path} is not valid JSON ({error}); save or download the model again") from error
    if not isinstance(configuration, dict):
        raise UnavailableModelError(f"{path} holds no object; save or download the model again")
    return configuration


def model_files(folder: Path) -> list[Path]:
    """Return the files that make up the model in a folder, in the order of their names: all that is ever read of it."""
    return sorted(path for path in folder.iterdir() if path.is_file() and _is_wanted(path.name))


def weight_bytes(folder: Path) -> int:
    """Return the size of a model's weights in bytes."""
    return sum(path.stat().st_size for path in model_files(folder) if path.suffix == ".safetensors")


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds a LoRA adapter, whose base model lies elsewhere."""
    return (folder / ADAPTER_CONFIGURATION).is_file()


def base_of(folder: Path) -> Path:
    """Return the folder of the base model (or of a pointer to it) of the adapter in `folder`.

    The adapter names it by its path from the adapter's folder, so that both can move together.

    Raises:
        UnavailableModelError: if it is not there.
    """
    path = folder / ADAPTER_CONFIGURATION
    try:
        name = json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"]
        base = (folder / name).resolve()
    except (ValueError, KeyError, TypeError) as error:
        raise UnavailableModelError(f"{path} does not name a base model; save the adapter again") from error
    if not base.is_dir():
        raise UnavailableModelError(
            f"{path}: there is no base model {base} (base_model_name_or_path is {name}, a path from this folder); "
            "put the base model there, or run the experiment again"
        )
    return base


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder holds a tokenizer."""
    return any((folder / name).is_file() for name in _TOKENIZERS)


def resolve(folder: Path) -> Path:
    """Return the local folder with the files of the model that `folder` holds or points to.

    A hub model is downloaded (safetensors, configuration and tokenizer only) unless the hub's cache has it.

    Raises:
        UnavailableModelError: if the files are missing, incomplete or not safetensors.
    """
    pointer = folder / POINTER
    if not pointer.is_file():
        return _complete(folder)
    name, revision = _read_pointer(pointer)
    if is_local(name):
        if not Path(name).is_dir():
            raise UnavailableModelError(
                f"{pointer} points to {name}, which is gone; put the model back, or delete the folder {folder} and run "
                "again with the model's new place"
            )
        return _complete(Path(name))
    repository = Repository("model", name, revision)
    found = _cached(repository)
    if found is not None:
        return found
    reason = obstacle()
    if reason:
        raise UnavailableModelError(_out_of_reach(repository, reason))
    return _complete(_download(repository))


def _download(repository: Repository) -> Path:
    from huggingface_hub import snapshot_download  # takes a third of a second

    try:
        found = snapshot_download(
            repository.name, revision=repository.revision, allow_patterns=_WANTED, ignore_patterns=_UNWANTED
        )
    except Exception as error:
        raise UnavailableModelError(explain(repository, error)) from error
    return Path(found)


def _read_pointer(pointer: Path) -> tuple[str, str | None]:
    try:
        content = json.loads(pointer.read_text(encoding="utf-8"))
        name, revision = content["name"], content.get("revision")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnavailableModelError(
            f'{pointer} is not a pointer; it should read {{"name": "hub name or absolute folder", "revision": null}}'
        ) from error
    if is_local(name) and (Path(name) / POINTER).exists():
        raise UnavailableModelError(
            f"{pointer} points to {name}, which is a pointer itself; point to the model directly"
        )
    return name, revision


def _complete(folder: Path) -> Path:
    if not folder.is_dir():
        raise UnavailableModelError(
            f"there is no model folder {folder}; give the path of a folder in Hugging Face format "
            "(config.json, *.safetensors, tokenizer) or a hub name of the form owner/model"
        )
    if not (folder / "config.json").is_file():
        raise UnavailableModelError(f"{folder} holds no config.json, so it is not a model in Hugging Face format")
    weights = [path.name for path in model_files(folder) if path.suffix == ".safetensors"]
    if not weights:
        pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
        found = f"only {', '.join(pickled)}, and loading those can run code from the file" if pickled else "no weights"
        raise UnavailableModelError(
            f"{folder} holds {found}; save the weights as safetensors there: model.save_pretrained(folder)"
        )
    missing = sorted(_shards(folder) - set(weights))
    if missing:
        raise UnavailableModelError(
            f"{folder} lacks {', '.join(missing)}, which its index names; copy or download the model again"
        )
    return folder


def _shards(folder: Path) -> set[str]:
    """Return the names of the weight files that a folder's index names; none if there is no index."""
    index = folder / _INDEX
    if not index.is_file():
        return set()
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnavailableModelError(f"{index} is not an index of weights; copy or download the model again") from error


def _cached(repository: Repository) -> Path | None:
    """Return the complete snapshot in the hub's local cache, if there is one."""
    snapshot = cached(repository)
    try:
        return _complete(snapshot) if snapshot and has_tokenizer(snapshot) else None
    except UnavailableModelError:
        return None


def _is_wanted(name: str) -> bool:
    return _matches(name, _WANTED) and not _matches(name, _UNWANTED)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(Path(name).match(pattern) for pattern in patterns)


def _out_of_reach(repository: Repository, reason: str) -> str:
    return (
        f"the model {repository} is not on this machine (cache: {cache_folder()}), and {reason}; connect to the "
        "network with HF_HUB_OFFLINE unset, or download it elsewhere with "
        f"`hf download {repository.name} --local-dir FOLDER` and give that folder in place of the name"
    )
