"""Where a result lies and what it was made from, as Weights & Biases shows it: references to files, never the files."""

import logging
from collections.abc import Iterable
from typing import Any

from salsa.store.artifact import Artifact
from salsa.store.manifest import MANIFEST

ID_CHARACTERS = 32
"""Of a fingerprint's 64, for names, which have a limit; the alias of an artifact is the whole fingerprint."""

LOG = logging.getLogger(__name__)


def record(run: Any, result: Artifact, inputs: Iterable[Artifact]) -> None:
    """Tell the server of an online run what it read and what it made.

    The work is done and stored by now, so whatever goes wrong here is a warning. The server keeps the path and the
    digest of each file; weights are neither uploaded nor copied.
    """
    import wandb

    _use(run, inputs)
    try:
        reference = wandb.Artifact(
            name(result), result.kind, metadata={"fingerprint": result.fingerprint, "digest": result.manifest["digest"]}
        )
        for file in (*result.manifest["files"], MANIFEST):
            reference.add_reference(result.file(file).as_uri(), name=file)
        run.log_artifact(reference, aliases=[result.fingerprint])
    except Exception as error:  # the client's errors have no common class
        LOG.warning("W&B was not told of %s: %s: %s", name(result), type(error).__name__, error)


def name(artifact: Artifact) -> str:
    """Return what W&B calls an artifact of the store."""
    return f"{artifact.kind}-{artifact.fingerprint[:ID_CHARACTERS]}"


def _use(run: Any, inputs: Iterable[Artifact]) -> None:
    for artifact in {each.fingerprint: each for each in inputs}.values():
        try:
            run.use_artifact(f"{name(artifact)}:{artifact.fingerprint}", type=artifact.kind)
        except ValueError as error:
            # Its stage ran offline, without a tracker, or for another project.
            LOG.info("W&B does not know the input %s: %s", name(artifact), error)
        except Exception as error:  # the client's errors have no common class
            # Each further question would wait for the same server.
            LOG.warning("W&B was not asked for further inputs, %s: %s", type(error).__name__, error)
            return
