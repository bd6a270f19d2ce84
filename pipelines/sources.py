"""Where data comes from: the schema of `data=`, what of it is identity, and how a stage opens it. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from pipelines.choices import Draws, Learn
from pipelines.configuration import require


@dataclass
class ZooData:
    """The embedded world."""

    world_seed: int = MISSING
    author_mix: tuple[float, float, float, float] = MISSING
    label_noise: float = MISSING
    draws: Draws = MISSING
    learn: Learn = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        require(self.world_seed >= 0, f"{at}.world_seed", self.world_seed, "must not be negative")
        require(len(self.author_mix) == 4, f"{at}.author_mix", self.author_mix, "give four shares")
        require(min(self.author_mix) >= 0, f"{at}.author_mix", self.author_mix, "shares must not be negative")
        require(
            abs(sum(self.author_mix) - 1) < 1e-6, f"{at}.author_mix", self.author_mix, "the four shares must sum to 1"
        )
        require(self.label_noise > 0, f"{at}.label_noise", self.label_noise, "must be above 0")


@dataclass
class _Ingested:
    """What local files and hub sets have in common."""

    prompts: dict[str, str] = MISSING
    max_malformed: float = MISSING
    split_train: float = MISSING
    split_judge: float = MISSING
    split_validation: float = MISSING
    draws: Draws = MISSING
    learn: Learn = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        require(0 <= self.max_malformed <= 1, f"{at}.max_malformed", self.max_malformed, "must be in [0, 1]")
        for key in ("split_train", "split_judge", "split_validation"):
            require(0 < getattr(self, key) < 1, f"{at}.{key}", getattr(self, key), "must be in (0, 1)")
        total = self.split_train + self.split_judge + self.split_validation
        require(total < 1, f"{at}.split_*", total, "must sum to less than 1: the rest is held out")


@dataclass
class FilesData(_Ingested):
    """Local files."""

    demonstrations: list[str] = MISSING
    preferences: list[str] = MISSING
    corpus: list[str] = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        super().check(at)
        require(
            len(self.preferences) > 0,
            f"{at}.preferences",
            self.preferences,
            "name at least one file of pairs: data.preferences=[pairs.jsonl.gz]",
        )


@dataclass
class UltraData(_Ingested):
    """UltraChat and UltraFeedback from the hub or from local folders."""

    demonstrations_set: str = MISSING
    demonstrations_revision: str | None = MISSING
    preferences_set: str = MISSING
    preferences_revision: str | None = MISSING


Data = ZooData | FilesData | UltraData


def world_identity(data: Data) -> dict[str, Any]:
    """Return what the fixed part of a source depends on: its text, its suites, its judge."""
    if isinstance(data, ZooData):
        return {"source": "zoo", "world_seed": data.world_seed}
    return {"source": "folder"}


def draw_identity(data: Data) -> dict[str, Any]:
    """Return what demonstrations and training prompts depend on, besides the world."""
    if isinstance(data, ZooData):
        return world_identity(data) | {"author_mix": list(data.author_mix)}
    return world_identity(data)


def open_source(identity: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
    """Return the `salsa.data.source.Source` that an identity and a stage's input artifacts describe."""
    if identity["source"] == "zoo":
        from salsa.data.zoo.source import ZooSource

        if "author_mix" in identity:
            return ZooSource(seed=identity["world_seed"], author_mix=tuple(identity["author_mix"]))
        return ZooSource(seed=identity["world_seed"])
    from salsa.data.folder import FolderSource

    return FolderSource(inputs["data"].path)
