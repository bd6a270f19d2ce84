"""Results that are there completely or not at all, shared by processes that know nothing of each other.

Under the store's root:

    store/<kind>/<fingerprint>/        published artifacts; immutable, complete if and only if manifest.json is there
    unfinished/<kind>/<fingerprint>/   checkpoints of work in progress; survive a kill, removed at publication
    temporary/<kind>-<fingerprint>-<host>-<pid>-<random>/    an artifact while it is written
    locks/<kind>-<fingerprint>.lock    who works on a stage (see `salsa.store.lock`)
    failures/<kind>/<fingerprint>.json the last failure of a stage; a note, never a cached result

How a worker gets the artifact of a stage:

1. Check: `find`; what is published is returned.
2. Lock: `StageLock(lock_path(...)).try_acquire()`; if another worker has the stage, do something else or wait.
3. Check again: the other worker may have published between 1 and 2. Without this step two workers compute the same.
4. Resume: continue from what is in `unfinished`, or start there.
5. Write the result into a `temporary` folder.
6. `publish`: fsync every file, write the manifest last, fsync it and the folders,
7. rename the folder to its final name in one step, and fsync the parent so that the name survives a power cut.

A kill before the rename leaves nothing in `store/`, and what it leaves in `temporary/` is removed by
`Store.clean_temporary`; a kill after it leaves a complete artifact. A rename never replaces an artifact, so that even
two workers without a lock agree on one result. Nothing in these files is ever unpickled.
"""

import errno
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from salsa.store.fingerprint import canonical, file_digest
from salsa.store.lock import StageLock, gone, this_process

MANIFEST = "manifest.json"
_OWN_KEYS = ("kind", "fingerprint", "files")
_KIND = re.compile(r"[a-z][a-z0-9_-]*")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = re.compile(r"(?P<kind>.+)-(?P<fingerprint>[0-9a-f]{64})-(?P<host>.+)-(?P<pid>[0-9]+)-[0-9a-f]+")


@dataclass(frozen=True)
class Artifact:
    """A published result: the folder `path` with its manifest. Equal if kind, fingerprint and path are."""

    kind: str
    fingerprint: str
    path: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What `Store.publish` was given, with `kind`, `fingerprint` and `files` (name: sha256, bytes); read once."""
        return self.json(MANIFEST)

    @property
    def metrics(self) -> dict[str, Any]:
        """The manifest's `metrics`; empty if the stage recorded none."""
        return self.manifest.get("metrics", {})

    def file(self, name: str) -> Path:
        """Return the path of one of its files; raises FileNotFoundError that lists the files there are."""
        path = self.path / name
        if not path.is_file():
            there = ", ".join(sorted(str(other.relative_to(self.path)) for other in _files(self.path))) or "none"
            raise FileNotFoundError(
                errno.ENOENT, f"artifact {self.kind} {self.fingerprint} has no file {name}; it has: {there}", str(path)
            )
        return path

    def json(self, name: str) -> Any:
        """Return the content of one of its JSON files; raises ValueError naming the file if it is malformed."""
        path = self.file(name)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON: {error}") from error

    def lines(self, name: str) -> list[Any]:
        """Return the values of one of its JSON-lines files in order, blank lines skipped.

        Raises ValueError naming the file and the line that is malformed.
        """
        path = self.file(name)
        values = []
        with path.open("rb") as file:  # as bytes, so that text that is no UTF-8 is an error of its line, too
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    values.append(json.loads(line))
                except ValueError as error:
                    raise ValueError(f"{path}, line {number} is not valid JSON: {error}") from error
        return values

    def verify(self) -> list[str]:
        """Return the names of files that are missing or whose bytes are no longer those that were published."""
        damaged = []
        for name, recorded in self.manifest["files"].items():
            path = self.path / name
            if not path.is_file() or file_digest(path) != recorded["sha256"]:
                damaged.append(name)
        return damaged


