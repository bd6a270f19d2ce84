"""Rules of the reward in the configuration: what they are, what they are known by, how a process gets hold of them.

A rule is named by `_target_`, as Hydra names functions, and known by the source file of the module in which that is
looked up: an edited rule is another rule. Planning looks for the file and imports nothing. Imports no torch.
"""

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from pipelines.ranges import ConfigurationError, require
from salsa.rl.rules import Rule, RuleError

ROOT = Path(__file__).resolve().parent.parent
TARGET = "_target_"
_OWN = (TARGET, "weight", "normalise", "_partial_")
_LOADED: dict[str, str] = {}
"""SHA-256 of the source of each module of rules when this process imported it."""


@dataclass(frozen=True)
class RuleSettings:
    """A rule as the configuration gives it: `arguments` are the function's own."""

    key: str
    target: str
    weight: float
    normalise: bool
    arguments: Mapping[str, Any]


def read(key: str, value: Any) -> RuleSettings:
    """Return a rule's settings from the value of its `key`. Raises ConfigurationError if they cannot be meant."""
    known = isinstance(value, dict) and isinstance(value.get(TARGET), str)
    fix = "give a mapping with _target_ (a function by its full name), weight, and the function's own arguments"
    require(known, key, value, fix)
    target, weight, normalise = value[TARGET], value.get("weight", 1.0), value.get("normalise", False)
    require("." in target, f"{key}.{TARGET}", target, "give the full name, MODULE.FUNCTION")
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    require(number, f"{key}.weight", weight, "must be a number")
    require(isinstance(normalise, bool), f"{key}.normalise", normalise, "must be true or false")
    arguments = {name: each for name, each in value.items() if name not in _OWN}
    for name in arguments:
        fix = "a rule takes _target_, weight, normalise and the function's own arguments by name"
        require(not name.startswith("_"), f"{key}.{name}", arguments[name], fix)
    return RuleSettings(key, target, float(weight), normalise, arguments)


