"""Which artifacts a person means."""

from collections.abc import Iterable

from salsa.store.artifact import Artifact

SHOWN = 10
"""Of the artifacts that could be meant, so many are named."""
SHORT = 16
"""Digits of a fingerprint that are shown: as many as `experiments/` uses."""


class SelectionError(ValueError):
    """A beginning of a fingerprint that names no artifact, or several; the message lists those that could be meant."""


def select(artifacts: Iterable[Artifact], prefix: str) -> Artifact:
    """Return the one artifact whose fingerprint begins with `prefix`; raise `SelectionError` if there is not one."""
    known = list(artifacts)
    found = [artifact for artifact in known if prefix and artifact.fingerprint.startswith(prefix.lower())]
    if len(found) == 1:
        return found[0]
    if found:
        raise SelectionError(
            f"{prefix} is the beginning of {len(found)} fingerprints; give more of it:{_listed(found)}"
        )
    named = sorted(
        (artifact for artifact in known if prefix and prefix.lower() in title(artifact).lower()),
        key=lambda artifact: prefix.lower() not in (artifact.kind, title(artifact).lower()),
    )
    hint = f" These are named so:{_listed(named)}" if named else ""
    raise SelectionError(
        f"no artifact's fingerprint begins with {prefix!r}; `salsa store list` shows what there is.{hint}"
    )


def described(artifact: Artifact) -> str:
    """Return kind, name and the beginning of the fingerprint, also of an artifact with a broken manifest."""
    return f"{title(artifact)} {artifact.fingerprint[:SHORT]}"


def title(artifact: Artifact) -> str:
    """Return an artifact's name with its kind, once where the name begins with it."""
    try:
        name = str(artifact.manifest.get("name", artifact.kind))
    except (OSError, ValueError):
        name = "(its manifest is unreadable)"
    return name if name.startswith(artifact.kind) else f"{artifact.kind} {name}"


def _listed(artifacts: list[Artifact]) -> str:
    lines = [f"\n  {described(artifact)}" for artifact in artifacts[:SHOWN]]
    if len(artifacts) > SHOWN:
        lines.append(f"\n  and {len(artifacts) - SHOWN} more")
    return "".join(lines)
