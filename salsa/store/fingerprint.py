"""Identity of a stage's result: a hash of everything that decides it, and of nothing else.

A fingerprint is the SHA-256 of the canonical JSON of the schema, the stage's kind and version, the resolved values of
the keys that the stage reads, and the fingerprints or digests of its inputs. Two processes on two machines therefore
give the same work the same name without talking to each other. What cannot be written canonically is an error, never
a random or address-dependent hash that would silently train a model twice.

What counts as the same value:

* Mappings are equal whatever the order of their keys; a tuple equals the list of its items.
* `1`, `1.0`, `True` and `"1"` are four different values. Python calls the first three equal, but a stage may treat
  them differently, and a wrong hit in the store is worse than work done twice. Structured configurations turn `1`
  into `1.0` before it comes here where a number is meant to be real.
* `-0.0` equals `0.0`. NaN and infinities are refused: they have no JSON, and NaN does not equal itself.
* Strings are equal if their code points are; there is no Unicode normalisation.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SCHEMA = 1
"""Version of the hashing itself: it changes only with the rules above, and then every fingerprint does."""
PIECE_BYTES = 2**20
"""How much of a file is read at once."""


def canonical(value: Any, name: str = "value") -> str:
    """Return the one JSON text of a value, so that equal values (see the module) have equal bytes.

    `name` is what error messages call the value. Raises TypeError for anything but str, int, float, bool, None, list,
    tuple and dict with string keys (subclasses, such as NumPy's floats and enumerations, included), and ValueError
    for NaN, infinities and a container that holds itself.
    """
    return _written(_plain(value, name, ()))


def _written(plain: Any) -> str:
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any, name: str, parents: tuple[int, ...]) -> Any:
    """Return `value` with tuples as lists and negative zeros as zeros, or raise an error that names the culprit."""
    kind = type(value)
    if value is None or kind in (str, int, bool):
        return value
    if kind is float:
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}, which has no canonical form; use None or a finite number")
        return value + 0.0  # -0.0 + 0.0 is 0.0
    if kind not in (list, tuple, dict):
        raise TypeError(
            f"{name} is of type {kind.__module__}.{kind.__qualname__} ({value!r:.80}), which has no canonical form; "
            "convert it to str, int, float, bool, None, list, tuple or dict first"
        )
    if id(value) in parents:
        raise ValueError(f"{name} contains itself; only finite values have a canonical form")
    parents = (*parents, id(value))
    if kind is not dict:
        return [_plain(item, f"{name}[{index}]", parents) for index, item in enumerate(value)]
    for key in value:
        if type(key) is not str:
            raise TypeError(f"{name} has the key {key!r} of type {type(key).__qualname__}; keys must be strings")
    return {key: _plain(item, f"{name}.{key}", parents) for key, item in value.items()}


def fingerprint(
    kind: str,
    version: int,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    first_values: Mapping[str, Any] = {},
) -> str:
    """Return the identity of a stage's result as 64 hexadecimal digits.

    `config` holds the resolved values of all keys that the stage reads (not the difference to the defaults, and no
    execution keys such as devices or paths); `inputs` maps each input's name to its fingerprint, file digest or hub
    revision. `first_values` gives, for each key that was added to the stage after its first release, the value that
    means "as before": while the key has exactly this value it is left out, so that a new setting does not invalidate
    old work. Dots in its keys reach into nested mappings; a group in which leaving out leaves nothing is left out too.

    Raises TypeError or ValueError (see `canonical`) naming the key whose value has no canonical form.
    """
    if type(kind) is not str or not kind:
        raise TypeError(f"kind is {kind!r}; it must be the name of a stage")
    if type(version) is not int:
        raise TypeError(f"version of stage {kind} is {version!r}; it must be an integer")
    for name, identity in inputs.items():
        if type(name) is not str:
            raise TypeError(f"stage {kind} has the input {name!r} of type {type(name).__qualname__}; names are strings")
        if type(identity) is not str or not identity:
            raise TypeError(f"inputs.{name} of stage {kind} is {identity!r}; it must be a fingerprint or a digest")
    kept = _plain(dict(config), f"{kind}.config", ())
    # Deepest first: a group may have a first value as a whole and get further keys, with first values, later.
    for key in sorted(first_values, key=lambda key: (-key.count("."), key)):
        kept = _leave_out(kept, key, canonical(first_values[key], f"first_values[{key!r}]"))
    identity_of = {"schema": SCHEMA, "kind": kind, "version": version, "config": kept, "inputs": dict(inputs)}
    return hashlib.sha256(_written(identity_of).encode("ascii")).hexdigest()


def _leave_out(config: dict[str, Any], key: str, first_value: str) -> dict[str, Any]:
    """Return `config` without the (dotted) key if its canonical value is `first_value`, else `config` itself."""
    if key in config:
        if canonical(config[key]) != first_value:
            return config
        return {other: value for other, value in config.items() if other != key}
    group, dot, rest = key.partition(".")
    inner = config.get(group)
    if not dot or not isinstance(inner, dict):
        return config
    remaining = _leave_out(inner, rest, first_value)
    if remaining is inner:
        return config
    if remaining:
        return {**config, group: remaining}
    return {other: value for other, value in config.items() if other != group}


def file_digest(path: Path | str, advance: Callable[[int], None] | None = None) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits, read in pieces so that weights need no memory.

    `advance` is told how many more bytes are done.
    """
    with Path(path).open("rb", buffering=0) as file:
        if advance is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest, piece = hashlib.sha256(), memoryview(bytearray(PIECE_BYTES))
        while count := file.readinto(piece):
            digest.update(piece[:count])
            advance(count)
        return digest.hexdigest()
