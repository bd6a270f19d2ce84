"""The models that `salsa soup` is given: where they are, of which kind, on which base. Imports nothing that takes long.

A name is a folder, or a model of the hub with or without a revision (`owner/model@revision`); as everywhere in this
package, one that is not in the hub's cache is downloaded.
"""

import json
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from salsa.hub import Repository, cached, is_local
from salsa.models.source import (
    ADAPTER_CONFIGURATION,
    UnavailableModelError,
    base_of,
    check,
    is_adapter,
    resolve,
    write_pointer,
)

_NAME = "base_model_name_or_path"


class IngredientError(RuntimeError):
    """A model that is not there or does not fit the others in kind; the message says what to do."""


@dataclass(frozen=True)
class Base:
    """What an adapter calls its base: a folder of this machine, or a model of the hub, whose folder may be missing."""

    name: str
    revision: str | None
    folder: Path | None
    hub: bool

    def __str__(self) -> str:
        return str(Repository("model", self.name, self.revision) if self.hub else self.folder)


@dataclass(frozen=True)
class Ingredient:
    """A model as it was named, the folder with its files, and of an adapter its base."""

    name: str
    folder: Path
    base: Base | None = None


def gathered(names: Sequence[str], *, download: bool) -> tuple[Ingredient, ...]:
    """Find models of one kind, adapters of one base; `download` those of the hub that are not on this machine.

    Raises:
        IngredientError: if one is missing, some are adapters and others full models, or adapters are of two bases.
        UnavailableModelError: if one is not in Hugging Face format, or cannot be had from the hub.
    """
    models = tuple(located(name, download=download) for name in names)
    adapters, full = ([model for model in models if (model.base is None) is kind] for kind in (False, True))
    if adapters and full:
        raise IngredientError(
            f"{adapters[0].name} is a LoRA adapter and {full[0].name} a full model; a soup is of one kind: merge the "
            "adapter into its base and save that, or give adapters only"
        )
    for other in adapters[1:]:
        _check_bases(adapters[0], other)
    return models


def located(name: str, *, download: bool) -> Ingredient:
    """Return a model with the folder of its files.

    Raises:
        IngredientError, UnavailableModelError: as `gathered`.
    """
    folder = _folder(name, download)
    if is_adapter(folder):
        return Ingredient(name, folder, _base(folder))
    return Ingredient(name, resolve(folder))


def rebased(model: Ingredient, scratch: Path) -> Path:
    """Return a folder with the adapter in which its base is named by the folder that it is in.

    It is the adapter's own wherever that names its base by the way there; else one of links in `scratch`. Training
    tools name the base as it was named to them: by its name on the hub, or by a path from where they ran. A base that
    is not on this machine is an empty folder in `scratch`: a soup of adapters needs to know which one it is, no more.
    """
    assert model.base is not None
    with suppress(UnavailableModelError):  # it names its base in another way
        if base_of(model.folder) == model.base.folder:
            return model.folder
    base = model.base.folder or scratch / "base"
    base.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=scratch, prefix="adapter-"))
    for path in model.folder.iterdir():
        if path.is_file() and path.name != ADAPTER_CONFIGURATION:
            (folder / path.name).symlink_to(path.resolve())
    content = json.loads((model.folder / ADAPTER_CONFIGURATION).read_text(encoding="utf-8"))
    (folder / ADAPTER_CONFIGURATION).write_text(json.dumps(content | {_NAME: str(base)}), encoding="utf-8")
    return folder


def _base(folder: Path) -> Base:
    """Return the base that an adapter names: by a path from its folder or from here, or by its name on the hub."""
    path = folder / ADAPTER_CONFIGURATION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        name, revision = content[_NAME], content.get("revision")
        places = [folder / name, Path(name).expanduser()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IngredientError(f"{path} does not name a base model ({_NAME}); save the adapter again") from error
    for place in places:
        if place.is_dir():
            return Base(name, revision, place.resolve(), hub=False)
    if is_local(name):
        raise IngredientError(
            f"{path}: there is no base model {name} ({_NAME}), neither seen from the adapter's folder nor from here; "
            "put it there, or correct the entry"
        )
    return Base(name, revision, cached(Repository("model", name, revision)), hub=True)


def _check_bases(first: Ingredient, other: Ingredient) -> None:
    """Refuse bases that are not the same by name where their files cannot be compared, which `adapters` does."""
    one, two = first.base, other.base
    assert one is not None
    assert two is not None
    if (one.name, one.revision) != (two.name, two.revision) and None in (one.folder, two.folder):
        raise IngredientError(
            f"the adapters {first.name} and {other.name} name different bases, {one} and {two}, which are not both on "
            "this machine to be compared; only adapters over one base have an exact soup"
        )


def _folder(name: str, download: bool) -> Path:
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    bare, _, revision = name.partition("@")
    if path.exists() or is_local(bare):
        raise IngredientError(
            f"there is no model folder {name}; give a folder in Hugging Face format (config.json, *.safetensors), a "
            "LoRA adapter's, or a hub name of the form owner/model"
        )
    repository = Repository("model", bare, revision or None)
    found = _in_cache(repository)
    if found is not None:
        return found
    try:
        found = check(bare, revision or None)
    except UnavailableModelError as error:
        raise IngredientError(f"there is no folder {name} here, and {error}") from error
    if found is not None:
        return found
    if not download:
        raise IngredientError(
            f"the model {repository} is on the hub but not on this machine, and --dry-run downloads nothing; get it "
            f"with `hf download {bare}{f' --revision {revision}' if revision else ''}`"
        )
    return _downloaded(repository)


def _in_cache(repository: Repository) -> Path | None:
    """Return the complete files of a model, or an adapter, in the hub's cache."""
    snapshot = cached(repository)
    try:
        return snapshot if snapshot is None or is_adapter(snapshot) else resolve(snapshot)
    except UnavailableModelError:
        return None  # only a part of it has been fetched


def _downloaded(repository: Repository) -> Path:
    with tempfile.TemporaryDirectory() as pointer:
        write_pointer(Path(pointer), repository.name, repository.revision)
        try:
            return resolve(Path(pointer))
        except UnavailableModelError:
            found = _in_cache(repository)
            if found is None or not is_adapter(found):
                raise
            return found