def merged(policy: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rules of an arm: the policy's with what the arm sets of its own; null leaves one out."""
    rules = dict(policy)
    for name, rule in own.items():
        before = rules.get(name)
        rules[name] = {**before, **rule} if isinstance(before, dict) and isinstance(rule, dict) else rule
    return {name: rule for name, rule in rules.items() if rule is not None}


def active(at: str, rules: Mapping[str, Any], policys: Mapping[str, Any] = {}) -> dict[str, RuleSettings]:
    """Return the rules of the arm at `at` that have a weight, by name; those it has of the policy's are named so."""
    found = {}
    for name, rule in rules.items():
        owner = "policy" if policys.get(name) == rule else at
        found[name] = read(f"{owner}.rewards.rules.{name}", rule)
    return {name: rule for name, rule in found.items() if rule.weight}


def identity(rule: RuleSettings) -> tuple[dict[str, Any], list[str]]:
    """Return what decides a rule's values, and the folders from which its modules are imported.

    Raises ConfigurationError where a module is not found, or has no source.
    """
    sources, folders = {}, []
    for key, target in _targets(rule.key, {TARGET: rule.target, **rule.arguments}):
        path = _path(target)
        if not path:
            require(False, key, target, _not_found(target))
        sources[path[-1].name] = _source(key, target, path[-1])
        folders.append(_folder(path[0]))
    known = {"target": rule.target, "arguments": dict(rule.arguments), "sources": sources}
    return known, list(dict.fromkeys(folders))


def load(key: str, known: Mapping[str, Any], folders: list[str], *, make: bool = True) -> Callable[..., Any]:
    """Import a rule that was planned by its `identity`, with its arguments bound; a class is instantiated.

    Without `make` a class is returned as it is. Raises ConfigurationError where it cannot be imported, or is no longer
    what was planned.
    """
    return _load(key, known, folders, make=make)


def problem(rule: RuleSettings) -> str:
    """Import a rule, without making an object of a class, and return why it cannot be used, "" if it can."""
    try:
        known, folders = identity(rule)
        function = _load(rule.key, known, folders, make=False)
        if not inspect.isclass(function):
            Rule(rule.key, function)
    except (ConfigurationError, RuleError) as error:
        return str(error)
    return ""


def _load(key: str, known: Mapping[str, Any], folders: list[str], *, make: bool) -> Callable[..., Any]:
    from hydra.utils import get_object, instantiate

    target = known["target"]
    sys.path += [folder for folder in folders if folder not in sys.path]
    for module, source in known["sources"].items():
        _import(f"{key}.{TARGET}", target, module, source)
    try:
        found: Any = get_object(target)
        if inspect.isclass(found):
            # A class can always be called itself, so that `callable` and `hasattr` say nothing of its objects.
            calls = any("__call__" in vars(each) for each in found.__mro__)
            require(calls, f"{key}.{TARGET}", target, "objects of this class cannot be called; give it a __call__")
            if not make:
                return found
        config = {TARGET: target, **known["arguments"]}
        return instantiate(config, _partial_=not inspect.isclass(found), _convert_="all")
    except ConfigurationError:
        raise
    except Exception as error:  # whatever a user's code raises
        raise ConfigurationError(f"{key}.{TARGET}={target}: {_told(error)}") from error


def _import(key: str, target: str, module: str, source: Mapping[str, str]) -> None:
    """Import the module of a rule, anew if it has changed since this process did so."""
    path = _path(f"{module}.any")
    found = _source(key, target, path[-1]) if path else {}
    if found != source:
        where = path[-1].origin if path else "nowhere"
        raise ConfigurationError(
            f"{key}={target}: the module {module} (now found {where}) is not the one that was planned with: it was "
            "edited meanwhile, or another one of this name comes first; run the same command again"
        )
    digest = source.get("sha256", "")
    # Compiled code is kept under the second and the size of its source, which an edit may leave as they were.
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        if module in sys.modules and _LOADED.get(module, digest) != digest:
            importlib.reload(sys.modules[module])
        else:
            importlib.import_module(module)
    except Exception as error:  # whatever a user's code raises
        raise ConfigurationError(f"{key}={target}: the module {module} cannot be imported: {_told(error)}") from error
    finally:
        sys.dont_write_bytecode = writes
    _LOADED[module] = digest


def _targets(key: str, node: Any) -> Iterator[tuple[str, str]]:
    """Yield every `_target_` in a rule and its arguments, each with its key."""
    if isinstance(node, dict):
        if isinstance(node.get(TARGET), str):
            yield f"{key}.{TARGET}", node[TARGET]
        for name, value in node.items():
            yield from _targets(f"{key}.{name}", value)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _targets(f"{key}[{index}]", value)


def _path(target: str) -> list[ModuleSpec]:
    """Return the packages that lead to a target's module, and the module, none of them imported; [] if not found."""
    specs: list[ModuleSpec] = []
    parts = target.split(".")[:-1]
    for count in range(1, len(parts) + 1):
        inside = specs[-1].submodule_search_locations if specs else None
        if specs and inside is None:
            break
        spec = _spec(".".join(parts[:count]), None if inside is None else list(inside))
        if spec is None:
            break
        specs.append(spec)
    return specs


def _spec(name: str, inside: list[str] | None) -> ModuleSpec | None:
    """Find a module as `import` does, and at the top also in the working directory and beside run.py."""
    places = [inside] if inside is not None else [None, [str(Path.cwd()), str(ROOT)]]
    for place in places:
        for finder in sys.meta_path:
            spec = finder.find_spec(name, place)
            if spec is not None:
                return spec
    return None


def _not_found(target: str) -> str:
    return (
        f"there is no module {target.split('.')[0]}; it was looked for in {Path.cwd()}, in {ROOT} and among what "
        "Python can import; put the file there, or its folder into PYTHONPATH"
    )


def _source(key: str, target: str, spec: ModuleSpec) -> dict[str, str]:
    """Return what the code of a module is known by: its source file and, if it was installed, its release."""
    installed = _distribution(spec.name.split(".")[0], spec.origin)
    if spec.has_location and spec.origin is not None and spec.origin.endswith(".py"):
        return {"sha256": hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()} | installed
    fix = f"the module {spec.name} has no source by which it could be known; call it from a function of your own"
    require(bool(installed), key, target, fix)
    return installed


def _distribution(package: str, origin: str | None) -> dict[str, str]:
    if origin is None or not {"site-packages", "dist-packages"} & set(Path(origin).parts):
        return {}
    return {name: metadata.version(name) for name in sorted(set(_packages().get(package, [])))}


@cache
def _packages() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _folder(spec: ModuleSpec) -> str:
    """Return the folder from which a top-level module or package is imported."""
    inside = spec.submodule_search_locations
    return str(Path(next(iter(inside))).parent if inside else Path(spec.origin or ".").parent)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
