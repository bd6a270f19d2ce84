"""Looking for damage in a store, and setting aside what is damaged."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from salsa.store.artifact import Artifact, Store
from salsa.store.lock import StageLock
from salsa.store.manifest import ManifestError
from salsa.store.verification import Advance, extra_files


@dataclass(frozen=True)
class Finding:
    """What is wrong with an artifact: damaged or missing files, or why they cannot be judged."""

    artifact: Artifact
    damaged: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    """Files that were not published with it; they do no harm to what was."""
    unjudged: str | None = None


def inspected(store: Store, artifacts: Iterable[Artifact], advance: Advance | None = None) -> Iterator[Finding]:
    """Iterate over the findings of artifacts, those that are whole included; what is removed meanwhile is left out."""
    for artifact in artifacts:
        try:
            damaged = tuple(artifact.verify(advance))
            extra = tuple(extra_files(artifact.path)) if not damaged else ()
        except (FileNotFoundError, ManifestError):
            damaged, extra = (), ()  # changed since it was verified: somebody sets it aside or removes it
        except OSError as error:
            yield Finding(artifact, unjudged=f"{error.filename or artifact.path}: {error.strerror or error}")
            continue
        if artifact.path.is_dir():
            yield Finding(artifact, damaged, extra)


def set_aside(store: Store, artifact: Artifact, damaged: Iterable[str]) -> Path | None:
    """Set a damaged artifact aside under its stage's lock and return its new place.

    None if it is whole or gone by now, because another process was faster. Raises BlockingIOError if somebody works on
    the stage.
    """
    lock = StageLock(store.lock_path(artifact.kind, artifact.fingerprint))
    if not lock.try_acquire():
        raise BlockingIOError(f"{artifact.path} is being worked on; verify it again later")
    with lock:
        if not artifact.path.is_dir() or not artifact.verify():
            return None
        return store.set_aside(artifact.kind, artifact.fingerprint, f"damaged: {', '.join(damaged)}")
