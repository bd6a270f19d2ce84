"""The graph of artifacts: what each was made from, and what was made from it."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from salsa.store.artifact import Artifact
from salsa.store.manifest import ManifestError


class Lineage:
    """A store's artifacts by fingerprint, with the edges that their manifests name; each manifest is read once.

    Inputs may be missing from the store. What an artifact with an unreadable manifest was made from is unknown. Of
    those that are not in the store because they were set aside (`broken`), what they were made from is needed by what
    was made from them: they are to be computed again.
    """

    def __init__(self, artifacts: Iterable[Artifact], broken: Iterable[Artifact] = ()) -> None:
        self.artifacts: dict[str, Artifact] = {}
        self.unreadable: dict[str, str] = {}
        """Why the manifests of some artifacts cannot be read, by fingerprint."""
        self._inputs: dict[str, dict[str, str]] = {}
        self._dependents: dict[str, list[str]] = {}
        self._families: dict[str, str | None] = {}
        for artifact in artifacts:
            try:
                self._add(artifact, _inputs(artifact.manifest))
            except FileNotFoundError:
                continue  # removed or set aside since it was listed
            except ManifestError as error:
                self.unreadable[artifact.fingerprint] = str(error)
                self._add(artifact, {})
        for artifact in broken:
            if artifact.fingerprint not in self.artifacts:
                with suppress(FileNotFoundError, ManifestError):
                    self._inputs[artifact.fingerprint] = _inputs(artifact.manifest)

    def _add(self, artifact: Artifact, inputs: dict[str, str]) -> None:
        self.artifacts[artifact.fingerprint] = artifact
        self._inputs[artifact.fingerprint] = inputs
        for identity in dict.fromkeys(inputs.values()):
            self._dependents.setdefault(identity, []).append(artifact.fingerprint)

    def inputs(self, fingerprint: str) -> Mapping[str, str]:
        """Return the fingerprints of what an artifact was made from, by role, whether they are in the store or not."""
        return self._inputs[fingerprint]

    def dependents(self, fingerprint: str) -> list[str]:
        """Return the artifacts in the store of which this one is an input."""
        return self._dependents.get(fingerprint, [])

    def needed(self, roots: Iterable[str]) -> set[str]:
        """Return the roots, and everything in the store that they were made from, however far back."""
        return self._reached(roots, lambda identity: self._inputs[identity].values())

    def affected(self, fingerprints: Iterable[str]) -> set[str]:
        """Return these artifacts and everything in the store that was made from them, however far on."""
        return self._reached(fingerprints, self.dependents)

    def _reached(self, starts: Iterable[str], neighbours: Any) -> set[str]:
        found: set[str] = set()
        left = [identity for identity in starts if identity in self._inputs]
        while left:
            identity = left.pop()
            if identity not in found:
                found.add(identity)
                left += [other for other in neighbours(identity) if other in self._inputs]
        return found & self.artifacts.keys()

    def dependents_first(self, fingerprints: Iterable[str]) -> list[Artifact]:
        """Return these artifacts so that each comes before its inputs: removed in this order, none ever lacks one."""
        chosen = {identity for identity in fingerprints if identity in self.artifacts}
        ordered: list[Artifact] = []
        entered: set[str] = set()
        left = [(identity, False) for identity in sorted(chosen, reverse=True)]
        while left:
            identity, expanded = left.pop()
            if expanded:
                ordered.append(self.artifacts[identity])
            elif identity not in entered:
                entered.add(identity)
                left.append((identity, True))
                left += [(other, False) for other in self.dependents(identity) if other in chosen]
        return ordered

    def family(self, fingerprint: str) -> str | None:
        """Return the model family that an artifact's configuration names, or the nearest one that it was made from."""
        level, seen = [fingerprint], {fingerprint}
        while level:
            for identity in level:
                if (family := self._own_family(identity)) is not None:
                    return family
            above = (other for identity in level for other in self._inputs[identity].values())
            level = [other for other in dict.fromkeys(above) if other in self._inputs and other not in seen]
            seen.update(level)
        return None

    def _own_family(self, fingerprint: str) -> str | None:
        if fingerprint in self.unreadable or fingerprint not in self.artifacts:
            return None
        config = self.artifacts[fingerprint].manifest.get("config")
        architecture = config.get("architecture") if isinstance(config, dict) else None
        named = architecture.get("family") if isinstance(architecture, dict) else None
        named = named or (config.get("model") if isinstance(config, dict) else None)
        return named if isinstance(named, str) else None


def _inputs(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the manifest's inputs; none if it names none. Raises `ManifestError` if they are no mapping of strings."""
    inputs = manifest.get("inputs", {})
    if not isinstance(inputs, dict) or not all(isinstance(identity, str) for identity in inputs.values()):
        raise ManifestError(f"the inputs of {manifest.get('kind')} {manifest.get('fingerprint')} are {inputs!r:.80}")
    return inputs
