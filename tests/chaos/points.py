"""What a process is doing to an outputs folder, told from Python's audit events: named points, and facts to record.

An audit event comes before the operation that it names. What follows a rename is therefore seen at the next event.
Standard library only: this runs at the start of every process under test.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

BEGUN = "between the lock and the work"
LOCKING = "while taking a lock"
WAITING = "at a lock that another process holds"
BETWEEN_FILES = "between the files of an artifact"
MANIFEST = "in the middle of the manifest"
BEFORE_PUBLICATION = "before the rename into the store"
AFTER_PUBLICATION = "after the rename into the store"
BEFORE_CLEANING = "published, before the checkpoints are removed"
CLEANING = "while the checkpoints are removed"
CHECKPOINT = "in the middle of a checkpoint"
BEFORE_CHECKPOINT = "before the rename of a checkpoint"
AFTER_CHECKPOINT = "after the rename of a checkpoint"
TRACE = "in the middle of the replies along the way"
LOG = "in the middle of a line of the training log"
NOTE = "in the middle of the note of progress"
REWIND = "while the training log is cut back to the checkpoint"
JOURNAL = "in the middle of a line of the journal of attempts"
EXPORT = "between the files of a report shown to people"
BEFORE_EXPORT = "before the rename of a report shown to people"

POINTS = (
    *(BEGUN, LOCKING, WAITING, BETWEEN_FILES, MANIFEST, BEFORE_PUBLICATION, AFTER_PUBLICATION, BEFORE_CLEANING),
    *(CLEANING, CHECKPOINT, BEFORE_CHECKPOINT, AFTER_CHECKPOINT, TRACE, LOG, NOTE, REWIND, JOURNAL, EXPORT),
    BEFORE_EXPORT,
)

_STAGE = r"(?P<kind>[a-z][a-z0-9_]*)/(?P<fingerprint>[0-9a-f]{64})"
_DASHED = r"(?P<kind>[a-z][a-z0-9_]*)-(?P<fingerprint>[0-9a-f]{64})"
_PUBLISHED = re.compile(rf"store/{_STAGE}")
_TEMPORARY = re.compile(rf"temporary/{_DASHED}-[^/]+(?:/(?P<name>.+))?")
_UNFINISHED = re.compile(rf"unfinished/{_STAGE}(?:/(?P<name>.+))?")
_LOCK = re.compile(rf"locks/{_DASHED}\.lock")
_OWNER = re.compile(rf"locks/{_DASHED}\.lock\.owner\.json")
_EXPORT = re.compile(r"experiments/[0-9a-f]+")
_ASIDE = re.compile(rf"broken/{_DASHED}-[0-9]+")
_WRITES = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True)
class Torn:
    """A write to leave half done: the file, whether it is added to, where its content may be found, what is durable.

    `durable` (bytes) is what a power cut cannot take any more from a file that is added to; None forbids such a cut.
    """

    path: Path
    appends: bool = False
    like: Path | None = None
    durable: int | None = None


@dataclass(frozen=True)
class Sighting:
    """A process at a named point, at work on a stage (empty words where it is none)."""

    point: str
    kind: str = ""
    fingerprint: str = ""
    path: str = ""
    torn: Torn | None = None


@dataclass(frozen=True)
class Fact:
    """Something that happened: began, attempted, published, refused, set aside, trains, saved, resumed."""

    what: str
    kind: str
    fingerprint: str
    values: dict[str, Any]


Report = Sighting | Fact


def whole_lines(path: Path) -> int:
    """Return how many lines of a file have their end."""
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


class Watcher:
    """Turns the audit events of one process into sightings and facts about one outputs folder."""

    def __init__(self, root: Path) -> None:
        self._root = f"{root}{os.sep}"
        self._after: Callable[[], Iterator[Report]] | None = None
        self._written: set[str] = set()
        self._begun: set[str] = set()
        self._logs: dict[str, Torn] = {}
        self._cleaned: tuple[str, str] | None = None
        self._removed = 0

    def see(self, event: str, arguments: tuple[Any, ...]) -> Iterator[Report]:
        """Yield what an audit event tells, in the order in which it happened."""
        handle = _HANDLERS.get(event)
        if handle is None:
            return
        if self._after is not None:
            after, self._after = self._after, None
            yield from after()
        yield from handle(self, *arguments)

    def _relative(self, path: Any) -> str | None:
        """Return a path inside the folder; None for others, and for names relative to an open folder."""
        if isinstance(path, bytes) or not isinstance(path, str | os.PathLike):
            return None
        text = os.fspath(path)
        return text.removeprefix(self._root) if isinstance(text, str) and text.startswith(self._root) else None

    def _path(self, name: str) -> Path:
        return Path(self._root, name)

    def _opened(self, path: Any, mode: Any, flags: Any) -> Iterator[Report]:
        name = self._relative(path)
        if name is None:
            return
        if found := _LOCK.fullmatch(name):
            yield from self._tried(name, found)
        elif isinstance(flags, int) and flags & _WRITES:
            yield from self._writes(name, appends=bool(flags & os.O_APPEND))

    def _tried(self, name: str, found: re.Match[str]) -> Iterator[Report]:
        process = self._holder(found)
        if process is not None and process != os.getpid() and _lives(process):
            yield Sighting(WAITING, found["kind"], found["fingerprint"], name)

    def _holder(self, found: re.Match[str]) -> int | None:
        """Return which process noted that it holds the lock of a stage."""
        owner = self._path(f"locks/{found['kind']}-{found['fingerprint']}.lock.owner.json")
        try:
            return int(json.loads(owner.read_bytes())["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _writes(self, name: str, appends: bool) -> Iterator[Report]:
        path = self._path(name)
        if found := _OWNER.fullmatch(name):
            yield Sighting(LOCKING, found["kind"], found["fingerprint"], name, Torn(path))
        elif found := _TEMPORARY.fullmatch(name):
            yield from self._writes_artifact(name, found)
        elif found := _UNFINISHED.fullmatch(name):
            yield from self._writes_unfinished(name, found, appends)

    def _writes_artifact(self, name: str, found: re.Match[str]) -> Iterator[Report]:
        stage = found["kind"], found["fingerprint"]
        if found["name"] == "manifest.json":
            yield Sighting(MANIFEST, *stage, name, Torn(self._path(name)))
        elif found["name"] and found["name"] != ".permissions" and self._again(name.split("/")[1], name):
            works = self._holder(found) == os.getpid()
            yield Sighting(BETWEEN_FILES, *stage, name) if works else Sighting(EXPORT, path=name)

    def _again(self, folder: str, name: str) -> bool:
        """Return whether another file was written into the folder before."""
        again = any(other.startswith(f"{folder}\0") and other != f"{folder}\0{name}" for other in self._written)
        self._written.add(f"{folder}\0{name}")
        return again

    def _writes_unfinished(self, name: str, found: re.Match[str], appends: bool) -> Iterator[Report]:
        kind, fingerprint, path = found["kind"], found["fingerprint"], self._path(name)
        own = found["name"] or ""
        if ".ckpt" in own and own.endswith(".new"):
            yield Sighting(CHECKPOINT, kind, fingerprint, name, Torn(path, like=_finished(path)))
        elif own.startswith("trace/"):
            yield Sighting(TRACE, kind, fingerprint, name, Torn(path))
        elif own == "metrics.jsonl" and appends:
            # What is there when a training opens its log has been synced; later lines only with the next checkpoint.
            self._logs[fingerprint] = Torn(path, appends=True, durable=_size(path))
            yield Fact("trains", kind, fingerprint, {})
        elif own == "attempts.jsonl":
            yield Sighting(JOURNAL, kind, fingerprint, name, Torn(path, appends=True))
        elif own == "progress.json":
            if fingerprint in self._logs:
                yield Sighting(LOG, kind, fingerprint, name, self._logs[fingerprint])
            yield Sighting(NOTE, kind, fingerprint, name, Torn(path))

    def _renamed(self, source: Any, target: Any, *_: Any) -> Iterator[Report]:
        name = self._relative(target)
        if name is None:
            return
        if found := _PUBLISHED.fullmatch(name):
            yield from self._publishes(Path(source), name, found)
        elif found := _UNFINISHED.fullmatch(name):
            own = found["name"] or ""
            if own.endswith(".new"):
                # Lightning writes a checkpoint elsewhere and moves it here.
                torn = Torn(self._path(name), like=Path(source))
                yield Sighting(CHECKPOINT, found["kind"], found["fingerprint"], name, torn)
            elif own.endswith(".ckpt"):
                yield from self._saves(Path(source), name, found)
            elif own == "metrics.jsonl":
                yield from self._rewinds(Path(source), name, found)
            elif ".damaged" in own:
                yield Fact("set aside", found["kind"], found["fingerprint"], {"path": name})
        elif found := _ASIDE.fullmatch(name):
            yield Fact("set aside", found["kind"], found["fingerprint"], {"path": name})
        elif _EXPORT.fullmatch(name):
            yield Sighting(BEFORE_EXPORT, path=name)

    def _publishes(self, source: Path, name: str, found: re.Match[str]) -> Iterator[Report]:
        stage, target = (found["kind"], found["fingerprint"]), self._path(name)
        manifest = {"manifest": _digest(source / "manifest.json")}
        taken = (target / "manifest.json").exists()
        yield Fact("refused" if taken else "attempted", *stage, manifest)
        yield Sighting(BEFORE_PUBLICATION, *stage, name)

        def after() -> Iterator[Report]:
            if not source.exists():
                yield Fact("published", *stage, manifest)
                yield Sighting(AFTER_PUBLICATION, *stage, name)

        self._after = after

    def _saves(self, source: Path, name: str, found: re.Match[str]) -> Iterator[Report]:
        stage, log = (found["kind"], found["fingerprint"]), self._path(name).with_name("metrics.jsonl")
        if found["fingerprint"] in self._logs:
            # Checked by the durability of the log itself: it is synced before a checkpoint gets its name.
            self._logs[found["fingerprint"]] = Torn(log, appends=True, durable=_size(log))
        steps = {"steps": whole_lines(log)}
        yield Sighting(BEFORE_CHECKPOINT, *stage, name)

        def after() -> Iterator[Report]:
            if not source.exists():
                yield Fact("saved", *stage, steps)
                yield Sighting(AFTER_CHECKPOINT, *stage, name)

        self._after = after

    def _rewinds(self, source: Path, name: str, found: re.Match[str]) -> Iterator[Report]:
        stage, log = (found["kind"], found["fingerprint"]), self._path(name)
        repeated = whole_lines(log) - whole_lines(source)
        values = {"steps": whole_lines(source), "repeated": repeated, "last": log.stat().st_mtime}
        yield Sighting(REWIND, *stage, name)

        def after() -> Iterator[Report]:
            if not source.exists():
                yield Fact("resumed", *stage, values)

        self._after = after

    def _made(self, path: Any, *_: Any) -> Iterator[Report]:
        name = self._relative(path)
        found = _TEMPORARY.fullmatch(name) if name is not None else None
        # A folder whose parent has to be made first is tried twice. Who does not hold the stage only copies its result.
        if name is None or not found or found["name"] or name in self._begun:
            return
        self._begun.add(name)
        if self._holder(found) == os.getpid():
            yield Fact("began", found["kind"], found["fingerprint"], {})
            yield Sighting(BEGUN, found["kind"], found["fingerprint"], name)

    def _tree_removed(self, path: Any, *_: Any) -> Iterator[Report]:
        name = self._relative(path)
        found = _UNFINISHED.fullmatch(name) if name is not None else None
        self._cleaned = None
        if name is not None and found and not found["name"]:
            stage = found["kind"], found["fingerprint"]
            if self._path(f"store/{stage[0]}/{stage[1]}/manifest.json").exists():
                self._cleaned, self._removed = stage, 0
                yield Sighting(BEFORE_CLEANING, *stage, name)

    def _file_removed(self, path: Any, *_: Any) -> Iterator[Report]:
        # Inside a tree that is removed the names are relative to an open folder.
        if self._cleaned is not None and isinstance(path, str) and not Path(path).is_absolute():
            self._removed += 1
            if self._removed > 1:
                yield Sighting(CLEANING, *self._cleaned, path)


_HANDLERS: dict[str, Callable[..., Iterator[Report]]] = {
    "open": Watcher._opened,
    "os.rename": Watcher._renamed,
    "os.mkdir": Watcher._made,
    "shutil.rmtree": Watcher._tree_removed,
    "os.remove": Watcher._file_removed,
}


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        return True  # as another user's
    except ProcessLookupError:
        return False
    return True


def _finished(path: Path) -> Path:
    """Return the checkpoint that `<name>.ckpt.<pid>.new` is going to be."""
    return path.with_name(path.name.partition(".ckpt")[0] + ".ckpt")


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
