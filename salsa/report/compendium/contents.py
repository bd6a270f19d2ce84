"""What is in an outputs folder: its artifacts, its results as told by their main files, and what could not be read."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from salsa.report import schema as experiments
from salsa.report.landscape import files as landscapes
from salsa.report.study import schema as studies
from salsa.report.study.names import named
from salsa.store import format as store_format
from salsa.store.activity import unfinished
from salsa.store.artifact import Artifact, Store
from salsa.store.garbage import EXPERIMENT_DIGITS, RESULTS
from salsa.store.lineage import Lineage
from salsa.store.quantities import shown_duration

Advance = Callable[[str, int, int], None]
"""Is told what is done, how much of it, and of how much."""

REPORT, LANDSCAPE, STUDY = "report", "landscape", "study"
MAIN_FILES = {REPORT: "experiment.json", LANDSCAPE: landscapes.NAME, STUDY: studies.NAME}
EXPERIMENT_PARTS = (
    *("fingerprint", "title", "model", "note", "settings", "judge", "level", "suites", "opponents", "anchors"),
    *("rows", "curves", "samples", "warnings"),
)
FLAWS = (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)
"""What a file that is not what it should be makes its reader raise."""
DAMAGED, FAILED, BEGUN, ASIDE = "cannot be shown", "failed", "begun, not finished", "set aside as damaged"
OVERCOME = "failed, and was made since"


@dataclass(frozen=True)
class Result:
    """A result: what its main file tells, and where its files lie for people; `manifest` is empty if that is lost."""

    kind: str
    fingerprint: str
    told: dict[str, Any]
    folder: Path
    manifest: Mapping[str, Any] = field(default_factory=dict)
    published: float | None = None

    @property
    def anchor(self) -> str:
        """Where it is on the page."""
        return f"{self.kind}-{self.fingerprint[:EXPERIMENT_DIGITS]}"


@dataclass(frozen=True)
class Problem:
    """Something that is not on the page, or not finished: its state, what it is, why, and when that was noted."""

    state: str
    what: str
    reason: str
    fingerprint: str = ""
    when: float | None = None


@dataclass(frozen=True)
class Contents:
    """Everything that the page is made from; the results of each kind are in the order of their publication."""

    outputs: Path
    lineage: Lineage
    results: Mapping[str, list[Result]]
    problems: list[Problem]


def nothing(what: str, done: int, total: int) -> None:
    """Take note of no advance."""


def read(outputs: Path, advance: Advance = nothing) -> Contents:
    """Read an outputs folder without writing to it or locking anything, so that runs may go on in it.

    Raises `salsa.store.format.StoreFormatError` for the store of a newer version. Whatever else cannot be read is among
    the problems.
    """
    store = Store(outputs)
    store_format.check(store.root)
    problems: list[Problem] = []
    lineage = Lineage(_readable(list(store.artifacts()), problems, advance))
    problems += [
        Problem(DAMAGED, f"{lineage.artifacts[identity].kind} artifact", reason, identity)
        for identity, reason in lineage.unreadable.items()
    ]
    results = _results(store, lineage, problems, advance)
    return Contents(store.root, lineage, results, [*problems, *_not_published(store, results)])


def _readable(artifacts: list[Artifact], problems: list[Problem], advance: Advance) -> Iterator[Artifact]:
    """Yield the artifacts whose manifests can be opened; what is wrong in one is for the lineage to find."""
    for number, artifact in enumerate(artifacts):
        advance("manifests", number, len(artifacts))
        try:
            _ = artifact.manifest
        except FileNotFoundError:
            continue  # removed since it was listed
        except OSError as error:
            problems.append(Problem(DAMAGED, f"{artifact.kind} artifact", str(error), artifact.fingerprint))
            continue
        except ValueError:
            pass  # the lineage keeps it, with the reason
        yield artifact


def _results(store: Store, lineage: Lineage, problems: list[Problem], advance: Advance) -> dict[str, list[Result]]:
    """Return the results of each kind, from the store or, where they are no longer there, from their copies."""
    places = [*_stored(store, lineage), *_copies(store, lineage)]
    results: dict[str, list[Result]] = {kind: [] for kind in RESULTS}
    for number, (kind, identity, source, folder) in enumerate(places):
        advance("results", number, len(places))
        try:
            told = READERS[kind](source / MAIN_FILES[kind])
            result = _result(kind, told, folder, lineage.artifacts.get(identity))
        except FLAWS as error:
            problems.append(Problem(DAMAGED, kind, _reason(error), identity))
            continue
        results[kind].append(result)
    return {kind: sorted(found, key=lambda each: each.published or 0.0) for kind, found in results.items()}


def _stored(store: Store, lineage: Lineage) -> Iterator[tuple[str, str, Path, Path]]:
    """Yield kind, fingerprint, the folder to read from, and the folder where people look, of each result."""
    for artifact in lineage.artifacts.values():
        if artifact.kind in RESULTS:
            copied = store.root / RESULTS[artifact.kind] / artifact.fingerprint[:EXPERIMENT_DIGITS]
            complete = (copied / MAIN_FILES[artifact.kind]).is_file()
            yield artifact.kind, artifact.fingerprint, artifact.path, copied if complete else artifact.path


def _copies(store: Store, lineage: Lineage) -> Iterator[tuple[str, str, Path, Path]]:
    known = {(artifact.kind, identity[:EXPERIMENT_DIGITS]) for identity, artifact in lineage.artifacts.items()}
    for kind, folder in RESULTS.items():
        for path in sorted((store.root / folder).glob(f"*/{MAIN_FILES[kind]}")):
            if (kind, path.parent.name) not in known:
                yield kind, path.parent.name, path.parent, path.parent


def _result(kind: str, told: dict[str, Any], folder: Path, artifact: Artifact | None) -> Result:
    if artifact is None:
        fingerprint = told.get("fingerprint")
        if not isinstance(fingerprint, str):
            raise ValueError(f"{folder}: fingerprint is {fingerprint!r}")
        return Result(kind, fingerprint, told, folder, published=(folder / MAIN_FILES[kind]).stat().st_mtime)
    if not _has_manifest(artifact):
        written = (artifact.path / MAIN_FILES[kind]).stat().st_mtime
        return Result(kind, artifact.fingerprint, told, folder, published=written)
    return Result(kind, artifact.fingerprint, told, folder, artifact.manifest, artifact.published)


def _has_manifest(artifact: Artifact) -> bool:
    try:
        return bool(artifact.manifest)
    except (OSError, ValueError):
        return False


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__


def _not_published(store: Store, results: Mapping[str, Sequence[Result]]) -> Iterator[Problem]:
    """Yield what has failed, was begun (and may be running) or was set aside; nothing is locked to ask who works."""
    newest = {f"{STUDY} {study.told['study']}": study.published or 0.0 for study in results[STUDY]}
    for path in sorted((store.root / "failures").glob("*/*.json")):
        note = _note(path)
        if store.find(path.parent.name, path.stem) is None:
            reason = (str(note.get("error", "")).splitlines() or ["no reason noted"])[0]
            what, when = str(note.get("stage", path.parent.name)), _time(note, path)
            # Its settings may have changed since, so the fingerprint of what was made then is another one.
            overcome = path.parent.name == STUDY and newest.get(what, 0.0) > when
            yield Problem(OVERCOME if overcome else FAILED, what, reason, path.stem, when)
    failed = {path.stem for path in (store.root / "failures").glob("*/*.json")}
    for stage in unfinished(store):
        if stage.fingerprint not in failed:
            yield Problem(BEGUN, stage.name, "running, or ended before its end", stage.fingerprint)
    for artifact in store.broken():
        if store.find(artifact.kind, artifact.fingerprint) is None:
            note = _note(artifact.path.with_name(f"{artifact.path.name}.json"))
            yield Problem(ASIDE, artifact.kind, str(note.get("reason", "no reason noted")), artifact.fingerprint)
    for artifact in store.headless():
        yield Problem(DAMAGED, f"{artifact.kind} artifact", "its manifest is lost", artifact.fingerprint)


def _time(note: Mapping[str, Any], path: Path) -> float:
    """Return when a failure was noted, in seconds since 1970."""
    time = note.get("time")
    return float(time) if isinstance(time, int | float) else path.stat().st_mtime


def _note(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"error": f"unknown: its note {path.name} cannot be read"}
    return note if isinstance(note, dict) else {}


def _experiment(path: Path) -> dict[str, Any]:
    told = experiments.read(path)
    missing = [part for part in EXPERIMENT_PARTS if part not in told]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    return {**told, "training": {}}  # the largest part, and not shown


def _study(path: Path) -> dict[str, Any]:
    """Return a study as the page shows it: the main table alone, and of the figures no points."""
    told = studies.read(path)
    figures = [_without_points(figure) for figure in told["figures"]]
    drawn = {name: str(figure["title"]) for name, figure in named(told).items()}
    slim = {**told, "tables": told["tables"][:1], "figures": figures, "drawn": drawn}
    return studies.printable(slim)


def _without_points(figure: Mapping[str, Any]) -> dict[str, Any]:
    """Return a figure with the labels and roles of its series, by which looks go, and none of its many points."""
    return {**figure, "series": [{**series, "points": []} for series in figure["series"]]}


READERS: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    REPORT: _experiment,
    LANDSCAPE: landscapes.read,
    STUDY: _study,
}


def cpu_seconds(artifacts: Iterable[Artifact]) -> float:
    """Return the CPU time that artifacts took together, in seconds; those that do not say count as nothing."""
    return sum(map(_seconds, artifacts))


def _seconds(artifact: Artifact) -> float:
    if not _has_manifest(artifact):
        return 0.0
    seconds = artifact.manifest.get("cpu_seconds")
    return float(seconds) if isinstance(seconds, int | float) else 0.0


def shown_cpu(artifacts: Iterable[Artifact]) -> str:
    """Return the CPU time of artifacts as people read it."""
    return f"{shown_duration(cpu_seconds(artifacts))} of CPU"
