"""Where a model's files are: in a local folder, in a folder that a pointer names, or on the Hugging Face hub."""

import json
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

POINTER = "pointer.json"

_WANTED = ["*.json", "*.safetensors", "*.model", "*.jinja", "merges.txt"]
# Second copies of the weights, and what lies in subfolders.
_UNWANTED = ["consolidated*", "*/*"]
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5")


class UnavailableModelError(RuntimeError):
    """A model whose files are missing, incomplete, or of a kind that is not loaded; the message says what to do."""


def write_pointer(folder: Path, name: str, revision: str | None = None) -> None:
    """Make `folder` stand for the model `name`: a hub repository or the absolute path of a local folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"name": name, "revision": revision}, indent=2) + "\n"
    (folder / POINTER).write_text(text, encoding="utf-8")


def check(name: str, revision: str | None = None, timeout: float = 1.0) -> None:
    """Make sure that the model `name` (a hub repository or a local path) can be had, without downloading weights.

    The hub is asked once and given `timeout` seconds, so that a machine without network fails at once; what is in the
    hub's local cache counts as available.

    Raises:
        UnavailableModelError: if it cannot be had; the message says what is missing and what to do.
    """
    if _is_local(name):
        _complete(Path(name))
        return
    if _cached(name, revision) is not None:
        return
    try:
        answer = HfApi().model_info(name, revision=revision, timeout=timeout)
    except Exception as error:
        raise UnavailableModelError(_hub_message(name, revision, error)) from error
    files = [sibling.rfilename for sibling in answer.siblings or []]
    if not any(file.endswith(".safetensors") and "/" not in file for file in files):
        raise UnavailableModelError(f"the hub's model '{name}' has no *.safetensors file, and no other kind is loaded")


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
    if _is_local(name):
        return _complete(Path(name))
    cached = _cached(name, revision)
    if cached is not None:
        return cached
    try:
        found = snapshot_download(name, revision=revision, allow_patterns=_WANTED, ignore_patterns=_UNWANTED)
    except Exception as error:
        raise UnavailableModelError(_hub_message(name, revision, error)) from error
    return _complete(Path(found))


def _read_pointer(pointer: Path) -> tuple[str, str | None]:
    try:
        content = json.loads(pointer.read_text(encoding="utf-8"))
        name, revision = content["name"], content.get("revision")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnavailableModelError(
            f'{pointer} is not a pointer; it should read {{"name": "hub name or absolute folder", "revision": null}}'
        ) from error
    if _is_local(name) and (Path(name) / POINTER).exists():
        raise UnavailableModelError(
            f"{pointer} points to {name}, which is a pointer itself; point to the model directly"
        )
    return name, revision


def _is_local(name: str) -> bool:
    """A hub name has the form `owner/model`; everything that looks like a path or exists is a folder."""
    return name.startswith((".", "/", "~")) or name.count("/") != 1 or Path(name).exists()


def _complete(folder: Path) -> Path:
    if not folder.is_dir():
        raise UnavailableModelError(
            f"there is no model folder {folder}; give the path of a folder in Hugging Face format "
            "(config.json, *.safetensors, tokenizer) or a hub name of the form owner/model"
        )
    if not (folder / "config.json").is_file():
        raise UnavailableModelError(f"{folder} holds no config.json, so it is not a model in Hugging Face format")
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
        found = f"only {', '.join(pickled)}, and loading those can run code from the file" if pickled else "no weights"
        raise UnavailableModelError(
            f"{folder} holds {found}; save the weights as safetensors there: model.save_pretrained(folder)"
        )
    return folder


def _cached(name: str, revision: str | None) -> Path | None:
    """Return the complete snapshot in the hub's local cache, if there is one."""
    try:
        found = snapshot_download(
            name, revision=revision, allow_patterns=_WANTED, ignore_patterns=_UNWANTED, local_files_only=True
        )
        folder = _complete(Path(found))
    except (OSError, ValueError, UnavailableModelError):
        return None
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if not all((folder / shard).is_file() for shard in shards):
            return None
    return folder


def _hub_message(name: str, revision: str | None, error: Exception) -> str:
    at = f" at revision {revision}" if revision else ""
    if isinstance(error, GatedRepoError):
        return (
            f"the hub's model '{name}' is gated: accept its licence on https://huggingface.co/{name}, "
            "then log in with `hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"the hub's model '{name}' has no revision '{revision}'"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"the hub has no model '{name}'{at} that you may read; check the name, or log in with `hf auth login` "
            "if it is private; a local folder is given by its absolute path"
        )
    if isinstance(error, HfHubHTTPError):
        return f"the hub did not hand out the model '{name}'{at}: {error}"
    return (
        f"the model '{name}'{at} is not on this machine and the Hugging Face hub cannot be reached "
        f"({type(error).__name__}); connect to the network, or download it elsewhere with "
        f"`hf download {name} --local-dir FOLDER` and give that folder's absolute path"
    )
