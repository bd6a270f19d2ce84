"""Why is this stage not in the store: what tells it from the most similar artifact that is."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from salsa.store.artifact import Artifact


class _Absent:
    """Stands where one side has no such key; there is only one."""

    def __repr__(self) -> str:
        return "absent"


ABSENT: Final = _Absent()


@dataclass(frozen=True)
class Difference:
    """A key (`optimiser.betas[0]`, `inputs.base`) whose values differ; `ABSENT` where a side does not have it."""

    key: str
    ours: Any
    theirs: Any

    def __str__(self) -> str:
        return f"{self.key}: {self.ours!r}, there {self.theirs!r}"


def differences(
    config_a: Mapping[str, Any], inputs_a: Mapping[str, str], config_b: Mapping[str, Any], inputs_b: Mapping[str, str]
) -> list[Difference]:
    """Return the leaves in which a stage `a` (ours) and a stage `b` (theirs) differ, in the order of their keys.

    Values differ as they do in a fingerprint: `1`, `1.0` and `True` are different, a tuple equals its list. The list
    is empty where only the versions of the stages differ.
    """
    return _compare(_leaves(config_a, inputs_a), _leaves(config_b, inputs_b))


def nearest(
    candidates: Iterable[Artifact], config: Mapping[str, Any], inputs: Mapping[str, str]
) -> tuple[Artifact, list[Difference]] | None:
    """Return the artifact that differs in the fewest leaves (of several the newest), with these differences.

    Artifacts whose manifests cannot be read or name no configuration are passed over; None if none is left.
    """
    ours = _leaves(config, inputs)
    best: tuple[tuple[int, float], Artifact, list[Difference]] | None = None
    for artifact in candidates:
        try:
            manifest, published = artifact.manifest, artifact.published
        except (OSError, ValueError):
            continue
        config_there, inputs_there = manifest.get("config"), manifest.get("inputs")
        if not isinstance(config_there, dict) or not isinstance(inputs_there, dict):
            continue
        theirs = _leaves(config_there, inputs_there)
        found = _compare(ours, theirs)
        rank = (len(found), -published)
        if best is None or rank < best[0]:
            best = (rank, artifact, found)
    return None if best is None else best[1:]


def _compare(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Difference]:
    keys = [*ours, *(key for key in theirs if key not in ours)]
    pairs = ((key, ours.get(key, ABSENT), theirs.get(key, ABSENT)) for key in keys)
    return [
        Difference(key, mine, other) for key, mine, other in pairs if type(mine) is not type(other) or mine != other
    ]


def _leaves(config: Mapping[str, Any], inputs: Mapping[str, str]) -> dict[str, Any]:
    own = dict(leaves(config)) if config else {}
    return own | {f"inputs.{role}": identity for role, identity in inputs.items()}


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Go through the leaves of nested mappings and lists with their keys (`a.b[0]`); an empty container is a leaf."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple) and value:
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{key}[{index}]")
    else:
        yield key, list(value) if isinstance(value, tuple) else value
