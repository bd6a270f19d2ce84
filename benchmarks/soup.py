"""What a soup costs: wall time beside mergekit 0.1.5 and beside copying, whether both soups are equal, and memory.

python -m benchmarks.soup [--size 500e6] [--large 5e9] [--rounds 5] [--sharded] [--check] [--json FILE]

Two synthetic float32 models in the shape of Llama. `command`: the whole command with start-up, in turns with mergekit's
own. `sum`: the averaging without start-up, in turns with a plain program that reads both models in chunks and writes
as much as one of them. Files are in the page cache, results go to it; every program has all processors. Memory is
anonymous memory, sampled in runs of their own; the models of the `--large` case are holes in files, only the result
takes space. mergekit is installed into an environment of its own, unless --mergekit names the Python of one.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers import environment

PROGRAMS = Path(__file__).parent / "peers"
FASTER, AS_LONG, MEMORY = 3.0, 2.0, 400
"""The targets: the command beside mergekit, the sum beside copying, MiB of memory besides the largest tensor."""
MEBI = 2**20
_MANY = 16
_SMALL_BYTES = 64e6
"""Size of each of the many ingredients."""
_TINY_BYTES = 1_000_000
_SHARD_BYTES = 128 * MEBI


@dataclass(frozen=True)
class Line:
    """A line of the table: two figures, what one is to the other in each round, and whether the target holds."""

    what: str
    ours: float
    other: float | None
    unit: str
    wanted: str
    holds: bool
    ratios: Sequence[float] = field(default=())


def turns(programs: dict[str, Callable[[Path], float]], folder: Path, rounds: int) -> dict[str, list[float]]:
    """Return what each program gives in each round; the order changes from round to round, and a result is removed."""
    found: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(rounds + 1):
        for name, program in list(programs.items())[:: 1 if number % 2 else -1]:
            out = folder / "out"
            seconds = program(out)
            shutil.rmtree(out)
            if number:  # the first round fills the page cache
                found[name].append(seconds)
    return found


def commands(what: str, models: Sequence[Path], folder: Path, python: Path, rounds: int, least: float) -> Line:
    """Measure the whole command beside mergekit's; with `least` 0 no ratio is wanted."""
    from benchmarks.peers.process import cost

    programs: dict[str, Callable[[Path], float]] = {
        "ours": lambda out: cost(ours(models, [0.5, 0.5], out)).seconds,
        "other": lambda out: cost(theirs(python, models, [0.5, 0.5], out)).seconds,
    }
    found = turns(programs, folder, rounds)
    ratios = [theirs / ours for ours, theirs in zip(found["ours"], found["other"], strict=True)]
    return _beside(what, found, ratios, f"at least {least:g}" if least else "", statistics.median(ratios) >= least)


def sums(models: Sequence[Path], folder: Path, rounds: int) -> Line:
    """Measure the sum, without start-up, beside copying."""

    def program(name: str) -> Callable[[Path], float]:
        return lambda out: environment.call(Path(sys.executable), PROGRAMS / name, *models, out)["seconds"]

    found = turns({"ours": program("salsa_soup.py"), "other": program("plain_copy.py")}, folder, rounds)
    ratios = [ours / copying for ours, copying in zip(found["ours"], found["other"], strict=True)]
    return _beside("the sum, and copying", found, ratios, f"at most {AS_LONG:g}", statistics.median(ratios) <= AS_LONG)


def agreement(models: Sequence[Path], folder: Path, python: Path) -> list[Line]:
    """Compare the soups of both programs at two pairs of weights."""
    from benchmarks.peers.difference import ROUNDINGS, difference
    from benchmarks.peers.process import cost

    lines = []
    for weights, same in (((0.5, 0.5), True), ((0.3, 0.7), False)):
        one, two = folder / "ours", folder / "theirs"
        cost(ours(models, weights, one))
        cost(theirs(python, models, weights, two))
        found = difference(one, two, (models[0], models[1]), weights)
        name = f"weights {weights[0]:g} and {weights[1]:g}"
        if same:
            text = f"{name}: tensors equal to the last bit, of all"
            lines.append(Line(text, found.equal, found.tensors, "tensors", "all", found.equal == found.tensors))
        else:
            text = f"{name}: largest difference"
            lines.append(
                Line(text, found.units, None, "last places", f"at most {ROUNDINGS:g}", found.units <= ROUNDINGS)
            )
        shutil.rmtree(one)
        shutil.rmtree(two)
    return lines


def memory(models: Sequence[Path], folder: Path, python: Path | None, size: float) -> Line:
    """Measure the anonymous memory of both commands."""
    from benchmarks.peers.checkpoints import Shape
    from benchmarks.peers.process import cost

    out = folder / "out"
    found = cost(ours(models, [0.5, 0.5], out), watched=True).anonymous_mib
    shutil.rmtree(out)
    peer = None
    if python is not None:
        peer = cost(theirs(python, models, [0.5, 0.5], out), watched=True).anonymous_mib
        shutil.rmtree(out)
    shape = Shape.of_size(int(size))
    bound = MEMORY + 4 * shape.vocabulary * shape.hidden / MEBI
    return Line(f"memory, models of {size / 1e9:.2g} GB", found, peer, "MiB", f"below {bound:.0f}", found < bound)


