"""Checks of a configuration's values, and their plain form. Imports no torch."""

import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any


class ConfigurationError(ValueError):
    """A value that cannot work; the message names the key, the value and the fix."""


def check_all(node: object, at: str = "") -> None:
    """Check the ranges of a configuration and of everything in it, naming each key by its full path.

    Every number must be finite: a training that reads an infinity or NaN anywhere comes to nothing.
    """
    if isinstance(node, float):
        require(math.isfinite(node), at, node, "must be a finite number")
    elif isinstance(node, tuple | list):
        for value in node:
            check_all(value, at)
    elif isinstance(node, dict):
        for key, value in node.items():
            check_all(value, f"{at}.{key}" if at else str(key))
    elif is_dataclass(node):
        for item in fields(node):
            check_all(getattr(node, item.name), f"{at}.{item.name}" if at else item.name)
        if hasattr(node, "check"):
            node.check(at)


def require(condition: bool, key: str, value: object, fix: str) -> None:
    """Raise `ConfigurationError` unless the condition holds."""
    if not condition:
        raise ConfigurationError(f"{key}={value}: {fix}")


def accept(at: str, build: Callable[[], object]) -> None:
    """Build the settings that a stage will build of the keys under `at`; what they refuse is a `ConfigurationError`.

    So that each range is stated once, where it is used. The settings' messages begin with the name of the key.
    """
    try:
        build()
    except ValueError as error:
        raise ConfigurationError(f"{at}.{error}") from error


def plain(node: Any) -> Any:
    """Return a part of the configuration as dictionaries, lists and plain values, choices by their names."""
    if is_dataclass(node):
        return {item.name: plain(getattr(node, item.name)) for item in fields(node)}
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [plain(value) for value in node]
    return node.value if isinstance(node, Enum) else node
