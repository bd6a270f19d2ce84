"""A configuration of which a few values change from job to job: only these, and what follows from them, are read anew.

To read all of it takes OmegaConf ten times as long as planning the job: it resolves some two hundred interpolations.
Imports no torch.
"""

import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, OmegaConf

from pipelines.configuration import Config
from pipelines.schema import checked, to_config

Path = tuple[str, ...]
_PLAIN_KEY = re.compile(r"\$\{(?P<dots>\.*)(?P<key>\w+(?:\.\w+)*)\}")
_RESOLVERS = re.compile(r"\$\{(?:divide|oc\.env|hydra|launch_id):")
"""Resolvers whose result follows from their arguments, or is the same for all jobs with the same groups."""


def fits(overrides: Sequence[Override]) -> bool:
    """Return whether overrides do nothing but give keys plain values, which the next job's replace without a trace."""
    return all(
        not (each.is_add() or each.is_force_add() or each.is_delete()) and _is_plain(each.value()) for each in overrides
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(item) and not isinstance(item, list) for item in value)
    if isinstance(value, str):
        return "${" not in value and value != "???"
    return value is None or isinstance(value, int | float)


class Template:
    """The configurations of all jobs that choose the same groups and set the same keys, to different values.

    `cfg` is that of one of them, before it is resolved, and belongs to the template from then on. Hydra's own
    configuration has to be that of these groups whenever a template is asked.
    """

    def __init__(self, cfg: DictConfig, overrides: Sequence[Override]) -> None:
        self._cfg = cfg
        self._config = pickle.dumps(to_config(cfg))
        self._changing = _following({tuple(each.key_or_group.split(".")) for each in overrides}, dict(_leaves(cfg)))

    def config(self, overrides: Sequence[Override]) -> Config:
        """Return the checked configuration with these values; errors are those of `schema.parse`."""
        ConfigLoaderImpl._apply_overrides_to_config(list(overrides), self._cfg)
        config: Config = pickle.loads(self._config)
        for path in self._changing:
            _set(config, path, _value(self._cfg, path))
        return checked(config)


def _leaves(node: Any, at: Path = ()) -> Iterator[tuple[Path, str | None]]:
    """Yield the path of each value, with its text where it is an interpolation; a list is one value."""
    for key in node:
        inner = node._get_node(key)
        if isinstance(inner, DictConfig) and not (inner._is_interpolation() or inner._is_none() or inner._is_missing()):
            yield from _leaves(inner, (*at, str(key)))
        else:
            yield (*at, str(key)), _text(inner)


def _text(node: Any) -> str | None:
    """Return what of a value is to be resolved, None where nothing is."""
    if isinstance(node, ListConfig) and not node._is_interpolation():
        text = str(OmegaConf.to_container(node)) if not (node._is_none() or node._is_missing()) else ""
        return text if "${" in text else None
    return str(node._value()) if node._is_interpolation() else None


def _following(changing: set[Path], leaves: Mapping[Path, str | None]) -> list[Path]:
    """Return the paths of all values that may change with those at some paths: these, and what refers to them."""
    wanted = {path: _references(path, text) for path, text in leaves.items() if text is not None}
    found = {path for path in leaves if any(_meet(path, each) for each in changing)}
    while True:
        more = {
            path
            for path, references in wanted.items()
            if path not in found
            and (references is None or any(_meet(each, other) for each in references for other in found))
        }
        if not more:
            return sorted(found)
        found |= more


def _references(at: Path, text: str) -> list[Path] | None:
    """Return the paths that the interpolation at a path refers to; None where that cannot be told from its text."""
    rest = _PLAIN_KEY.sub("", _RESOLVERS.sub("", text))
    if "${" in rest:
        return None
    found = []
    for match in _PLAIN_KEY.finditer(text):
        dots = len(match["dots"])
        above = at[: len(at) - dots] if dots else ()
        found.append((*above, *match["key"].split(".")))
    return found


def _within(path: Path, other: Path) -> bool:
    return path[: len(other)] == other


def _meet(path: Path, other: Path) -> bool:
    return _within(path, other) or _within(other, path)


def _value(cfg: DictConfig, path: Path) -> Any:
    value: Any = cfg
    for key in path:
        value = value[key]
    return OmegaConf.to_object(value) if OmegaConf.is_config(value) else value


def _set(config: Config, path: Path, value: Any) -> None:
    node: Any = config
    for key in path[:-1]:
        node = node[key] if isinstance(node, dict) else getattr(node, key)
    if isinstance(node, dict):
        node[path[-1]] = value
    else:
        setattr(node, path[-1], value)