def many(folder: Path) -> Line:
    """Measure the anonymous memory of sixteen ingredients and of two of them."""
    from benchmarks.peers.checkpoints import make
    from benchmarks.peers.process import cost

    models = [make(folder / f"small {number}", int(_SMALL_BYTES), number, 2**40) for number in range(_MANY)]
    found = []
    for count in (_MANY, 2):
        found.append(cost(ours(models[:count], [1 / count] * count, folder / "out"), watched=True).anonymous_mib)
        shutil.rmtree(folder / "out")
    bound = found[1] + 8  # what the system counts varies by some pages
    most, two = found
    return Line(f"memory, {_MANY} ingredients and 2", most, two, "MiB", f"below {bound:.0f}", most < bound)


def ours(models: Sequence[Path], weights: Sequence[float], out: Path) -> list[object]:
    """Return our command."""
    return [sys.executable, "-m", "salsa.cli", "soup", *models, "--weights", *weights, "--out", out]


def theirs(python: Path, models: Sequence[Path], weights: Sequence[float], out: Path) -> list[object]:
    """Return mergekit's command, for which it writes the recipe beside `out`."""
    mixed = [
        {"model": str(model), "parameters": {"weight": weight}} for model, weight in zip(models, weights, strict=True)
    ]
    recipe = out.parent / "recipe.yaml"
    # JSON is YAML.
    recipe.write_text(json.dumps({"models": mixed, "merge_method": "linear", "dtype": "float32"}), encoding="utf-8")
    return [python.parent / "mergekit-yaml", recipe, out, "--no-copy-tokenizer", "--quiet"]


def table(lines: Sequence[Line]) -> str:
    """Return the lines as a Markdown table."""
    found = ["| | ours | other | ratio (rounds) | wanted | |", "|---|---:|---:|---:|---:|---|"]
    for line in lines:
        ratio = ""
        if line.ratios:
            ratio = f"**{statistics.median(line.ratios):.2f}** ({min(line.ratios):.2f} to {max(line.ratios):.2f})"
        other = "" if line.other is None else f"{line.other:.4g}"
        holds = ("holds" if line.holds else "does not hold") if line.wanted else ""
        found.append(f"| {line.what}, {line.unit} | {line.ours:.4g} | {other} | {ratio} | {line.wanted} | {holds} |")
    return "\n".join(found)


def parse(given: Sequence[str] | None = None) -> Any:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, default=500e6, help="bytes of each of the two models")
    parser.add_argument("--large", type=float, default=0, help="bytes of the models whose memory is measured as well")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each program, after one that warms up")
    parser.add_argument("--sharded", action="store_true", help="models in files of 128 MiB")
    parser.add_argument("--folder", type=Path, help="where to write the models meanwhile (default: a temporary folder)")
    parser.add_argument("--peers", type=Path, default=environment.default_folder(), help="folder of environments")
    parser.add_argument("--mergekit", type=Path, help="the Python of an environment that has mergekit 0.1.5")
    parser.add_argument("--alone", action="store_true", help="without mergekit")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    parser.add_argument("--check", action="store_true", help="exit with code 1 if a target does not hold")
    return parser.parse_args(given)


def main(options: Any) -> int:
    """Measure, print the table and return the exit code."""
    python = None if options.alone else options.mergekit or environment.merging(options.peers)
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        lines = measure(Path(scratch), python, options)
    print(table(lines))
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(line) for line in lines], indent=1), encoding="utf-8")
    return 1 if options.check and not all(line.holds for line in lines) else 0


def measure(folder: Path, python: Path | None, options: Any) -> list[Line]:
    """Make the models in an empty folder and return all lines.

    Raises:
        PeerError: if the disk has too little room, or a program fails.
    """
    from benchmarks.peers.checkpoints import make

    free, needed = shutil.disk_usage(folder).free, 1.1 * max(4 * options.size, options.large + 2 * options.size)
    if free < needed + _MANY * _SMALL_BYTES:
        raise environment.PeerError(f"{folder} has {free / 1e9:.0f} GB of room, {needed / 1e9:.0f} are needed")
    shard_bytes = _SHARD_BYTES if options.sharded else 2**40
    models = [make(folder / f"model {seed}", int(options.size), seed, shard_bytes) for seed in range(2)]
    lines = [sums(models, folder, options.rounds)]
    if python is not None:
        tiny = [make(folder / f"tiny {seed}", _TINY_BYTES, seed, 2**40) for seed in range(2)]
        whole = [
            commands("the command, and mergekit's", models, folder, python, options.rounds, FASTER),
            commands("start-up: the same on models of 1 MB", tiny, folder, python, options.rounds, 0),
        ]
        lines = [*whole, *lines, *agreement(models, folder, python)]
    lines.append(memory(models, folder, python, options.size))
    if options.large:
        large = [make(folder / f"large {seed}", int(options.large), seed, 2**40, empty=True) for seed in range(2)]
        lines.append(memory(large, folder, None, options.large))
    return [*lines, many(folder)]


def _beside(what: str, found: dict[str, list[float]], ratios: list[float], wanted: str, holds: bool) -> Line:
    mine, other = (statistics.median(found[name]) for name in ("ours", "other"))
    return Line(what, mine, other, "s", wanted, holds, ratios)


if __name__ == "__main__":
    sys.exit(main(parse()))
