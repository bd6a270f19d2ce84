"""Results that are there completely or not at all, shared by processes that know nothing of each other.

Under the store's root:

    store/<kind>/<fingerprint>/        published artifacts; immutable, complete if and only if manifest.json is there
    unfinished/<kind>/<fingerprint>/   checkpoints of work in progress, and attempts.jsonl, the journal of its starts;
                                       survive a kill, removed at publication
    temporary/<kind>-<fingerprint>-<host>-<pid>-<random>/    an artifact while it is written
    locks/<kind>-<fingerprint>.lock    who works on a stage (see `salsa.store.lock`)
    failures/<kind>/<fingerprint>.json the last failure of a stage; a note, never a cached result
    broken/<kind>-<fingerprint>-<n>/   a damaged artifact that was set aside, with a note of the reason beside it
    format.json                        the format of all this (see `salsa.store.format`)

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
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from salsa.store import format as store_format
from salsa.store import journal, leftovers
from salsa.store.durability import replace_text, sync
from salsa.store.lock import this_process
from salsa.store.manifest import MANIFEST, completed, read
from salsa.store.sealing import files_below, seal
from salsa.store.verification import Advance, damaged_files

ATTEMPTS = "attempts.jsonl"
_KIND = re.compile(r"[a-z][a-z0-9_-]*")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_ASIDE = re.compile(r"(?P<kind>[a-z][a-z0-9_-]*)-(?P<fingerprint>[0-9a-f]{64})-(?P<n>[0-9]+)")
_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR})
"""What a rename says where its target is there already."""


@dataclass(frozen=True)
class Artifact:
    """A published result: the folder `path` with its manifest. Equal if kind, fingerprint and path are."""

    kind: str
    fingerprint: str
    path: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What `Store.publish` was given, with `kind`, `fingerprint`, `files` (name: sha256, bytes) and `digest`.

        Read once. Raises FileNotFoundError if the artifact is gone, `ManifestError` if the manifest is broken.
        """
        return read(self.path)

    @property
    def metrics(self) -> dict[str, Any]:
        """The manifest's `metrics`; empty if the stage recorded none."""
        return self.manifest.get("metrics", {})

    @property
    def published(self) -> float:
        """When it was published, in seconds since 1970: as its maker noted, else when its manifest was written."""
        started, seconds = self.manifest.get("started"), self.manifest.get("seconds")
        if isinstance(started, int | float) and isinstance(seconds, int | float):
            return float(started + seconds)
        return (self.path / MANIFEST).stat().st_mtime

    def file(self, name: str) -> Path:
        """Return the path of one of its files; raises FileNotFoundError that lists the files there are."""
        path = self.path / name
        if not path.is_file():
            there = ", ".join(sorted(str(other.relative_to(self.path)) for other in files_below(self.path))) or "none"
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

    def verify(self, advance: Advance | None = None) -> list[str]:
        """Return the names of files that are missing or whose bytes are no longer those that were published.

        `manifest.json` alone is returned where it is unreadable or has changed: the others cannot be judged without it.
        Everything is read anew. `advance` is told how many more bytes are done; they add up to the sizes in the
        manifest. Raises OSError only where the files cannot be judged, for lack of a permission, say.
        """
        return damaged_files(self.path, self.kind, self.fingerprint, advance)


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
        return (artifact for artifact in self._places(kind) if (artifact.path / MANIFEST).is_file())

    def headless(self, kind: str | None = None) -> Iterator[Artifact]:
        """Iterate over what stands in an artifact's place without a manifest: artifacts that have lost it."""
        return (artifact for artifact in self._places(kind) if not (artifact.path / MANIFEST).is_file())

    def _places(self, kind: str | None) -> Iterator[Artifact]:
        for folder in sorted((self.root / "store").glob("*/*")):
            name, fingerprint = folder.parent.name, folder.name
            if kind in (None, name) and _KIND.fullmatch(name) and _FINGERPRINT.fullmatch(fingerprint):
                yield Artifact(name, fingerprint, folder)

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
        folder = self._temporary_path(kind, fingerprint)
        folder.mkdir(parents=True)
        return folder

    def publish(self, kind: str, fingerprint: str, folder: Path, manifest: Mapping[str, Any]) -> Artifact:
        """Make `folder` (from `temporary`) the artifact, durably and in one step, and return it.

        The manifest gets `kind`, `fingerprint` and the size in bytes and SHA-256 of each file. Files become readable
        for whom the umask allows (safetensors writes for the owner only). If the artifact exists already, because
        another process was faster, that one is returned and `folder` is removed; nothing is ever replaced. Something
        without a manifest in the artifact's place is set aside.
        Checkpoints and the failure note of the stage are removed.

        Raises TypeError or ValueError if the manifest has no canonical JSON (NaN, NumPy numbers, ...) or the folder
        holds what an artifact may not, and OSError if the folder is on another file system; `folder` then stays.
        """
        target = self.root / "store" / _checked(kind, fingerprint)
        complete = completed(kind, fingerprint, manifest)
        if self.find(kind, fingerprint) is None:
            seal(folder, complete)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._rename(folder, target)
        published = self.find(kind, fingerprint)
        if published is None:  # a folder whose manifest was lost, say, would otherwise cost the work that is done
            self.set_aside(kind, fingerprint, f"it had no {MANIFEST} when the artifact was to be published")
            self._rename(folder, target)
            published = self.find(kind, fingerprint)
        if published is None:
            raise FileExistsError(
                errno.EEXIST, f"the place of artifact {kind} {fingerprint} is taken again", str(target)
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
            if error.errno in _TAKEN:
                return
            if error.errno == errno.EXDEV:
                raise OSError(
                    error.errno,
                    f"an artifact must be written on the file system of its store, {self.root}; use Store.temporary",
                    str(folder),
                ) from error
            raise
        for parent in (target.parent, target.parent.parent, self.root):
            sync(parent)  # also the parents of folders that this publication may have made

    def set_aside(self, kind: str, fingerprint: str, reason: str) -> Path | None:
        """Move a broken artifact out of the store by one rename, so that it is computed again; nothing is deleted.

        Returns where it is now, `broken/<kind>-<fingerprint>-<n>`, beside which a note `....json` says why and when; or
        None if there was nothing, because another process was faster. The caller holds the stage's lock.
        """
        source, broken = self.root / "store" / _checked(kind, fingerprint), self.root / "broken"
        broken.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            target = broken / f"{kind}-{fingerprint}-{number}"
            try:
                if not os.path.lexists(target):
                    source.rename(target)
                    break
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno not in _TAKEN:  # taken: by another process, since the look
                    raise
            number += 1
        sync(source.parent)
        sync(broken)
        note = {**this_process(), "time": time.time(), "kind": kind, "fingerprint": fingerprint, "reason": reason}
        replace_text(target.with_name(f"{target.name}.json"), json.dumps(note, indent=2) + "\n")
        return target

    def broken(self) -> Iterator[Artifact]:
        """Iterate over what was set aside, by kind and fingerprint, the latest of an artifact last."""
        found = []
        for path in (self.root / "broken").glob("*"):
            name = _ASIDE.fullmatch(path.name)
            if name is not None and path.is_dir():
                found.append((name["kind"], name["fingerprint"], int(name["n"]), path))
        for kind, fingerprint, _, path in sorted(found):
            yield Artifact(kind, fingerprint, path)

    def record_attempt(self, kind: str, fingerprint: str, details: Mapping[str, Any]) -> int:
        """Note durably that the stage is being started, and return how often it was since its last publication.

        `host`, `pid` and `time` (seconds since 1970) are added to `details` unless they are there. The caller holds the
        stage's lock. A stage that kills its process, for lack of memory, say, leaves no other trace.
        """
        path = self.unfinished(kind, fingerprint) / ATTEMPTS
        return journal.append(path, {**this_process(), "time": time.time(), **details})

    def attempts(self, kind: str, fingerprint: str) -> list[dict[str, Any]]:
        """Return what `record_attempt` noted, oldest first; a note that a kill tore is left out."""
        return journal.read(self.root / "unfinished" / _checked(kind, fingerprint) / ATTEMPTS)

    def check_format(self) -> None:
        """Write down the store's format if nothing does yet, making its root.

        Raises `salsa.store.format.StoreFormatError` if a newer version of salsa wrote it or the file is unreadable.
        """
        if not store_format.check(self.root):
            store_format.state(self.root)

    def record_failure(self, kind: str, fingerprint: str, details: Mapping[str, Any]) -> Path:
        """Note that the stage failed, for people and reports, and return the note's path.

        `host`, `pid` and `time` (seconds since 1970) are added to `details` unless they are there. The note is not a
        result: the store itself never keeps a failed stage from being tried again.
        """
        path = self._failure_path(kind, fingerprint)
        # Whatever the details hold is written as text at worst: a failure to note a failure would hide the first one.
        note = {**this_process(), "time": time.time(), **details}
        replace_text(path, json.dumps(note, indent=2, default=str) + "\n")
        return path

    def failure(self, kind: str, fingerprint: str) -> dict[str, Any] | None:
        """Return the note of the stage's last failure, or None if it has not failed since its last success.

        A note that cannot be read is one that says so: nothing depends on what it says.
        """
        path = self._failure_path(kind, fingerprint)
        try:
            note = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            return {"error": f"unknown, because the note of it, {path}, cannot be read: {error}"}
        return note if isinstance(note, dict) else {"error": f"unknown, because {path} is no note"}

    def remove(self, kind: str, fingerprint: str) -> bool:
        """Delete an artifact and return whether there was one. The caller holds the stage's lock.

        It leaves the store whole, by one rename; what a kill then leaves of it is removed by `clean_temporary`.
        """
        source, bin_ = self.root / "store" / _checked(kind, fingerprint), self._temporary_path(kind, fingerprint)
        bin_.parent.mkdir(parents=True, exist_ok=True)
        try:
            source.rename(bin_)
        except FileNotFoundError:
            return False
        sync(source.parent)
        shutil.rmtree(bin_)
        return True

    def clean_temporary(self) -> list[Path]:
        """Remove and return what killed processes left behind (see `salsa.store.leftovers`)."""
        return [leftover.path for leftover in leftovers.sweep(self)]

    def _temporary_path(self, kind: str, fingerprint: str) -> Path:
        process = this_process()
        name = f"{kind}-{fingerprint}-{process['host']}-{process['pid']}-{os.urandom(4).hex()}"
        return self.root / "temporary" / name

    def _failure_path(self, kind: str, fingerprint: str) -> Path:
        return self.root / "failures" / _checked(kind, fingerprint).with_suffix(".json")


def _checked(kind: str, fingerprint: str) -> Path:
    """Return `<kind>/<fingerprint>`; raise ValueError for names that are none, which could lead out of the store."""
    if not _KIND.fullmatch(kind):
        raise ValueError(f"stage kind {kind!r} must be lower-case letters, digits, - and _, starting with a letter")
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise ValueError(f"fingerprint {fingerprint!r} of stage {kind} must be 64 hexadecimal digits in lower case")
    return Path(kind, fingerprint)
