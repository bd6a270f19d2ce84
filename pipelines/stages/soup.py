"""Stage `soup`: the weighted average of the SFT models, tensor by tensor, and how far apart they were."""

from pathlib import Path
from typing import Any

from pipelines.adapters import base_from
from pipelines.work import Work
from salsa.models.source import is_adapter
from salsa.soup.adapters import adapter_vectors, average_adapters
from salsa.soup.average import SoupError, average, task_vectors


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave the soup's model folder; of adapters, the adapter that is their exact soup.

    Raises SoupError where two ingredients are the same model.
    """
    weights = work.config["weights"]
    folders = [work.inputs[f"ingredient_{index}"].path for index in range(1, len(weights) + 1)]
    metrics = _geometry(work.inputs["base"].path, folders)
    if is_adapter(folders[0]):
        average_adapters(folders, weights, work.folder, base_from(work))
    else:
        average(folders, weights, work.folder)
    says = " + ".join(f"{weight:g} SFT{index}" for index, weight in enumerate(weights, start=1))
    says += f"; distance {metrics['distance']:.3g}"
    if metrics["norms"] is not None:
        says += f", of the base {' and '.join(f'{norm:.3g}' for norm in metrics['norms'])}"
    if metrics["cosine"] is not None:
        says += f", cosine of the task vectors {metrics['cosine']:.2f}"
    return says, {"weights": list(weights)} | metrics


def _geometry(base: Path, folders: list[Path]) -> dict[str, Any]:
    """Return the least distance of two ingredients, and norms and cosine (of the first two) of their task vectors.

    Norms and cosine are None where the base's tensors are not the ingredients', as with published weights that store
    tied tensors twice; the cosine is None, too, where an ingredient is the base itself.
    """
    norms = cosine = None
    try:
        measured = adapter_vectors(folders) if is_adapter(folders[0]) else task_vectors(base, folders)
        norms, cosine = list(measured.norms), measured.cosines[0][1]
    except SoupError:
        if is_adapter(folders[0]):
            raise
        measured = task_vectors(folders[0], folders)
    pairs = [(first, second) for second in range(len(folders)) for first in range(second)]
    first, second = min(pairs, key=lambda pair: measured.distances[pair[0]][pair[1]])
    distance = measured.distances[first][second]
    if distance == 0:
        raise SoupError(
            f"SFT{first + 1} and SFT{second + 1} are the same model, and a soup of them is that model again; what "
            "tells them apart is the order of the demonstrations: give more of them (sft.demonstrations), more steps "
            "(sft.steps), or a higher learning rate (sft.optimiser.learning_rate)"
        )
    return {"distance": distance, "norms": norms, "cosine": cosine}
