"""Which data sets of the hub are read, or which local folders in their place: splits, columns, files, commits.

Imports nothing that is slow, so that what is missing is said, and what is there identified, before any work.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from salsa.data.rows import DataError
from salsa.hub import HubError, Repository, ask, cache_folder, cached, is_local, obstacle

ULTRACHAT = "HuggingFaceH4/ultrachat_200k"
ULTRACHAT_REVISION = "8049631c405ae6576f93f445c6b8166f76f5505a"
ULTRAFEEDBACK = "HuggingFaceH4/ultrafeedback_binarized"
ULTRAFEEDBACK_REVISION = "3949bf5f8c17c394422ccfab0c31ea9c20bdeb85"


@dataclass(frozen=True)
class HubSet:
    """One split of a hub set (or of a local folder with its Parquet files) and the columns that are read of it."""

    name: str
    split: str
    columns: tuple[str, ...]
    revision: str | None = None

    @property
    def folder(self) -> Path | None:
        """The local folder, if the name is one."""
        path = Path(self.name).expanduser()
        return path if path.is_dir() else None

    @property
    def repository(self) -> Repository:
        """The hub's repository that the name stands for, if it is not a folder."""
        return Repository("dataset", self.name, self.revision)


@dataclass(frozen=True)
class HubSets:
    """Hub sets by what they hold; prompts by the name of the suite that they become."""

    demonstrations: tuple[HubSet, ...] = ()
    preferences: tuple[HubSet, ...] = ()
    prompts: Mapping[str, HubSet] = field(default_factory=dict)

    def __iter__(self) -> Iterator[HubSet]:
        yield from self.demonstrations
        yield from self.preferences
        yield from self.prompts.values()


def ultra_sets(
    demonstrations: str = ULTRACHAT,
    demonstrations_revision: str | None = ULTRACHAT_REVISION,
    preferences: str = ULTRAFEEDBACK,
    preferences_revision: str | None = ULTRAFEEDBACK_REVISION,
) -> HubSets:
    """Return UltraChat as demonstrations, UltraFeedback as preferences, and their test splits as suites."""
    asked = ("prompt", "prompt_id")
    pair = ("prompt", "chosen", "rejected")
    return HubSets(
        demonstrations=(HubSet(demonstrations, "train_sft", ("messages",), demonstrations_revision),),
        preferences=(HubSet(preferences, "train_prefs", pair, preferences_revision),),
        prompts={
            "ultrachat": HubSet(demonstrations, "test_sft", asked, demonstrations_revision),
            "ultrafeedback": HubSet(preferences, "test_prefs", asked, preferences_revision),
        },
    )


def ultra_splits(role: str, name: str, revision: str | None) -> tuple[HubSet, ...]:
    """Return the splits that `ultra_sets` reads of one of its two sets: "demonstrations" or "preferences"."""
    if role == "demonstrations":
        sets = ultra_sets(demonstrations=name, demonstrations_revision=revision)
        return (*sets.demonstrations, sets.prompts["ultrachat"])
    sets = ultra_sets(preferences=name, preferences_revision=revision)
    return (*sets.preferences, sets.prompts["ultrafeedback"])


def check_sets(sets: Iterable[HubSet]) -> None:
    """Raise DataError, naming what is missing and what to do, unless every set is local, cached or within reach.

    Takes less than a second, so that it can be called before any work.
    """
    missing = []
    for hub_set in sets:
        if hub_set.folder:
            local_files(hub_set)
        elif is_local(hub_set.name):
            raise DataError(f"the folder {hub_set.name} does not exist, and it is not a hub name like owner/name")
        elif not cached_split(hub_set):
            missing.append(hub_set)
    if not missing:
        return
    reason = obstacle()
    if reason:
        names = ", ".join(f"{hub_set.name} (split {hub_set.split})" for hub_set in missing)
        raise DataError(
            f"not in the local cache ({cache_folder()}): {names}; and {reason}. Give a local folder with the set's "
            "Parquet files in place of the name, or run once with access to the hub (HF_HUB_OFFLINE unset), or set "
            "HF_HOME to a cache that has it"
        )
    for hub_set in missing:
        try:
            ask(hub_set.repository)
        except HubError as error:
            raise DataError(str(error)) from error


def local_files(hub_set: HubSet) -> list[Path]:
    """Return the Parquet files of a split in its local folder, in order; raise DataError if there are none, or gaps."""
    if hub_set.folder is None:
        raise DataError(f"the folder {hub_set.name} does not exist")
    return split_files(hub_set.folder, hub_set.split)


def split_files(folder: Path, split: str) -> list[Path]:
    """Return the Parquet files of a split; names are those of the hub, such as train_sft-00000-of-00003.parquet."""
    files = sorted(folder.rglob("*.parquet"))
    shards = [
        path for path in files if re.fullmatch(rf"{re.escape(split)}(-\d+.*)?", path.stem) or path.parent.name == split
    ]
    if not shards:
        found = ", ".join(path.name for path in files[:5]) or "no Parquet files"
        raise DataError(f"{folder} holds no Parquet files of the split {split} ({split}-*.parquet); found: {found}")
    for path in shards:
        count = re.search(r"-of-(\d+)", path.stem)
        if count and int(count[1]) != len(shards):
            raise DataError(f"{folder} holds {len(shards)} of the {int(count[1])} Parquet files of the split {split}")
    return shards


def cached_split(hub_set: HubSet) -> Path | None:
    """Return the folder of a cached commit that holds the split completely: the pinned one, else the last fetched."""
    snapshot = cached(hub_set.repository)
    if snapshot is None:
        return None
    try:
        split_files(snapshot, hub_set.split)
    except DataError:
        return None
    return snapshot
