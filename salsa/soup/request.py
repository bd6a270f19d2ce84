"""What a person asks of `salsa soup`, as checked values; looks at no file. Imports nothing that takes long."""

import argparse
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECIPES = {
    "uniform": frozenset[str](),
    "weighted": frozenset({"weights", "any_sum"}),
    "line": frozenset({"alpha"}),
    "greedy": frozenset({"validation"}),
    "slerp": frozenset({"base", "share"}),
    "liti": frozenset({"base", "eta", "merge", "share"}),
    "task_arithmetic": frozenset({"base", "scales"}),
}
"""The recipes and the options that each one reads."""
MERGES = ("slerp", "uniform")
OPTIONS = tuple(sorted(frozenset[str]().union(*RECIPES.values())))
_SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>|[KMGT]I?B|B)")
_POWERS = {letter: power for power, letter in enumerate("BKMGT")}


class UsageError(ValueError):
    """Options that do not make sense, alone or together; the message names one and says how it is written."""


@dataclass(frozen=True)
class Request:
    """One soup (or the geometry of models, where `out` is None), as asked for.

    `weights`, `alpha`, `share`, `eta`, `merge` and `scales` are those of the recipe, and None where it does not read
    them; models and base are named as on the command line. `shard_bytes` and `threads` are None for the usual ones.
    """

    models: tuple[str, ...]
    recipe: str
    out: Path | None
    base: str | None
    weights: tuple[float, ...] | None
    alpha: float | None
    share: float | None
    eta: float | None
    merge: str | None
    scales: tuple[float, ...] | None
    validation: Path | None
    any_sum: bool
    geometry: bool
    shard_bytes: int | None
    threads: int | None
    force: bool
    dry_run: bool

    def settings(self) -> dict[str, Any]:
        """Return the numbers of the recipe by name."""
        names = ("alpha", "share", "eta", "merge", "scales")
        found: dict[str, Any] = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return found | ({"any_sum": True} if self.any_sum else {})


def checked(args: argparse.Namespace) -> Request:
    """Return what the parsed command line asks for.

    Raises:
        UsageError: if an option is missing, out of its range, or not read by the recipe.
    """
    recipe = args.recipe or ("weighted" if args.weights is not None else "uniform")
    _check_read(args, recipe)
    if args.out is None and not args.geometry:
        raise UsageError("--out is missing: name the folder that the soup goes to (or ask for --geometry alone)")
    request = Request(
        models=tuple(args.models),
        recipe=recipe,
        out=args.out,
        base=args.base,
        weights=_numbers("--weights", args.weights),
        alpha=_default(args.alpha, 0.5 if recipe == "line" else None, "--alpha"),
        share=_default(args.share, 0.5 if _by_slerp(recipe, args.merge) else None, "--share"),
        eta=_default(args.eta, 0.3 if recipe == "liti" else None, "--eta"),
        merge=(args.merge or "slerp") if recipe == "liti" else None,
        scales=_numbers("--scales", args.scales),
        validation=args.validation,
        any_sum=bool(args.any_sum),
        geometry=args.geometry,
        shard_bytes=None if args.shard_size is None else parsed_size(args.shard_size),
        threads=args.threads,
        force=args.force,
        dry_run=args.dry_run,
    )
    _check_counts(request)
    return request


def parsed_size(text: str) -> int:
    """Return the bytes of a size as transformers writes it: 4GB is 4 * 10^9, 4GiB is 4 * 2^30.

    Raises:
        UsageError: if it is none, or less than one byte.
    """
    match = _SIZE.fullmatch(text.strip().upper())
    unit = match["unit"] if match else ""
    factor = (1024 if "I" in unit else 1000) ** _POWERS[unit[:1] or "B"]
    size = int(float(match["number"]) * factor) if match else 0
    if size < 1:
        raise UsageError(f"--shard-size {text}: write a number and B, kB, MB, GB or TB (or MiB, GiB), such as 4GB")
    return size


def _check_read(args: argparse.Namespace, recipe: str) -> None:
    """Refuse options that nothing reads: who gives one believes that it does something."""
    read = set(RECIPES[recipe]) if args.out is not None else set()
    if args.geometry:
        read.add("base")
    if not _by_slerp(recipe, args.merge):
        read.discard("share")
    for name in OPTIONS:
        if getattr(args, name) is None or name in read:
            continue
        option = f"--{name.replace('_', '-')}"
        if args.out is None:
            raise UsageError(f"{option} belongs to a soup, and none is made without --out; add --out DIR")
        if recipe == "liti" and name == "share":
            raise UsageError("--share is not read with --merge uniform; leave one of them out")
        readers = [f"--recipe {other}" for other, options in RECIPES.items() if name in options]
        readers += ["--geometry"] if name == "base" else []
        raise UsageError(f"{option} is not read by the recipe {recipe}; it belongs to {' or '.join(readers)}")


def _check_counts(request: Request) -> None:
    count, recipe = len(request.models), request.recipe
    least = 1 if recipe in ("liti", "task_arithmetic") or request.out is None else 2
    if count < least:
        raise UsageError(f"{_models(count)} given; a soup by the recipe {recipe} needs at least {least}")
    if request.out is None and count < 2 and request.base is None:
        raise UsageError("--geometry compares models: give at least two, or --base")
    if recipe == "line" and count != 2:
        raise UsageError(f"--recipe line is between two models, and {_models(count)} given; see --recipe weighted")
    if recipe == "weighted":
        _check_weights(request, count)
    if recipe == "task_arithmetic":
        if request.scales is None:
            raise UsageError("--scales is missing: the factor of each task vector, such as --scales .6 .6")
        if len(request.scales) != count:
            raise UsageError(f"--scales has {len(request.scales)} numbers, and {_models(count)} given; one each")
    if recipe == "greedy" and request.validation is None:
        raise UsageError(
            "--validation is missing: the held-out conversations or texts by which --recipe greedy chooses"
        )
    if request.share is not None and not 0 <= request.share <= 1:
        raise UsageError(f"--share {request.share:g}: must be from 0 (first model) to 1 (second model)")
    if request.threads is not None and request.threads < 1:
        raise UsageError(f"--threads {request.threads}: must be at least 1")


def _check_weights(request: Request, count: int) -> None:
    if request.weights is None:
        raise UsageError("--weights is missing: one for each model, such as --weights .5 .3 .2")
    if len(request.weights) != count:
        raise UsageError(f"--weights has {len(request.weights)} numbers, and {_models(count)} given; give one each")
    total = math.fsum(request.weights)
    if not request.any_sum and abs(total - 1) > 1e-6:
        raise UsageError(f"--weights sum to {total:g}, not to 1; correct them, or give --any-sum if that is meant")
    if not any(request.weights):
        raise UsageError("--weights are all 0, which is no model; give at least one other weight")


def _numbers(option: str, words: Sequence[str] | None) -> tuple[float, ...] | None:
    """Return the numbers of an option, written as several words, with commas, or both."""
    if words is None:
        return None
    return tuple(_number(option, part) for word in words for part in word.split(",") if part.strip())


def _number(option: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise UsageError(
            f"{option}: {text!r} is not a number; give models before {option}, or write {option} with commas: .5,.5"
        ) from error
    if not math.isfinite(value):
        raise UsageError(f"{option} {text}: must be finite")
    return value


def _default(text: str | None, default: float | None, option: str) -> float | None:
    return default if text is None else _number(option, text)


def _by_slerp(recipe: str, merge: str | None) -> bool:
    return recipe == "slerp" or (recipe == "liti" and merge in (None, "slerp"))


def _models(count: int) -> str:
    return "one model is" if count == 1 else f"{count} models are"