class Store:
    """All artifacts under one root folder; creates folders only when something is written."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()

    def find(self, kind: str, fingerprint: str) -> Artifact | None:
        """Return the published artifact, or None if there is none (yet)."""
        folder = self.root / "store" / _checked(kind, fingerprint)
        return Artifact(kind, fingerprint, folder) if (folder / MANIFEST).is_file() else None

    def artifacts(self, kind: str | None = None) -> Iterator[Artifact]:
        """Iterate over all published artifacts (of one kind), ordered by kind and fingerprint."""
        for manifest in sorted((self.root / "store").glob(f"*/*/{MANIFEST}")):
            folder = manifest.parent
            if kind in (None, folder.parent.name):
                yield Artifact(folder.parent.name, folder.name, folder)

    def lock_path(self, kind: str, fingerprint: str) -> Path:
        """Return where the stage's lock is: `StageLock(store.lock_path(...))` is a lock on it."""
        _checked(kind, fingerprint)
        return self.root / "locks" / f"{kind}-{fingerprint}.lock"

    def unfinished(self, kind: str, fingerprint: str) -> Path:
        """Return the folder, made if needed, where the lock's holder keeps checkpoints; publication removes it."""
        folder = self.root / "unfinished" / _checked(kind, fingerprint)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def temporary(self, kind: str, fingerprint: str) -> Path:
        """Return a new empty folder to write the artifact into, on the store's file system so that a rename works."""
        _checked(kind, fingerprint)
        process = this_process()
        name = f"{kind}-{fingerprint}-{process['host']}-{process['pid']}-{os.urandom(4).hex()}"
        folder = self.root / "temporary" / name
        folder.mkdir(parents=True)
        return folder

    def publish(self, kind: str, fingerprint: str, folder: Path, manifest: Mapping[str, Any]) -> Artifact:
        """Make `folder` (from `temporary`) the artifact, durably and in one step, and return it.

        The manifest gets `kind`, `fingerprint` and the size in bytes and SHA-256 of each file. Files become readable
        for whom the umask allows (safetensors writes for the owner only). If the artifact exists already, because
        another process was faster, that one is returned and `folder` is removed; nothing is ever replaced.
        Checkpoints and the failure note of the stage are removed.

        Raises TypeError or ValueError if the manifest has no canonical JSON (NaN, NumPy numbers, ...) or the folder
        holds what an artifact may not, and OSError if the folder is on another file system; `folder` then stays.
        """
        target = self.root / "store" / _checked(kind, fingerprint)
        complete = _completed(kind, fingerprint, manifest)
        if self.find(kind, fingerprint) is None:
            _seal(folder, complete)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._rename(folder, target)
        published = self.find(kind, fingerprint)
        if published is None:
            raise FileExistsError(
                errno.EEXIST,
                f"the place of artifact {kind} {fingerprint} is taken by something without {MANIFEST}; "
                "look at it, move it away and run again",
                str(target),
            )
        # The artifact is safe now: what cannot be removed here is only untidy, and clean_temporary tries again.
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self.root / "unfinished" / kind / fingerprint, ignore_errors=True)
        self._failure_path(kind, fingerprint).unlink(missing_ok=True)
        return published

    def _rename(self, folder: Path, target: Path) -> None:
        """Rename `folder` to `target` durably, or leave it where it is if `target` is taken."""
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                return
            if error.errno == errno.EXDEV:
                raise OSError(
                    error.errno,
                    f"an artifact must be written on the file system of its store, {self.root}; use Store.temporary",
                    str(folder),
                ) from error
            raise
        for parent in (target.parent, target.parent.parent, self.root):
            _sync(parent)  # also the parents of folders that this publication may have made

    def record_failure(self, kind: str, fingerprint: str, details: Mapping[str, Any]) -> Path:
        """Note that the stage failed, for people and reports, and return the note's path.

        `host`, `pid` and `time` (seconds since 1970) are added to `details` unless they are there. The note is not a
        result: the store itself never keeps a failed stage from being tried again.
        """
        path = self._failure_path(kind, fingerprint)
        path.parent.mkdir(parents=True, exist_ok=True)
        process = this_process()
        draft = path.with_name(f".{path.name}-{process['host']}-{process['pid']}-{os.urandom(4).hex()}")
        note = {**process, "time": time.time(), **details}
        # Whatever the details hold is written as text at worst: a failure to note a failure would hide the first one.
        draft.write_text(json.dumps(note, indent=2, default=str) + "\n", encoding="utf-8")
        _sync(draft)
        draft.replace(path)
        return path

    def failure(self, kind: str, fingerprint: str) -> dict[str, Any] | None:
        """Return the note of the stage's last failure, or None if it has not failed since its last success."""
        try:
            return json.loads(self._failure_path(kind, fingerprint).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def clean_temporary(self) -> list[Path]:
        """Remove and return what killed processes left: their temporary folders and checkpoints of published artifacts.

        A temporary folder is removed if its process is gone from this host and nobody holds the stage's lock (two
        containers may share a host's name but not its process numbers). Folders of other hosts stay.
        """
        removed = []
        for folder in sorted((self.root / "temporary").glob("*")):
            name = _TEMPORARY.fullmatch(folder.name)
            if name is None or not gone(name["host"], int(name["pid"])):
                continue
            lock = StageLock(self.lock_path(name["kind"], name["fingerprint"]))
            if lock.try_acquire():
                with lock:
                    shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
        for folder in sorted((self.root / "unfinished").glob("*/*")):
            if (self.root / "store" / folder.parent.name / folder.name / MANIFEST).is_file():
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
        return removed

    def _failure_path(self, kind: str, fingerprint: str) -> Path:
        return self.root / "failures" / _checked(kind, fingerprint).with_suffix(".json")


def _checked(kind: str, fingerprint: str) -> Path:
    """Return `<kind>/<fingerprint>`; raise ValueError for names that are none, which could lead out of the store."""
    if not _KIND.fullmatch(kind):
        raise ValueError(f"stage kind {kind!r} must be lower-case letters, digits, - and _, starting with a letter")
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise ValueError(f"fingerprint {fingerprint!r} of stage {kind} must be 64 hexadecimal digits in lower case")
    return Path(kind, fingerprint)


def _completed(kind: str, fingerprint: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest with the store's own keys; raise if it has them already with other values, or is no JSON."""
    canonical(dict(manifest), "manifest")
    own = {"kind": kind, "fingerprint": fingerprint}
    for key in _OWN_KEYS:
        if key in manifest and manifest[key] != own.get(key):
            raise ValueError(f"manifest.{key} is {manifest[key]!r:.80}; the store writes this key: leave it out")
    return {**own, **manifest}


def _seal(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Make everything in `folder` readable and durable, then write its manifest, with all digests, as the last file."""
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "there is no folder to publish", str(folder))
    if (folder / MANIFEST).exists():
        raise ValueError(f"{folder} already holds {MANIFEST}; the store writes this file: give it another name")
    readable = _readable_bits(folder)
    folders = [folder, *sorted(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())]
    files = {}
    for path in sorted(_files(folder)):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            raise ValueError(f"{path} is a link or a special file; an artifact holds plain files only: copy it")
        path.chmod(stat.S_IMODE(mode) | readable)
        files[path.relative_to(folder).as_posix()] = {"sha256": file_digest(path), "bytes": path.stat().st_size}
        _sync(path)
    for path in folders:
        path.chmod(stat.S_IMODE(path.stat().st_mode) | readable | readable >> 2)  # r-- and --x of the same people
    manifest_path = folder / MANIFEST
    manifest_path.write_text(json.dumps({**manifest, "files": files}, indent=2) + "\n", encoding="utf-8")
    _sync(manifest_path)
    for path in folders:
        _sync(path)


def _files(folder: Path) -> Iterator[Path]:
    """Iterate over everything below `folder` that is not a folder; links are not followed."""
    return (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _readable_bits(folder: Path) -> int:
    """Return which of r--r--r-- the umask leaves a new file.

    Read from a new file because asking `os.umask` means changing it for all threads for a moment.
    """
    probe = folder / ".permissions"
    probe.touch(exist_ok=False)
    try:
        return stat.S_IMODE(probe.stat().st_mode) & 0o444
    finally:
        probe.unlink()


def _sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync folders and say so with EINVAL; their names are durable by themselves.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(descriptor)
