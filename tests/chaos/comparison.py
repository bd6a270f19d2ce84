"""Whether outputs that went through kills are as good as undisturbed ones: nothing differs, doubled, broken or left."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from salsa.store.artifact import MANIFEST, Artifact, Store
from salsa.store.lock import StageLock

Lines = Sequence[Mapping[str, Any]]
"""Facts or kills, as the ledger has them."""

DECLARED = ("started", "seconds", "cpu_seconds", "worker_peak_memory_mib", "made_by", "attempts", "digest")
"""Keys of a manifest that tell when, where, how long and how often it was tried, and the digest of the manifest itself:
the only ones that may differ. Files are compared whole.
"""


def differences(reference: Path, disturbed: Path) -> list[str]:
    """Return a sentence for each artifact that is not the same in both outputs folders, bit for bit."""
    expected, found = _artifacts(reference), _artifacts(disturbed)
    told = [f"{_name(key)} is missing" for key in sorted(expected.keys() - found.keys())]
    told += [f"{_name(key)} is not in the undisturbed run" for key in sorted(found.keys() - expected.keys())]
    for key in sorted(expected.keys() & found.keys()):
        one, two = expected[key].manifest, found[key].manifest
        for name in sorted(one.keys() | two.keys()):
            if name not in DECLARED and one.get(name) != two.get(name):
                told.append(f"{_name(key)}: {name} differs: {', '.join(_unequal(one.get(name), two.get(name)))}")
    return told


def shown_differences(reference: Path, disturbed: Path) -> list[str]:
    """Return the files for people, of experiments and of sweeps, that are not the same in both outputs folders."""
    expected, found = _shown(reference), _shown(disturbed)
    return [
        f"{name} differs" for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)
    ]


def damages(outputs: Path) -> list[str]:
    """Return a sentence for each published file that is missing, changed or unlisted."""
    told = []
    for key, artifact in sorted(_artifacts(outputs).items()):
        told += [f"{_name(key)}: {name} is damaged" for name in artifact.verify()]
        there = {path.relative_to(artifact.path).as_posix() for path in artifact.path.rglob("*") if path.is_file()}
        told += [f"{_name(key)}: {name} is in no manifest" for name in sorted(there - {MANIFEST, *_files(artifact)})]
    for folder in sorted((outputs / "store").glob("*/*")):
        if not (folder / MANIFEST).is_file():
            told.append(f"{folder.relative_to(outputs)} has no {MANIFEST}")
    return told


def left_overs(outputs: Path) -> list[str]:
    """Return what killed processes left and no later command removed; empty folders and notes of owners do not count.

    The note of who holds a lock is never consulted to decide anything, and is overwritten by the next who takes it.
    """
    told = [f"temporary/{path.name}" for path in sorted((outputs / "temporary").glob("*"))]
    told += [
        str(path.relative_to(outputs)) for path in sorted((outputs / "unfinished").rglob("*")) if not path.is_dir()
    ]
    told += [str(path.relative_to(outputs)) for path in sorted((outputs / "failures").rglob("*")) if path.is_file()]
    told += [f"experiments/{path.name}" for path in sorted((outputs / "experiments").glob(".*"))]
    told += [f"locks/{path.name}" for path in sorted((outputs / "locks").glob("probe-*"))]
    return told


def blocking_locks(outputs: Path) -> list[str]:
    """Return the locks that cannot be taken although no process is at work."""
    told = []
    for path in sorted((outputs / "locks").glob("*.lock")):
        lock = StageLock(path)
        if not lock.try_acquire():
            told.append(path.name)
        lock.release()
    return told


def duplicates(outputs: Path, facts: Lines) -> list[str]:
    """Return the stages that were published more than once, or offered to the store although it had them."""
    published: dict[tuple[str, str], set[str]] = {}
    for key, artifact in _artifacts(outputs).items():
        published.setdefault(key, set()).add(sha256((artifact.path / MANIFEST).read_bytes()).hexdigest())
    for fact in _of(facts, "published"):
        published.setdefault(_key(fact), set()).add(fact["manifest"])
    told = [f"{_name(key)} was published {len(who)} times" for key, who in sorted(published.items()) if len(who) > 1]
    return told + [f"{_name(_key(fact))} was computed again although it was stored" for fact in _of(facts, "refused")]


def set_aside(facts: Lines) -> list[str]:
    """Return what was taken for damaged, though processes were only killed."""
    return [f"{_name(_key(fact))}: {fact['path']}" for fact in _of(facts, "set aside")]


def needless(facts: Lines, kills: Lines) -> list[str]:
    """Return the stages that were begun again more often than whoever was at work on them was killed."""
    begun = Counter(_key(fact) for fact in _of(facts, "began"))
    hit = Counter(fingerprint for kill in kills for fingerprint in [kill["fingerprint"], *kill.get("also", ())])
    return [
        f"{_name(key)} was begun {count} times and hit by {hit[key[1]]} kills"
        for key, count in sorted(begun.items())
        if count > 1 + hit[key[1]]
    ]


@dataclass(frozen=True)
class Lost:
    """How much training was done twice: how often one was resumed, steps, the most steps and seconds of one time."""

    resumed: int
    steps: int
    most_steps: int
    most_seconds: float
    """From the last checkpoint, or the start of a training without one, to the last line of the log."""
    beyond: list[str]
    """Trainings that went back further than to the last checkpoint that had its name."""


def lost_work(facts: Lines) -> Lost:
    """Return what resuming cost, from the facts in their order."""
    saved: dict[tuple[str, str], int] = {}
    since: dict[tuple[str, str], float] = {}
    steps, seconds, beyond = [], [], []
    for fact in facts:
        key = _key(fact)
        if fact["what"] == "trains":
            since[key] = fact["time"]
        elif fact["what"] == "saved":
            saved[key], since[key] = fact["steps"], fact["time"]
        elif fact["what"] == "resumed":
            steps.append(max(0, fact["repeated"]))
            if steps[-1] and key in since:
                seconds.append(fact["last"] - since[key])
            last = saved.get(key, 0)
            if fact["steps"] < last:
                beyond.append(f"{_name(key)} had a checkpoint of step {last} and went on from {fact['steps']}")
    return Lost(len(steps), sum(steps), max(steps, default=0), max(seconds, default=0.0), beyond)


def _shown(outputs: Path) -> dict[str, bytes]:
    paths = (path for folder in ("experiments", "sweeps") for path in outputs.glob(f"{folder}/*/*") if path.is_file())
    contents = {path.relative_to(outputs).as_posix(): path.read_bytes() for path in paths}
    for name in contents:
        if name.endswith("/sweep.json"):
            record = json.loads(contents[name])
            record.pop("started")
            contents[name] = json.dumps(record).encode()
    return contents


def _artifacts(outputs: Path) -> dict[tuple[str, str], Artifact]:
    return {(artifact.kind, artifact.fingerprint): artifact for artifact in Store(outputs).artifacts()}


def _files(artifact: Artifact) -> Mapping[str, Any]:
    return artifact.manifest["files"]


def _unequal(one: Any, two: Any) -> list[str]:
    if isinstance(one, dict) and isinstance(two, dict):
        return [name for name in sorted(one.keys() | two.keys()) if one.get(name) != two.get(name)]
    return [f"{json.dumps(one)[:60]} and {json.dumps(two)[:60]}"]


def _of(facts: Lines, what: str) -> Iterator[Mapping[str, Any]]:
    return (fact for fact in facts if fact["what"] == what)


def _key(fact: Mapping[str, Any]) -> tuple[str, str]:
    return fact["kind"], fact["fingerprint"]


def _name(key: tuple[str, str]) -> str:
    return f"{key[0]} {key[1][:12]}"
